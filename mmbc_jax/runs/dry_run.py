"""What a run would do, in sentences: checked and traced, but not compiled, and nothing written.

Memory is a lower bound: the states of a stage's runs, their copy while a checkpoint is written, and the largest
product of a training step; all of the scratch is known when a program has been compiled. Compiling is taken to cost
a millisecond per line of the traced program beside tracing itself: on one core of a 2 GHz CPU six programs of 4,300
to 13,900 lines took 0.9 to 1.3. Programs that the compilation cache has take less.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import jax

from mmbc_jax.core.keys import seeded
from mmbc_jax.core.types import PyTree
from mmbc_jax.runs.checkpoint import checkpoint_steps
from mmbc_jax.runs.epoch import make_epoch, over_runs
from mmbc_jax.runs.pipeline import Pipeline
from mmbc_jax.runs.resources import available_bytes, product_bytes, tree_bytes
from mmbc_jax.runs.stages import BaseStage
from mmbc_jax.runs.templates import dummy_shared, template_of
from mmbc_jax.runs.workdir import differences

SECONDS_PER_LINE = 1e-3
_MB = 2**20


def lines(pipeline: Pipeline, overwrite: bool = False) -> Iterator[str]:
    """What a pipeline would run and in what order, a line at a time.

    Args:
      pipeline: built, so all that can be checked without compiling is.
      overwrite: a run in the work directory would be put aside.

    Raises:
      DataError: the demonstrations cannot be read.
    """
    setup, grid = pipeline.setup, pipeline.grid
    yield _place(pipeline, overwrite)
    pipeline.demonstrations.read()
    config = setup.config
    if any("demonstrations" in stage.needs for stage in pipeline.trained):
        what = (
            config.data.path
            or f"{config.data.episodes} episodes to be recorded of the expert of {config.env.name}"
        )
        yield f"demonstrations: {what}"
    if config.budget != 1.0:
        yield f"budget {config.budget:g}: lengths are scaled already"
    device = f"{jax.device_count()} {jax.default_backend()}"
    yield f"runs: {len(grid.points)} points x {len(grid.seeds)} seeds, on {device}"
    seconds, largest = 0.0, 0
    for number, stage in enumerate(pipeline.trained, 1):
        text, compiling, size = _stage(pipeline, stage)
        seconds, largest = seconds + compiling, max(largest, size)
        yield f"{number}. {text}"
    yield (
        f"in all: at least {_megabytes(largest)} of {available_bytes() / _MB:,.0f} MB of memory at once, and about "
        f"{seconds:.0f} s of compiling; nothing was written"
    )


def _place(pipeline: Pipeline, overwrite: bool) -> str:
    workdir = pipeline.workdir
    if not (workdir / "config.json").exists():
        return f"work directory: {workdir}, {'new' if not workdir.exists() else 'without a run'}"
    if overwrite:
        return f"work directory: {workdir}; the run in it would be put aside"
    if changes := differences(workdir, pipeline.setup.config):
        return f"work directory: {workdir} holds a run with another configuration ({'; '.join(changes[:4])})"
    return f"work directory: {workdir} holds this run, which would be continued"


def _stage(pipeline: Pipeline, stage: BaseStage) -> tuple[str, float, int]:
    """(what it would do, seconds of compiling, bytes)."""
    schedule, runs = stage.schedule, len(stage.runs(pipeline.grid).runs)
    one = template_of(stage, 1, own_scale=False)
    size = runs * (2 * tree_bytes(one) + product_bytes(stage))
    count = sum(leaf.size for leaf in jax.tree.leaves(one.params))
    done = checkpoint_steps(pipeline.workdir / "checkpoints" / stage.name)
    start = stage.parent.name if stage.parent else "nothing"
    shared = any(
        stage.program == other.program for other in pipeline.trained[: pipeline.trained.index(stage)]
    )
    seconds = 0.0 if shared else compile_seconds(pipeline, stage, runs)
    steps = schedule.epochs * schedule.steps_per_epoch
    parts = [
        f"{stage.name}: {steps:,} training steps in {schedule.epochs} epochs, from {start}",
        f"{count:,} parameters x {runs} run{'s' * (runs > 1)}",
        f"at least {_megabytes(size)}",
        "compiled already" if shared else f"compiles in about {seconds:.0f} s",
    ]
    if stage.env_steps:
        parts.insert(1, f"{stage.env_steps:,} control steps")
    if done:
        parts.append(f"{done[-1]} epochs are done")
    return ", ".join(parts), seconds, size


def compile_seconds(pipeline: Pipeline, stage: BaseStage, runs: int) -> float:
    """An estimate of what tracing, lowering and compiling the programs of a stage takes; traces them."""
    start = time.perf_counter()
    state, shared = template_of(stage, runs, own_scale=False), dummy_shared(stage.setup)
    schedule, mesh = stage.schedule, pipeline.mesh
    given: PyTree = shared if "demonstrations" in stage.needs else ()
    epoch = make_epoch(stage.train_step, schedule.rows, schedule.steps_per_row, mesh, stage.logs)
    lowered = [jax.jit(epoch).lower(state, given)]
    if pipeline.setup.env is not None:
        keys = jax.eval_shape(lambda: jax.random.split(seeded(0), runs))
        subject = jax.eval_shape(stage.subject, state, keys)
        params = pipeline.setup.played_env.default_params() if pipeline.programs.shifts else None
        lowered.append(jax.jit(over_runs(stage.evaluator().run, mesh)).lower(subject, params))
    seconds = time.perf_counter() - start
    return seconds + SECONDS_PER_LINE * sum(one.as_text().count("\n") for one in lowered)


def _megabytes(size: int) -> str:
    return f"{max(size / _MB, 0.1):,.1f} MB"
