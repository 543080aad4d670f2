"""An epoch: a scan of training steps under one jit, over every run of a sweep, compiled once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from mmbc_jax.core.sharding import BATCH_AXIS
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Array, Metrics, PyTree
from mmbc_jax.runs.mesh import RUNS_AXIS, Mesh

TrainStep = Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]


def over_runs(fn: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Lifts `fn(run, shared)` to a leading axis R of `run`; `shared` is the same for all runs.

    Args:
      fn: a pure function of one run's pytree and of shared arrays.
      mesh: the runs of one device are computed all at once, or with mode "map" one after another inside the same
        program (less memory, and faster where one run already fills the device). Devices on `runs` each get their
        part of R; those on `batch` divide what `core.sharding.spread` names.

    Returns:
      The lifted function. R must be a multiple of the devices on `runs` (see `Mesh.place`).
    """
    mapped = jax.vmap(fn, in_axes=(0, None))

    def alone(runs: PyTree, shared: PyTree) -> PyTree:
        # A batch axis of one makes XLA lay out the weight gradients transposed: a fifth slower on a CPU.
        result = fn(jax.tree.map(lambda leaf: leaf[0], runs), shared)
        return jax.tree.map(lambda leaf: leaf[None], result)

    def on_device(runs: PyTree, shared: PyTree) -> PyTree:
        if mesh.mode == "map":
            return jax.lax.map(lambda run: fn(run, shared), runs)
        return (alone if _count(runs) == 1 else mapped)(runs, shared)

    if mesh.devices is None:
        return on_device
    # Mapped over `runs` by hand, so that no compiler can make runs wait for each other (a loop that ends when all of
    # them have ended would); `batch` is left to the compiler, who is told of it by the arguments and by `spread`.
    by_hand = {RUNS_AXIS} if mesh.batch > 1 else {RUNS_AXIS, BATCH_AXIS}
    return jax.shard_map(
        on_device,
        mesh=mesh.devices,
        in_specs=(PartitionSpec(RUNS_AXIS), PartitionSpec()),
        out_specs=PartitionSpec(RUNS_AXIS),
        axis_names=by_hand,
        check_vma=False,
    )


def _count(runs: PyTree) -> int:
    return len(jax.tree.leaves(runs)[0])


def combine(metrics: Metrics, logs: Mapping[str, str]) -> Metrics:
    """One figure of the training steps of a row: their mean, or what `logs` (see `core.learning.COMBINE`) says."""
    reduced: dict[str, Callable[[Array], Array]] = {
        "mean": lambda x: x.mean(0),
        "last": lambda x: x[-1],
        "sum": lambda x: x.sum(0),
        "known": lambda x: jnp.nanmean(x, 0),
    }
    return {name: reduced[logs.get(name, "mean")](x) for name, x in metrics.items()}


def make_epoch(
    train_step: TrainStep, rows: int, steps_per_row: int, mesh: Mesh, logs: Mapping[str, str]
) -> Callable[..., Any]:
    """`epoch(state, shared) -> (state, metrics)`: rows x steps_per_row training steps.

    Args:
      train_step: pure step of one run.
      rows: logged rows in an epoch.
      steps_per_row: training steps averaged into one row.
      mesh: see `over_runs`.
      logs: of the learner: how its metrics become one figure of a row.

    Returns:
      A function of (state with leading axis R, shared arrays) whose metrics are [R, rows]. Nothing
      crosses to the host inside it.
    """

    def epoch(state: TrainState, shared: PyTree) -> tuple[TrainState, Metrics]:
        def row(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
            state, metrics = jax.lax.scan(lambda s, _: train_step(s, shared), state, None, steps_per_row)
            return state, combine(metrics, logs)

        return jax.lax.scan(row, state, None, rows)

    return over_runs(epoch, mesh)


@dataclasses.dataclass
class Program:
    """A function compiled ahead of time for one set of shapes; it can never recompile.

    Attributes:
      compiled: the executable.
      compile_seconds: tracing, lowering and compiling.
      temp_bytes: scratch memory that the compiler reserves, in bytes; -1 where it does not say.
    """

    compiled: Any
    compile_seconds: float
    temp_bytes: int

    def __call__(self, *args: Any) -> Any:
        """Runs it; raises where a shape differs from those it was compiled for."""
        return self.compiled(*args)


def compile_program(fn: Callable[..., Any], *args: Any, donate: bool = False, **options: Any) -> Program:
    """Compiles `fn` for the shapes of `args` (arrays or ShapeDtypeStructs).

    Args:
      fn: a pure function.
      *args: what it will be called with.
      donate: give the first argument's buffers to the result.
      **options: of `jax.jit`: `in_shardings` and `out_shardings` where there is a mesh, `compiler_options` where an
        environment needs some (see `core.compiling`).

    Returns:
      The program, with its compile time.
    """
    start = time.perf_counter()
    compiled = jax.jit(fn, donate_argnums=(0,) if donate else (), **options).lower(*args).compile()
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    return Program(compiled, seconds, int(getattr(memory, "temp_size_in_bytes", -1)))


def stack_runs(trees: list[PyTree]) -> PyTree:
    """Stacks one pytree per run along a new leading axis R."""
    return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *trees)


def take_runs(tree: PyTree, index: np.ndarray) -> PyTree:
    """Runs `index` of a pytree with leading axis R: how a stage is broadcast to the points that share it."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
