"""Every policy family on every backbone that it has: one training step and one sample, in JAX.

Sizes are those of a Push-T clone: 20 observations, chunks of 16 x 2, batch 256; transformer width 128, depth 2; U-Net
channels 32, 64. A training step is loss, gradient and AdamW; a sample draws w and transports it, for 1 and for
64 observations. Each subject is timed in turn with the flow policy on the MLP, to which its ratios refer.

The energy of `ibc` is evaluated some nine hundred times per example and step. Its step is timed on `FEWER`
examples and given for 256, as if it were taken 32 times.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import host
from benchmarks.kept import Kept
from benchmarks.timing import Contender, interleave, repeated, summarise
from benchmarks.weights import random_like
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.types import Batch, PolicySpec, Variables
from mmbc_jax.report.summary import versions
from mmbc_jax.runs.epoch import Program, compile_program

SPEC = PolicySpec(obs_dim=20, action_dim=2, chunk_len=16)
BATCH = 256
FEWER = {"ibc": 8}  # examples in a training batch, a divisor of BATCH
REFERENCE = ("flow", "mlp")
SIZES = {"width": 128, "depth": 2, "heads": 4, "channels": (32, 64)}
SAMPLERS = {"diffusion": ("ddim", 10), "mixture_flow": ("heun", 4)}
BACKBONES = ("mlp", "transformer", "unet")
WORKS = {"train": BATCH, "sample 1": 1, "sample 64": 64}
SCANNED = 5  # training steps in a program on the MLP, where calling it would count; elsewhere one
ROUNDS, FEWEST_ROUNDS, CASE_SECONDS = 15, 5, 1.0
_BLOCK_SECONDS = 0.05


Programs = tuple[dict[str, tuple[Program, Any, float]], int]


def subjects() -> list[tuple[str, str]]:
    """(policy, backbone) of every plug-in in the package, the reference first."""
    found = [REFERENCE]
    for name in registry.available("policy"):
        has = "backbone" in plugin("policy", name)
        found += [(name, backbone) for backbone in (BACKBONES if has else ("own",))]
    return list(dict.fromkeys(found))


def label(subject: tuple[str, str]) -> str:
    """As shown."""
    return " / ".join(subject)


def make(name: str, backbone: str) -> tuple[Any, dict[str, Any]]:
    """The policy at benchmark size, and its traced scalars."""
    cfg = plugin("policy", name, **SIZES, fourier_octaves=0)
    if backbone != "own":
        cfg.backbone = backbone
    sampler, steps = SAMPLERS.get(name, ("euler", 10))
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=SPEC)
    integrator = registry.build("sampler", plugin("sampler", sampler, steps=steps))
    policy = registry.build("policy", cfg, SPEC, prior=prior, sampler=integrator)
    hp = {field: jnp.asarray(cfg[field]) for field in registry.find("policy", name).hparams}
    return policy, hp


def random_batch(size: int) -> Batch:
    """Uniform observations and chunks, all recorded."""
    rng = np.random.default_rng(0)
    draw = functools.partial(rng.uniform, -1.0, 1.0)
    obs, chunk = (jnp.asarray(draw((size, *s)), jnp.float32) for s in ((SPEC.obs_dim,), SPEC.chunk_shape))
    return Batch(obs, chunk, jnp.ones((size, SPEC.chunk_len)))


def training(policy: Any, hp: dict[str, Any], variables: Variables, batch: Batch, steps: int) -> Any:
    """(function of (carry, keys) that takes `steps` training steps, its arguments)."""
    optimiser = optax.adamw(1e-4)

    def step(carry: Any, key: Any) -> tuple[Any, None]:
        params, stats, state = carry

        def objective(p: Any) -> Any:
            loss = policy.loss(variables.replace(params=p, stats=stats), key, batch, hp)
            return loss.total(), loss.stats

        grads, stats = jax.grad(objective, has_aux=True)(params)
        updates, state = optimiser.update(grads, state, params)
        return (optax.apply_updates(params, updates), stats, state), None

    moments = jax.tree.map(jnp.zeros_like, jax.eval_shape(optimiser.init, variables.params))
    carry = (variables.params, variables.stats, moments)
    keys = jax.random.split(jax.random.key(1), steps)
    return (lambda carry, keys: jax.lax.scan(step, carry, keys)[0]), (carry, keys)


def programs(name: str, backbone: str) -> Programs:
    """({work: (compiled program, its arguments, units of work that it does)}, number of parameters).

    Parameters are random and statistics one: of the policy's own initialisation only the shapes are asked.
    """
    policy, hp = make(name, backbone)
    size = FEWER.get(name, BATCH)
    batch = random_batch(size)
    shapes = jax.eval_shape(policy.init, jax.random.key(0), batch)
    stats = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes.stats)
    variables = Variables(random_like(shapes.params), stats)

    def draw(variables: Variables, key: Any, where: Any) -> Any:
        w = policy.base_distribution(variables, where).sample(seed=key)
        return policy.transport(variables, where, w)

    steps = SCANNED if backbone == "mlp" and size == BATCH else 1
    train, arguments = training(policy, hp, variables, batch, steps)
    found = {"train": (compile_program(train, *arguments), arguments, steps * size / BATCH)}
    for work, count in list(WORKS.items())[1:]:
        arguments = (variables, jax.random.key(2), random_batch(count).obs)
        found[work] = (compile_program(draw, *arguments), arguments, 1.0)
    return found, sum(leaf.size for leaf in jax.tree.leaves(shapes.params))


def contender(name: str, program: Program, arguments: Any, units: float) -> tuple[Contender, float]:
    """(block that repeats a program where it is short, seconds of that block)."""

    def once() -> Any:
        return jax.block_until_ready(program(*arguments))

    leaves = jax.tree.leaves(once())
    if not all(np.isfinite(leaf).all() for leaf in leaves):
        raise FloatingPointError(f"{name}: a result is not finite")
    start = time.perf_counter()
    once()
    seconds = time.perf_counter() - start
    repeats = max(1, round(_BLOCK_SECONDS / seconds))
    return Contender(name, repeated(once, repeats), repeats * units), repeats * seconds


def measure_subject(subject: tuple[str, str], beside: Programs, quick: bool) -> dict[str, Any]:
    """{"facts", "cases"} of one subject, timed in turn with those of the reference, `beside`."""
    before, start = host.load_average(), time.process_time()
    found, size = beside if subject == REFERENCE else programs(*subject)
    cases, name, reference = [], label(subject), label(REFERENCE)
    for work in WORKS:
        chosen = {reference: beside[0][work], name: found[work]}
        blocks = [contender(key, *program) for key, program in chosen.items()]
        rounds = int(np.clip(CASE_SECONDS / sum(seconds for _, seconds in blocks), FEWEST_ROUNDS, ROUNDS))
        samples = interleave([block for block, _ in blocks], 2 if quick else rounds, warmup=0)
        cases.append({"subject": name, "work": work, **summarise(samples, reference)})
    facts = {
        "parameters": size,
        "train_batch": FEWER.get(subject[0], BATCH),
        "compile_seconds": {work: program.compile_seconds for work, (program, _, _) in found.items()},
        "processor_seconds": time.process_time() - start,
        "load_average": {"before": before, "after": host.load_average()},
    }
    return {"facts": facts, "cases": cases}


def measure(cores: int, quick: bool, kept: Path | None = None) -> dict[str, Any]:
    """The record: a case per subject and kind of work.

    Args:
      cores: already pinned.
      quick: few rounds of three subjects; checks that it runs.
      kept: file of the subjects that were measured before, which each new one is added to.

    Returns:
      The record; its load average is the highest of any subject, whichever process measured it.
    """
    identity = {"cores": cores, "quick": quick, "sizes": SIZES, "versions": versions()}
    done = Kept(kept, identity)
    chosen = subjects()[:3] if quick else subjects()
    missing = [subject for subject in chosen if label(subject) not in done.records]
    if missing:
        beside = programs(*REFERENCE)
        for subject in missing:
            done.add(label(subject), measure_subject(subject, beside, quick))
    records = [done.records[label(subject)] for subject in chosen]
    facts = {label(subject): record["facts"] for subject, record in zip(chosen, records, strict=True)}
    load = [fact["load_average"] for fact in facts.values()]
    return {
        "cases": [case for record in records for case in record["cases"]],
        "facts": facts,
        "load_average": {when: max(entry[when] for entry in load) for when in ("before", "after")},
        "memory": host.memory(),
    }
