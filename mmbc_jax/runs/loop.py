"""The host loop of a stage: run compiled epochs, write metrics, evaluate, checkpoint, stop when asked."""

from __future__ import annotations

import copy
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jax
import numpy as np

from mmbc_jax.core import interrupts
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import PyTree
from mmbc_jax.runs.best import Offer
from mmbc_jax.runs.checkpoint import StageCheckpoints
from mmbc_jax.runs.divergence import Divergence
from mmbc_jax.runs.epoch import Program
from mmbc_jax.runs.logs import MetricLog
from mmbc_jax.runs.mesh import Mesh
from mmbc_jax.runs.milestones import CLOCK
from mmbc_jax.runs.screen import Screen

_SHOWN = {
    "bc/loss": "loss",
    "rollout/success_rate": "success",
    "rollout/env_reward": "return",
    "mode/mi": "mi",
}


class Interrupted(Exception):
    """SIGTERM or SIGINT arrived; everything up to here is saved."""


class StopSignal:
    """Notes SIGTERM and SIGINT instead of dying, so that the loop can save first; a second SIGINT does not wait."""

    def __init__(self) -> None:
        self.received: int | None = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == number:
            interrupts.interrupt()
        self.received = number

    @contextmanager
    def installed(self) -> Iterator[StopSignal]:
        """Handles both signals inside the context."""
        numbers = (signal.SIGTERM, signal.SIGINT)
        previous = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How a stage is cut into epochs, in training steps.

    Attributes:
      epochs: in the stage.
      rows: logged rows in an epoch.
      steps_per_row: training steps averaged into a row.
      eval_every: epochs between evaluations; 0 for none.
      save_every: epochs between checkpoints; the last epoch is always saved.
      nonfinite_limit: skipped updates in a row that stop the run.
    """

    epochs: int
    rows: int
    steps_per_row: int
    eval_every: int
    save_every: int
    nonfinite_limit: int

    @property
    def steps_per_epoch(self) -> int:
        """Training steps in an epoch."""
        return self.rows * self.steps_per_row


@dataclasses.dataclass
class StageLoop:
    """Runs the epochs of one stage.

    Attributes:
      name: of the stage.
      schedule: how it is cut into epochs.
      runs: (point, seed) of each run, for the rows.
      log: metric files.
      checkpoints: of this stage.
      meta: what every checkpoint says of itself.
      stop: signals.
      screen: for the progress bar.
      evaluate: metrics of each run at an epoch, or None.
      mesh: that the states are on.
      watch: raises where this process should no longer write.
      offer: takes (epoch, state, figures of each run, what the checkpoints say) of every evaluation.
      num_envs: environment instances that a run plays at once.
      undefined: metrics of the program that mean nothing here, which are not logged.
    """

    name: str
    schedule: Schedule
    runs: Sequence[tuple[int, int]]
    log: MetricLog
    checkpoints: StageCheckpoints
    meta: dict[str, Any]
    stop: StopSignal
    screen: Screen
    evaluate: Callable[[TrainState, int], list[dict[str, float]]] | None
    mesh: Mesh = Mesh()
    watch: Callable[[], None] = lambda: None
    offer: Offer | None = None
    num_envs: int = 0
    undefined: frozenset[str] = frozenset()

    def run(
        self, program: Program, state: TrainState, shared: Callable[[int], PyTree], first_epoch: int
    ) -> TrainState:
        """Runs from `first_epoch` to the end of the stage.

        Args:
          program: the compiled epoch; `state` is donated to it.
          state: with leading axis R.
          shared: what all runs read in an epoch.
          first_epoch: epochs that `state` has behind it.

        Returns:
          The final state, checkpointed.

        Raises:
          DivergenceError: a run stayed non-finite.
          Interrupted: after saving.
        """
        schedule, limit = self.schedule, self.schedule.nonfinite_limit
        diverged = Divergence(self.name, self.runs, self.num_envs, limit, self.meta)
        start = time.perf_counter()
        before = self.meta.get("seconds", 0.0)
        total = schedule.epochs * schedule.steps_per_epoch
        with self.screen.bars() as bars:
            bars.start(self.name, total, first_epoch * schedule.steps_per_epoch)
            for epoch in range(first_epoch, schedule.epochs):
                state, metrics = self._timed(program, state, shared(epoch), epoch)
                note = self._log_epoch(epoch, metrics)
                diverged.look(metrics, self._steps(epoch), bars.line)
                last = epoch + 1 == schedule.epochs
                if self.evaluate and schedule.eval_every and (epoch + 1) % schedule.eval_every == 0:
                    self._log_evaluation(epoch, state)
                self.meta["seconds"] = before + time.perf_counter() - start
                stopped = self.mesh.any_process(self.stop.received is not None)
                if last or stopped or (epoch + 1) % schedule.save_every == 0:
                    self._save(epoch + 1, state)
                bars.advance(self.name, schedule.steps_per_epoch, note, time.perf_counter() - start)
                if stopped:
                    self.checkpoints.wait()
                    raise Interrupted
        self.checkpoints.wait()
        return state

    def _timed(
        self, program: Program, state: TrainState, shared: PyTree, epoch: int
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """One epoch, whose seconds go to the clock that checkpoints keep."""
        start = time.perf_counter()
        state, metrics = program(state, shared)
        self.watch()
        found = {name: x for name, x in jax.device_get(metrics).items() if name not in self.undefined}
        clock = self.meta.setdefault(CLOCK, [])
        if len(clock) == epoch:  # what was begun without one has none
            clock.append(round((clock or [0.0])[-1] + time.perf_counter() - start, 4))
        return state, found

    def _save(self, epoch: int, state: TrainState) -> None:
        seen, said = self.log.sync(), {**copy.deepcopy(self.meta), "epoch": epoch}
        self.checkpoints.save(epoch, state, lambda: {**said, **seen.result()}, len(self.runs))

    def _log_epoch(self, epoch: int, metrics: dict[str, np.ndarray]) -> str:
        self.log.write(self._rows(epoch, metrics))
        parts = [
            f"{label} {metrics[name][:, -1].mean():.4g}"
            for name, label in _SHOWN.items()
            if name in metrics and np.isfinite(metrics[name][:, -1]).all()
        ]
        return "  ".join(parts)

    def _steps(self, epoch: int) -> list[int]:
        """Training steps at the end of each row of an epoch."""
        schedule, first = self.schedule, epoch * self.schedule.steps_per_epoch
        return [first + (i + 1) * schedule.steps_per_row for i in range(schedule.rows)]

    def _rows(self, epoch: int, metrics: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
        columns = {name: array.tolist() for name, array in metrics.items()}
        for i, step in enumerate(self._steps(epoch)):
            for run in range(len(self.runs)):
                values = {name: float(column[run][i]) for name, column in columns.items()}
                yield self._row(step, run, values)

    def _log_evaluation(self, epoch: int, state: TrainState) -> None:
        assert self.evaluate is not None
        step = (epoch + 1) * self.schedule.steps_per_epoch
        found = self.evaluate(state, epoch)
        self.log.write(self._row(step, run, values) for run, values in enumerate(found))
        if self.offer:
            self.offer(epoch + 1, state, found, self.meta)

    def _row(self, step: int, run: int, values: dict[str, float]) -> dict[str, Any]:
        point, seed = self.runs[run]
        return {"stage": self.name, "step": step, "point": point, "seed": seed, **values}
