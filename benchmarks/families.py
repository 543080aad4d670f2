"""Every policy family on every backbone that it has: one training step and one sample, in JAX.

Sizes are those of a Push-T clone: 20 observations, chunks of 16 x 2, batch 256; transformer width 128, depth 2; U-Net
channels 32, 64. A training step is loss, gradient and AdamW; a sample draws w and transports it, for 1 and for
64 observations. Ratios are to the flow policy on the MLP.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import host
from benchmarks.timing import Contender, interleave, summarise
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.types import Batch, PolicySpec

SPEC = PolicySpec(obs_dim=20, action_dim=2, chunk_len=16)
BATCH, STEPS = 256, 5
OURS = "flow / mlp"
SIZES = {"width": 128, "depth": 2, "heads": 4, "channels": (32, 64)}
SAMPLERS = {"diffusion": ("ddim", 10), "mixture_flow": ("heun", 4)}


def subjects() -> list[tuple[str, str]]:
    """(policy, backbone) of every plug-in in the package."""
    found = []
    for name in registry.available("policy"):
        has = "backbone" in plugin("policy", name)
        found += [(name, backbone) for backbone in (("mlp", "transformer", "unet") if has else ("own",))]
    return found


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


def contenders(name: str, backbone: str) -> tuple[dict[str, Contender], dict[str, float]]:
    """{"train", "sample 1", "sample 64"} blocks of one subject, and facts about it."""
    policy, hp = make(name, backbone)
    rng = np.random.default_rng(0)
    obs = jnp.asarray(rng.uniform(-1, 1, (BATCH, SPEC.obs_dim)), jnp.float32)
    chunk = jnp.asarray(rng.uniform(-1, 1, (BATCH, *SPEC.chunk_shape)), jnp.float32)
    batch = Batch(obs, chunk, jnp.ones((BATCH, SPEC.chunk_len)))
    variables = jax.jit(policy.init)(jax.random.key(0), batch)
    optimiser = optax.adamw(1e-4)

    def step(carry: Any, key: Any) -> tuple[Any, None]:
        params, stats, state = carry

        def objective(p: Any) -> Any:
            loss = policy.loss(variables.replace(params=p, stats=stats), key, batch, hp)
            return loss.total(), loss.stats

        grads, stats = jax.grad(objective, has_aux=True)(params)
        updates, state = optimiser.update(grads, state, params)
        return (optax.apply_updates(params, updates), stats, state), None

    start = time.perf_counter()
    carry = (variables.params, variables.stats, optimiser.init(variables.params))
    keys = jax.random.split(jax.random.key(1), STEPS)
    train = jax.jit(lambda c, k: jax.lax.scan(step, c, k)[0]).lower(carry, keys).compile()
    compile_seconds = time.perf_counter() - start

    def draw(key: Any, where: Any) -> Any:
        w = policy.base_distribution(variables, where).sample(seed=key)
        return policy.transport(variables, where, w)

    sample = jax.jit(draw)
    key = jax.random.key(2)
    label = f"{name} / {backbone}"
    blocks = {
        "train": Contender(label, lambda: jax.block_until_ready(train(carry, keys)), STEPS),
        "sample 1": Contender(label, lambda: sample(key, obs[:1]).block_until_ready(), 1),
        "sample 64": Contender(label, lambda: sample(key, obs[:64]).block_until_ready(), 1),
    }
    size = sum(leaf.size for leaf in jax.tree.leaves(variables.params))
    return blocks, {"parameters": float(size), "compile_seconds": compile_seconds}


def measure(cores: int, quick: bool) -> dict[str, Any]:
    """The record: a case per kind of work, with all subjects interleaved."""
    chosen = subjects()[:3] if quick else subjects()
    chosen = list(dict.fromkeys([("flow", "mlp"), *chosen]))
    built = {f"{name} / {backbone}": contenders(name, backbone) for name, backbone in chosen}
    cases = []
    for work in ("train", "sample 1", "sample 64"):
        samples = interleave([blocks[work] for blocks, _ in built.values()], 5 if quick else 20)
        cases.append({"work": work, **summarise(samples, OURS)})
    facts = {label: fact for label, (_, fact) in built.items()}
    return {"cases": cases, "facts": facts, "memory": host.memory()}
