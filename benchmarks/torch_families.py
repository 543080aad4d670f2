"""Policy families beside PyTorch at the sizes of published implementations: training step and sampling.

`benchmarks.mirrors.subjects` lists the sizes. Both sides have the same networks, losses, samplers and weights.

A training step is loss, gradient and AdamW on a batch that stays in memory; noise is drawn within the step. Ours is
one program that scans a few steps, its state donated. PyTorch updates by fused AdamW, once with the loss as it comes
and once compiled: by block where blocks repeat, and at batch 64 only, because compiling takes up to a minute. A
sample goes from observations in host memory to a chunk in host memory. Of the VQ policy PyTorch leaves out the first
placement of the codes by k-means, which is no part of a step; running averages and the move of dead codes are in the
step on both sides.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

from benchmarks import host
from benchmarks.mirrors.contenders import our_sampler, our_steps, their_sampler, their_steps
from benchmarks.mirrors.networks import copy_weights
from benchmarks.mirrors.subjects import (
    SUBJECTS,
    Built,
    Subject,
    build,
    sampling_noise,
    tensors,
    training_noise,
    tree,
)
from benchmarks.timing import Contender, interleave, repeated, summarise
from mmbc_jax.core.types import Array

OURS = "mmbc_jax"
TRAIN_BATCHES, SAMPLE_BATCHES = (64, 256), (1, 64)
COMPILE_BATCH = 64  # the only one that PyTorch compiles for: the blocks of a U-Net take a minute
ROUNDS, CASE_SECONDS = 15, 5.0  # rounds of a case, fewer where they take longer in all, but at least 5
_BLOCK_SECONDS = 0.15


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
      work: "train" or "sample".
      batch_size: B.
      sampler: (name, steps); no part in training.
    """

    work: str
    batch_size: int
    sampler: tuple[str, int]


def agreement(subject: Subject, batch_size: int = 16) -> dict[str, float]:
    """How far the two implementations are apart on the same weights, batch and noise.

    Returns:
      "loss": difference relative to the loss; "gradient": root mean square difference relative to that of the
      gradient; "chunk": largest difference of sampled chunks, the largest over the samplers; "codes", where there
      are any: largest difference of the codebooks after the step, relative to the largest code.
    """
    built, key = build(subject, batch_size), jax.random.key(3)
    hp = {name: jax.numpy.asarray(value) for name, value in built.hp.items()}

    def objective(params: Any) -> tuple[Array, Any]:
        variables = built.variables.replace(params=params)
        loss = built.policy.loss(variables, key, built.batch, hp)
        return loss.total(), loss.stats

    (loss, stats), grads = jax.jit(jax.value_and_grad(objective, has_aux=True))(built.variables.params)
    module, mirrored = built.mirror(), built.mirror()
    theirs = module(*tensors(built.batch), *training_noise(built, key))
    theirs.backward()
    copy_weights(tree(built.policy, grads), mirrored)
    pairs = list(zip(mirrored.parameters(), module.parameters(), strict=True))
    difference = torch.cat([(a.detach() - b.grad).flatten() for a, b in pairs]).norm()
    found = {
        "loss": abs(float(loss) - theirs.item()) / abs(theirs.item()),
        "gradient": float(difference / torch.cat([b.grad.flatten() for _, b in pairs]).norm()),
        "chunk": max(_chunk_difference(build(subject, batch_size, s)) for s in subject.samplers),
    }
    if "codebook" in stats:
        codes = np.asarray(stats["codebook"].codes)
        found["codes"] = float(np.abs(codes - module.codes.numpy()).max() / np.abs(codes).max())
    return found


def _chunk_difference(built: Built) -> float:
    """Largest absolute difference of sampled chunks on the same noise."""
    obs, key = built.batch.obs, jax.random.key(4)

    @jax.jit
    def draw(obs: Array) -> tuple[Any, Array]:
        w = built.policy.base_distribution(built.variables, obs).sample(seed=key)
        return w, built.policy.transport(built.variables, obs, w)

    w, ours = draw(obs)
    with torch.no_grad():
        theirs = built.mirror().sample(torch.tensor(np.asarray(obs)), *sampling_noise(built, w))
    return float(np.abs(np.asarray(ours) - theirs.numpy()).max())


def makers(subject: Subject, case: Case) -> tuple[dict[str, Callable[[], Any]], int]:
    """(functions that build each contender's block, units of work in a block)."""
    built = build(subject, case.batch_size, case.sampler)
    if case.work == "train":
        # several steps in one program, as in training: XLA allocates its scratch memory anew for every call
        steps = subject.steps
        found = {
            OURS: lambda: our_steps(built, steps),
            "torch eager": lambda: their_steps(built, steps, compiled=False),
        }
        if case.batch_size == COMPILE_BATCH:
            found["torch compile"] = lambda: their_steps(built, steps, compiled=True)
        return found, steps
    obs = np.array(built.batch.obs)  # a copy that PyTorch may share

    def call(sample: Callable[[np.ndarray], np.ndarray]) -> Callable[[], Any]:
        if not np.isfinite(sample(obs)).all():
            raise FloatingPointError("a sampled chunk is not finite")
        return lambda: sample(obs)

    return {
        OURS: lambda: call(our_sampler(built)),
        "torch eager": lambda: call(their_sampler(built, case.batch_size, trace=False)),
        "torch trace": lambda: call(their_sampler(built, case.batch_size, trace=True)),
    }, 1


def measure_case(subject: Subject, case: Case, quick: bool) -> dict[str, Any]:
    """Times one kind of work at one batch size on the pinned cores; unit: one training step or one call."""
    contenders, first, left_out, round_seconds = [], {}, {}, 0.0
    found, units = makers(subject, case)
    if case.work == "train" and case.batch_size != COMPILE_BATCH:
        left_out["torch compile"] = f"compiled at batch {COMPILE_BATCH} only, which takes up to a minute"
    for name, make in found.items():
        start = time.perf_counter()
        try:
            block = make()
            block()
        except Exception as error:  # torch.compile needs a C++ compiler; its errors share no base class
            if name == OURS:
                raise
            left_out[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
            continue
        middle = time.perf_counter()
        first[name] = middle - start
        block()
        block_seconds = time.perf_counter() - middle
        repeats = max(1, round(_BLOCK_SECONDS / block_seconds))
        contenders.append(Contender(name, repeated(block, repeats), repeats * units))
        round_seconds += repeats * block_seconds
    rounds = 3 if quick else int(np.clip(CASE_SECONDS / round_seconds, 5, ROUNDS))
    timed = summarise(interleave(contenders, rounds), OURS)
    torch.compiler.reset()
    jax.clear_caches()
    return {
        "subject": subject.label,
        "work": case.work,
        "sampler": " ".join(str(part) for part in case.sampler) if case.work == "sample" else "",
        "batch_size": case.batch_size,
        **timed,
        "first_block_seconds": first,
        "left_out": left_out,
    }


def cases_of(subject: Subject) -> list[Case]:
    """Training at every batch size, then every sampler at every batch size."""
    train = [Case("train", size, subject.samplers[0]) for size in TRAIN_BATCHES]
    return train + [Case("sample", size, s) for s in subject.samplers for size in SAMPLE_BATCHES]


def measure(cores: int, quick: bool) -> dict[str, Any]:
    """Everything on the pinned cores.

    Args:
      cores: already pinned.
      quick: few rounds of the flow policy only; checks that it runs, says little about speed.

    Returns:
      The record.
    """
    torch.set_num_threads(cores)
    torch.manual_seed(0)
    chosen = SUBJECTS[:1] if quick else SUBJECTS
    found, facts = {}, {}
    for subject in chosen:
        found |= {f"{subject.label}: {name}": value for name, value in agreement(subject).items()}
        leaves = jax.tree.leaves(build(subject, 1).variables.params)
        facts[subject.label] = {"parameters": sum(leaf.size for leaf in leaves)}
    jax.clear_caches()
    return {
        "agreement": found,
        "facts": facts,
        "cases": [measure_case(subject, case, quick) for subject in chosen for case in cases_of(subject)],
        "memory": host.memory(),
    }
