"""How time and memory of the training programs grow: with runs, environments, modes, chunk length and width.

| axis | program | everything else |
|---|---|---|
| runs | cloning: one step of all runs, `sweep.mode` vmap | batch 256, width 64 |
| width | cloning: one step of one run | batch 256, three layers |
| chunk | cloning: one step of one run | batch 256, the default network |
| environments | fine-tuning: one iteration | 8 decisions, 32 modes |
| modes | fine-tuning: one iteration | 256 environments, 8 decisions |

All values of an axis are timed in turn. Memory is what the program holds while it runs: arguments, results that take
no argument's place, and scratch. A slope is that of a straight line through log figure against log value, by least
squares: 1 is proportional, 0 constant; for time it is of processor time on one core.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import finetuning, host, subjects
from benchmarks.timing import Contender, interleave, repeated, summarise
from mmbc_jax.core import config as config_lib
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.learners.bc import BCOptions, CloningLearner
from mmbc_jax.runs import setup
from mmbc_jax.runs.epoch import Program, compile_program, make_epoch, stack_runs
from mmbc_jax.runs.mesh import Mesh
from mmbc_jax.runs.stages import make_stages

AXES = {
    "runs": (1, 4, 16, 64),
    "width": (64, 128, 256, 512),
    "chunk": (4, 8, 16, 32),
    "environments": (64, 256, 1024, 4096),
    "modes": (4, 16, 64, 256),
}
BATCH, WINDOWS, STEPS, _BLOCK_SECONDS = 256, 20_000, 4, 0.1


@dataclasses.dataclass(frozen=True)
class Point:
    """A program at one value of an axis.

    Attributes:
      program: compiled, its first argument donated.
      state: of its first call.
      shared: its second argument.
      units: training steps in a call.
    """

    program: Program
    state: Any
    shared: Any
    units: int

    @property
    def bytes(self) -> int:
        """What it holds while it runs."""
        found = self.program.compiled.memory_analysis()
        kept = found.output_size_in_bytes - found.alias_size_in_bytes
        return int(found.argument_size_in_bytes + kept + found.temp_size_in_bytes)

    def block(self) -> Callable[[], Any]:
        """A function that calls it once, on the state that it left."""
        holder = [self.state]

        def run() -> None:
            holder[0], metrics = self.program(holder[0], self.shared)
            jax.block_until_ready((holder[0], metrics))

        return run


def cloning(runs: int = 1, width: int = 0, chunk: int = 8) -> Point:
    """A cloning step of a number of runs, on networks of a width (0: the default network)."""
    spec = PolicySpec(4, 2, chunk)
    options = {"hidden": (width,) * 3} if width else {}
    learner = CloningLearner(BCOptions(batch_size=BATCH), subjects.flow_policy(5, spec, **options))
    data = subjects.demonstrations(WINDOWS, spec=spec)
    state = stack_runs([subjects.init_state(learner, data, seed) for seed in range(runs)])
    epoch = make_epoch(learner.train_step, 1, STEPS, Mesh(), learner.logs)
    return Point(compile_program(epoch, state, data, donate=True), state, data, STEPS)


def tuning(environments: int = 256, modes: int = 32) -> Point:
    """An iteration of the main job's fine-tuning."""
    config = config_lib.load(finetuning.JOB)
    config.learner.update({"num_envs": environments, "decisions": 8})
    config.finetune.num_modes = modes
    stage = make_stages(setup.build(config), ("bc", "finetune"))["finetune"]
    state = finetuning.start(stage)
    epoch = make_epoch(stage.learner.train_step, 1, 1, Mesh(), stage.learner.logs)
    return Point(compile_program(epoch, state, (), donate=True), state, (), 1)


MAKERS: dict[str, tuple[str, Callable[[int], Point]]] = {
    "runs": ("cloning", lambda value: cloning(runs=value, width=64)),
    "width": ("cloning", lambda value: cloning(width=value)),
    "chunk": ("cloning", lambda value: cloning(chunk=value)),
    "environments": ("fine-tuning", lambda value: tuning(environments=value)),
    "modes": ("fine-tuning", lambda value: tuning(modes=value)),
}


def slope(values: Sequence[float], figures: Sequence[float]) -> float:
    """Of the line through log figures against log values."""
    return float(np.polyfit(np.log(values), np.log(figures), 1)[0])


def measure_axis(axis: str, values: Sequence[int], cores: int, rounds: int) -> dict[str, Any]:
    """Times all values of an axis in turn on the pinned cores; unit: one training step."""
    program, make = MAKERS[axis]
    contenders, memory, compile_seconds = [], {}, {}
    for value in values:
        point, name = make(value), str(value)
        memory[name], compile_seconds[name] = point.bytes, point.program.compile_seconds
        block = point.block()
        block()
        timed = interleave([Contender(name, block, 1)], 1)[name].wall[0]
        repeats = max(1, round(_BLOCK_SECONDS / timed))
        contenders.append(Contender(name, repeated(block, repeats), repeats * point.units))
    found = summarise(interleave(contenders, rounds), str(values[0]))
    clock = "cpu_seconds" if cores == 1 else "seconds"
    return {
        "axis": axis,
        "program": program,
        **found,
        "bytes": memory,
        "compile_seconds": compile_seconds,
        "slopes": {
            "time": slope(values, [found[clock][str(value)]["median"] for value in values]),
            "memory": slope(values, [memory[str(value)] for value in values]),
        },
    }


def measure(cores: int, quick: bool) -> dict[str, Any]:
    """Every axis on the pinned cores; `quick` takes two values of two of them."""
    axes = {axis: AXES[axis][:2] for axis in ("runs", "width")} if quick else AXES
    cases = [measure_axis(axis, values, cores, 2 if quick else 7) for axis, values in axes.items()]
    return {"cases": cases, "memory": host.memory()}
