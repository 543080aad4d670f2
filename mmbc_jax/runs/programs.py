"""The compiled programs of a run: one per stage kind and number of runs, each compiled exactly once."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.compiling import compiler_options, jit
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import EnvSpec, Key, Metrics, PyTree, Rollouts
from mmbc_jax.diagnostics.modes import mode_metrics
from mmbc_jax.diagnostics.outcomes import outcome_metrics, without_success
from mmbc_jax.evaluation.shifts import shifted_params
from mmbc_jax.runs.epoch import Program, compile_program, make_epoch, over_runs
from mmbc_jax.runs.mesh import Mesh
from mmbc_jax.runs.mode_choice import Modes
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.stages import BaseStage


@dataclasses.dataclass
class Programs:
    """Compiles on first use and remembers.

    Attributes:
      setup: of the run.
      mesh: on which the programs run.
      command: z of every evaluated episode; None to spread them evenly.
      headless: episodes are evaluated without a steering head.
      compiled: (stage, "train" or "evaluate", seconds) of every compilation, in order.
      modes: the choices of `sweep.mode=auto`.
    """

    setup: Setup
    mesh: Mesh
    command: int | None = None
    headless: bool = False
    compiled: list[tuple[str, str, float]] = dataclasses.field(default_factory=list)
    modes: Modes = dataclasses.field(default_factory=Modes)
    _cache: dict[tuple[str, int], Program] = dataclasses.field(default_factory=dict)
    _made_for: dict[tuple[str, int], Any] = dataclasses.field(default_factory=dict)

    @cached_property
    def shifts(self) -> dict[str, PyTree]:
        """{name: parameters of the environment} of `evaluation.shifts`."""
        return shifted_params(self.setup.config.evaluation.shifts, self.setup.env)

    def start(self, stage: BaseStage, keys: Key, hp: Hparams, parent: PyTree, shared: PyTree) -> TrainState:
        """The first state of a stage, on the mesh.

        Args:
          stage, keys: which, and [R].
          hp: traced scalars [R].
          parent: final state of the parent stage [R], or None.
          shared: what all runs read, as from `Mesh.share`.
        """
        if self.mesh.devices is None:
            return jit(stage.start, _held(stage))(keys, hp, parent, shared)
        placed = self.mesh.place((keys, hp, parent))
        at = self.mesh.state(jax.eval_shape(stage.start, *placed, shared))
        return jit(stage.start, _held(stage), out_shardings=at)(*placed, shared)

    def epoch(self, stage: BaseStage, state: TrainState, shared: PyTree, runs: int | None = None) -> Program:
        """The epoch of a stage for states like `state`, whose buffers it takes over; its metrics are [R, rows].

        Args:
          stage, state: which, and one with leading axis R; on a mesh as from `start`, with its additional rows.
          shared: what all runs read, as from `Mesh.share`.
          runs: R; None for all rows.
        """
        runs = len(state.step) if runs is None else runs
        key = (stage.program, runs)
        if self._missing(key, state):
            compiled = functools.partial(self._compiled, stage, state, shared, runs)
            if self.mesh.mode == "auto" and runs > 1:
                epochs = stage.schedule.epochs
                self._cache[key] = self.modes.pick(_label(*key), stage.name, compiled, state, shared, epochs)
            else:
                self._cache[key] = compiled(self.mesh.mode)
        return self._cache[key]

    def _compiled(self, stage: BaseStage, state: TrainState, shared: PyTree, runs: int, mode: str) -> Program:
        """The epoch of a stage, its runs computed in a mode."""
        schedule, mesh = stage.schedule, dataclasses.replace(self.mesh, mode=mode)
        epoch = make_epoch(stage.train_step, schedule.rows, schedule.steps_per_row, mesh, stage.logs)
        at: dict[str, Any] = {"compiler_options": compiler_options(_held(stage))}
        if mesh.devices is not None:
            epoch, states = _first_metrics(epoch, runs), mesh.state(state)
            whole = mesh.everywhere()
            at |= {"in_shardings": (states, whole), "out_shardings": (states, whole)}
        program = compile_program(epoch, state, shared, donate=True, **at)
        self.compiled.append((stage.name, "train", program.compile_seconds))
        return program

    def evaluate(
        self,
        stage: BaseStage,
        state: TrainState,
        keys: Key,
        params: PyTree = None,
        commands: np.ndarray | None = None,
    ) -> tuple[Rollouts | None, list[dict[str, Any]]]:
        """Plays the episodes of `evaluation` with each run of a stage.

        Args:
          stage, state: leading axis R, or on the mesh with its additional rows.
          keys: [R].
          params: of the environment; None for its own. All values share a program, as do those of
          commands: [R, B] z of each episode; None as of `command`.

        Returns:
          (episodes on the host with leading axis R, metrics of each run); without an environment None and no metrics.
        """
        runs = len(keys)
        if self.setup.env is None:
            return None, [{} for _ in range(runs)]
        subject = self.mesh.place(stage.subject(state, keys))
        params = self._given(params)
        given = subject if commands is None else (subject, self.mesh.place(jnp.asarray(commands, jnp.int32)))
        played = self._evaluation(stage, given, params, runs)(given, params)
        rollouts = jax.tree.map(lambda leaf: leaf[:runs], jax.device_get(played))
        one = [jax.tree.map(lambda x, i=i: x[i], rollouts) for i in range(runs)]
        return rollouts, [_metrics(each, self.setup.env_spec, stage.num_modes) for each in one]

    def prepare(self, stage: BaseStage, state: PyTree, keys: Key) -> None:
        """Compiles the epoch and evaluation of a stage from the shapes of its state and keys [R]; not on a mesh."""
        runs = len(keys)
        if not (self.mesh.mode == "auto" and runs > 1):  # that measures on the state itself
            self.epoch(stage, state, (), runs)
        if self.setup.env is not None:
            self._evaluation(stage, jax.eval_shape(stage.subject, state, keys), self._given(None), runs)

    def _given(self, params: PyTree) -> PyTree:
        """Parameters of the environment: given where there are shifts, so that all settings find the same program."""
        return self.setup.played_env.default_params() if params is None and self.shifts else params

    def _evaluation(self, stage: BaseStage, given: PyTree, params: PyTree, runs: int) -> Program:
        commanded = isinstance(given, tuple)
        key = (f"evaluate{' commanded' * commanded} {stage.program}", runs)
        if self._missing(key, given):
            run = stage.evaluator(self.command, self.headless).run
            under = (lambda given, params: run(given[0], params, given[1])) if commanded else run
            lifted = over_runs(under, self.mesh)
            at: dict[str, Any] = {"compiler_options": compiler_options(self.setup.env_spec)}
            if self.mesh.devices is not None:
                at |= {"out_shardings": self.mesh.everywhere()}
            self._cache[key] = compile_program(lifted, given, params, **at)
            self.compiled.append((stage.name, "evaluate", self._cache[key].compile_seconds))
        return self._cache[key]

    def _missing(self, key: tuple[str, int], given: PyTree) -> bool:
        """Whether a program has to be compiled: never made, or made ahead for demonstrations of another scale."""
        structure = jax.tree.structure(given)
        made = key in self._cache and self._made_for[key] == structure
        self._made_for[key] = structure
        return not made

    def facts(self, stage: BaseStage, runs: int) -> dict[str, Any]:
        """Seconds and number of the compilations that a stage caused, scratch memory of its epoch in bytes, its mode.

        The memory is -1 where the epoch was not compiled here.
        """
        own = [(what, seconds) for name, what, seconds in self.compiled if name == stage.name]
        program = self._cache.get((stage.program, runs))
        return {
            "compile_seconds": sum(seconds for _, seconds in own),
            "train_compilations": sum(what == "train" for what, _ in own),
            "evaluate_compilations": sum(what == "evaluate" for what, _ in own),
            "temp_bytes": program.temp_bytes if program else -1,
            "mode": self.modes.known(_label(stage.program, runs)) or {"mode": _alone(self.mesh.mode)},
        }


def _held(stage: BaseStage) -> EnvSpec | None:
    """What a stage's training plays in; None where it clones recorded demonstrations alone."""
    return stage.setup.env_spec if stage.learner.env_steps else None


def _metrics(rollouts: Rollouts, spec: EnvSpec, num_z: int) -> dict[str, Any]:
    found = mode_metrics(rollouts, spec.num_modes, num_z)
    return (found if spec.has_success else without_success(found)) | outcome_metrics(rollouts, spec.num_modes)


def _label(program: str, runs: int) -> str:
    return f"{zlib.crc32(program.encode()):08x} x {runs}"


def _alone(mode: str) -> str:
    """The mode of a single run, which there is nothing to choose for."""
    return "vmap" if mode == "auto" else mode


def _first_metrics(epoch: Callable[..., Any], runs: int) -> Callable[..., Any]:
    """The epoch, with the metrics of the first `runs` rows."""

    def first(state: TrainState, shared: PyTree) -> tuple[TrainState, Metrics]:
        state, metrics = epoch(state, shared)
        return state, {name: rows[:runs] for name, rows in metrics.items()}

    return first
