"""The compiled programs of a run: one per stage kind and number of runs, each compiled exactly once."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import PyTree, Rollouts
from mmbc_jax.diagnostics.modes import mode_metrics
from mmbc_jax.diagnostics.outcomes import outcome_metrics
from mmbc_jax.runs.epoch import Program, compile_program, make_epoch, over_runs
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.stages import BaseStage


@dataclasses.dataclass
class Programs:
    """Compiles on first use and remembers.

    Attributes:
      setup: of the run.
      command: z of every evaluated episode; None to spread them evenly.
      compiled: (stage, "train" or "evaluate", seconds) of every compilation, in order.
    """

    setup: Setup
    command: int | None = None
    compiled: list[tuple[str, str, float]] = dataclasses.field(default_factory=list)
    _cache: dict[tuple[str, int], Program] = dataclasses.field(default_factory=dict)

    def epoch(self, stage: BaseStage, state: TrainState, shared: PyTree) -> Program:
        """The epoch of a stage for states like `state`, whose buffers it takes over."""
        key = (stage.program, len(state.step))
        if key not in self._cache:
            schedule, mode = stage.schedule, self.setup.config.sweep.mode
            logs = stage.learner.logs
            epoch = make_epoch(stage.train_step, schedule.rows, schedule.steps_per_row, mode, logs)
            self._cache[key] = compile_program(epoch, state, shared, donate=True)
            self.compiled.append((stage.name, "train", self._cache[key].compile_seconds))
        return self._cache[key]

    def evaluate(
        self, stage: BaseStage, state: TrainState, keys: PyTree
    ) -> tuple[Rollouts | None, list[dict[str, Any]]]:
        """Plays the episodes of `evaluation` with each run of a stage.

        Args:
          stage: which.
          state: leading axis R.
          keys: [R].

        Returns:
          (episodes on the host with leading axis R, metrics of each run); without an environment None and no metrics.
        """
        if self.setup.env is None:
            return None, [{} for _ in range(len(state.step))]
        subject = stage.subject(state, keys)
        key = (f"evaluate {stage.program}", len(state.step))
        if key not in self._cache:
            evaluator = stage.evaluator(self.command)
            lifted = over_runs(lambda run, _: evaluator.run(run, None), self.setup.config.sweep.mode)
            self._cache[key] = compile_program(lifted, subject, ())
            self.compiled.append((stage.name, "evaluate", self._cache[key].compile_seconds))
        rollouts = jax.device_get(self._cache[key](subject, ()))
        num_modes = self.setup.env_spec.num_modes
        metrics = [
            mode_metrics(one, num_modes, stage.num_modes) | outcome_metrics(one, num_modes)
            for one in (jax.tree.map(lambda x, i=i: x[i], rollouts) for i in range(len(state.step)))
        ]
        return rollouts, metrics

    def facts(self, stage: BaseStage, runs: int) -> dict[str, Any]:
        """Seconds and number of the compilations that a stage caused, and the scratch memory of its epoch in bytes.

        The latter is -1 where the epoch was not compiled here.
        """
        own = [(what, seconds) for name, what, seconds in self.compiled if name == stage.name]
        program = self._cache.get((stage.program, runs))
        return {
            "compile_seconds": sum(seconds for _, seconds in own),
            "train_compilations": sum(what == "train" for what, _ in own),
            "evaluate_compilations": sum(what == "evaluate" for what, _ in own),
            "temp_bytes": program.temp_bytes if program else -1,
        }
