"""What diverged in a stage: instances of the environment, which are reset, and runs, which stop learning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mmbc_jax.core.errors import DivergenceError
from mmbc_jax.evaluation.results import StageResult

INSTANCES = "diverged"  # in what a checkpoint says of itself: how many instances have, up to it
STOPPED = "stopped"  # {run: step} of the runs that stopped learning
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Divergence:
    """Looks for both in the metrics of an epoch.

    Attributes:
      stage: its name.
      runs: (point, seed) of each run.
      num_envs: environment instances that a run plays at once.
      limit: updates skipped in a row after which a run counts as diverged.
      meta: what the checkpoints of the stage say of themselves; notes are kept in it.
    """

    stage: str
    runs: Sequence[tuple[int, int]]
    num_envs: int
    limit: int
    meta: dict[str, Any]

    def look(self, metrics: dict[str, np.ndarray], steps: Sequence[int], say: Say) -> None:
        """Notes what diverged in an epoch, and says so.

        Args:
          metrics: [R, rows] each.
          steps: [rows] training steps at the end of each row.
          say: takes a line.

        Raises:
          DivergenceError: no run is left that learns.
        """
        self._instances(metrics, steps[-1], say)
        in_a_row, known = metrics["train/skipped_in_a_row"], self.meta.setdefault(STOPPED, {})
        new = [
            run for run in map(int, np.flatnonzero((in_a_row >= self.limit).any(1))) if str(run) not in known
        ]
        for run in new:
            known[str(run)] = steps[int(np.argmax(in_a_row[run] >= self.limit))]
        if len(known) == len(self.runs):
            first = min(new, key=lambda run: known[str(run)])
            raise DivergenceError(f"{self._said(first)}; {self._likeliest_cause()}")
        for run in new:
            say(f"{self._said(run)}; it stays at its last finite parameters, and the other runs go on")

    def _said(self, run: int) -> str:
        point, seed = self.runs[run]
        return (
            f"stage {self.stage}, seed {seed}, point {point}: gradients were not finite for the last {self.limit} "
            f"updates up to step {self.meta[STOPPED][str(run)]} (nonfinite_limit = {self.limit})"
        )

    def _instances(self, metrics: dict[str, np.ndarray], step: int, say: Say) -> None:
        before, found = self.meta.get(INSTANCES, 0), int(np.sum(metrics.get("rollout/diverged", 0)))
        self.meta[INSTANCES] = before + found
        if found and not before:
            say(
                f"{self.stage}: {self._of_instances(found)} up to step {step}: data, observation or reward were not "
                "finite; they were reset and nothing is learned from it (rollout/diverged counts them)"
            )

    def _likeliest_cause(self) -> str:
        found = self.meta.get(INSTANCES, 0)
        if not found:
            return "lower the learning rate, or look for extreme values in the data"
        return (
            f"{self._of_instances(found)} before that, which is the likelier cause: look for what makes the "
            "environment no longer finite"
        )

    def _of_instances(self, count: int) -> str:
        instances = self.num_envs * len(self.runs)
        if count > instances:
            return f"environment instances ({instances}) diverged {count} times"
        return f"{count} of {instances} environment instances diverged"


def evaluated_lines(result: StageResult) -> list[str]:
    """What to say of evaluated episodes that diverged, in at most one line."""
    shares = [run.get("diverged_fraction") or 0.0 for run in result.metrics]
    counts = [round(share * run["n"]) for share, run in zip(shares, result.metrics, strict=True) if share]
    if not counts:
        return []
    played = sum(run["n"] for run in result.metrics)
    return [
        f"{result.name}: {sum(counts)} of {played} environment instances diverged in evaluation: data, observation "
        "or reward were not finite; their episodes count as failures (diverged_fraction)"
    ]
