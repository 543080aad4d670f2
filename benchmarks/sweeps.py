"""A sweep of 64 cloning runs: one program over all of them beside 64 PyTorch runs in turn.

Every run is the default flow policy at one width with its own seed and weights, on the same windows. Ours is the
program that a sweep executes (`runs.epoch.make_epoch`), in both values of `sweep.mode`: "vmap" computes the runs at
once, "map" one after another inside the program. In PyTorch every run takes its steps, then the next one does. A unit
is one step of all 64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import torch

from benchmarks import host, peak, subjects
from benchmarks.mirrors.cloner import TorchCloner
from benchmarks.mirrors.subjects import tensors, torch_flow
from benchmarks.timing import Contender, interleave
from mmbc_jax.core.state import TrainState
from mmbc_jax.learners.bc import BCOptions, CloningLearner, Demonstrations
from mmbc_jax.runs.epoch import compile_program, make_epoch, stack_runs
from mmbc_jax.runs.mesh import Mesh

OURS = "mmbc_jax vmap"
RUNS, WIDTHS, BATCH, STEPS = 64, (64, 256), 256, 4  # steps of every run in a block
WINDOWS = 20_000


def learner_of(width: int) -> CloningLearner:
    """The learner of stage `bc` on a network of three layers of that width."""
    return CloningLearner(BCOptions(batch_size=BATCH), subjects.flow_policy(hidden=(width,) * 3))


def states(learner: CloningLearner, data: Demonstrations, runs: int) -> list[TrainState]:
    """One state a run, each of a seed of its own."""
    return [subjects.init_state(learner, data, seed) for seed in range(runs)]


def our_block(
    learner: CloningLearner, data: Demonstrations, runs: int, mode: str
) -> tuple[Callable[[], Any], dict[str, float]]:
    """(a function that takes `STEPS` steps of all runs, seconds and bytes of its compilation)."""
    start = stack_runs(states(learner, data, runs))
    epoch = make_epoch(learner.train_step, 1, STEPS, Mesh(mode=mode), learner.logs)
    program, holder = compile_program(epoch, start, data, donate=True), [start]

    def block() -> None:
        holder[0], metrics = program(holder[0], data)
        jax.block_until_ready((holder[0], metrics))

    return block, {"compile_seconds": program.compile_seconds, "temp_bytes": program.temp_bytes}


def their_block(learner: CloningLearner, data: Demonstrations, runs: int, kind: str) -> Callable[[], Any]:
    """A function that takes `STEPS` steps of every run, one run after another."""
    shared = tensors(data[0])
    cloners = [
        TorchCloner(torch_flow(learner.policy, state.params), shared, learner.options, kind)
        for state in states(learner, data, runs)
    ]

    def block() -> None:
        for cloner in cloners:
            for _ in range(STEPS):
                cloner.step()

    return block


def measure_width(width: int, runs: int, cores: int, rounds: int) -> dict[str, Any]:
    """Times one width on the pinned cores."""
    learner, data = learner_of(width), subjects.demonstrations(WINDOWS)
    contenders, compiled = [], {}
    for mode in ("vmap", "map"):
        block, compiled[f"mmbc_jax {mode}"] = our_block(learner, data, runs, mode)
        contenders.append(Contender(f"mmbc_jax {mode}", block, STEPS))
    for kind in ("eager", "fused"):
        contenders.append(Contender(f"torch {kind}", their_block(learner, data, runs, kind), STEPS))
    work = subjects.count_work(learner.policy)
    gflop = dict.fromkeys((c.name for c in contenders), 1e-9 * runs * BATCH * (work.forward + work.backward))
    samples = interleave([*contenders, *peak.contenders()], rounds)
    return {
        "width": width,
        "runs": runs,
        "batch_size": BATCH,
        "parameters": work.parameters,
        **peak.summarise(samples, OURS, gflop, cores),
        "compiled": compiled,
    }


def measure(cores: int, quick: bool) -> dict[str, Any]:
    """Both widths on the pinned cores; `quick` takes 4 runs of the narrow one, a few rounds."""
    torch.set_num_threads(cores)
    widths, runs, rounds = (WIDTHS[:1], 4, 3) if quick else (WIDTHS, RUNS, 15)
    cases = [measure_width(width, runs, cores, rounds) for width in widths]
    return {"cases": cases, "memory": host.memory()}
