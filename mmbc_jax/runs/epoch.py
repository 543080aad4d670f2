"""An epoch: a scan of training steps under one jit, over every run of a sweep, compiled once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from mmbc_jax.core.config import check_choice
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Metrics, PyTree

MODES = ("vmap", "map", "shard")
TrainStep = Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]


def over_runs(fn: Callable[..., Any], mode: str) -> Callable[..., Any]:
    """Lifts `fn(run, shared)` to a leading axis R of `run`; `shared` is the same for all runs.

    Args:
      fn: a pure function of one run's pytree and of shared arrays.
      mode: "vmap" runs all at once; "map" one after another inside the same program (less memory, and
        faster where one run already fills the device); "shard" splits R over the devices and vmaps there.

    Returns:
      The lifted function. With "shard", R must be a multiple of the number of devices.

    Raises:
      ConfigError: unknown mode.
    """
    check_choice("sweep.mode", mode, MODES)

    def alone(runs: PyTree, shared: PyTree) -> PyTree:
        # A batch axis of one makes XLA lay out the weight gradients transposed: a fifth slower on a CPU.
        result = fn(jax.tree.map(lambda leaf: leaf[0], runs), shared)
        return jax.tree.map(lambda leaf: leaf[None], result)

    if mode == "map":
        return lambda runs, shared: jax.lax.map(lambda run: fn(run, shared), runs)
    mapped = jax.vmap(fn, in_axes=(0, None))
    if mode == "vmap":
        return lambda runs, shared: (alone if _count(runs) == 1 else mapped)(runs, shared)
    # Auto axes: explicit ones reject gathers inside the step.
    mesh = jax.make_mesh((jax.device_count(),), ("runs",), axis_types=(AxisType.Auto,))
    runs_axis, replicated = PartitionSpec("runs"), PartitionSpec()
    return jax.shard_map(
        mapped, mesh=mesh, in_specs=(runs_axis, replicated), out_specs=runs_axis, check_vma=False
    )


def _count(runs: PyTree) -> int:
    return len(jax.tree.leaves(runs)[0])


def check_runs(mode: str, runs: int) -> None:
    """Raises ConfigError where R runs cannot be split over the devices."""
    if mode == "shard" and runs % jax.device_count():
        raise ConfigError(
            "sweep.mode",
            mode,
            f"{runs} runs do not divide over {jax.device_count()} devices; use vmap or map",
        )


def combine(metrics: Metrics, logs: Mapping[str, str]) -> Metrics:
    """One figure of the training steps of a row: their mean, or what `logs` (see `core.learning.COMBINE`) says."""
    reduced = {"mean": lambda x: x.mean(0), "last": lambda x: x[-1], "sum": lambda x: x.sum(0)}
    return {name: reduced[logs.get(name, "mean")](x) for name, x in metrics.items()}


def make_epoch(
    train_step: TrainStep, rows: int, steps_per_row: int, mode: str, logs: Mapping[str, str]
) -> Callable[..., Any]:
    """`epoch(state, shared) -> (state, metrics)`: rows x steps_per_row training steps.

    Args:
      train_step: pure step of one run.
      rows: logged rows in an epoch.
      steps_per_row: training steps averaged into one row.
      mode: see `over_runs`.
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

    return over_runs(epoch, mode)


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


def compile_program(fn: Callable[..., Any], *args: Any, donate: bool = False) -> Program:
    """Compiles `fn` for the shapes of `args` (arrays or ShapeDtypeStructs).

    Args:
      fn: a pure function.
      *args: what it will be called with.
      donate: give the first argument's buffers to the result.

    Returns:
      The program, with its compile time.
    """
    start = time.perf_counter()
    compiled = jax.jit(fn, donate_argnums=(0,) if donate else ()).lower(*args).compile()
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    return Program(compiled, seconds, int(getattr(memory, "temp_size_in_bytes", -1)))


def stack_runs(trees: list[PyTree]) -> PyTree:
    """Stacks one pytree per run along a new leading axis R."""
    return jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *trees)


def take_runs(tree: PyTree, index: np.ndarray) -> PyTree:
    """Runs `index` of a pytree with leading axis R: how a stage is broadcast to the points that share it."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
