"""What it took to succeed: read off the training episodes that a stage logged."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SUCCEEDS = 0.95
WINDOW = 5
"""Logged rows whose episodes are taken together: one row may hold few."""
FIGURE = "env_steps_to_95"
SECONDS = "wall_s_to_95"
"""The same in seconds of training, which differ from machine to machine: a fact of the run and no metric."""
CLOCK = "clock"
"""Of what a checkpoint says of itself: seconds that training had taken after each epoch, nothing else counted."""


def seconds_at(clock: Sequence[float], step: int, per_epoch: int) -> float | None:
    """Seconds of training until a training step, spread evenly over the steps of its epoch; None where unknown.

    Args:
      clock: seconds after each epoch.
      step: from 1 on.
      per_epoch: training steps in an epoch.
    """
    epoch = math.ceil(step / per_epoch)
    if epoch > len(clock):
        return None
    before = clock[epoch - 2] if epoch > 1 else 0.0
    return before + (clock[epoch - 1] - before) * (step - (epoch - 1) * per_epoch) / per_epoch


def steps_to_success(log: Path, stage: str) -> dict[tuple[int, int], int]:
    """{(sweep point, seed): training steps until `SUCCEEDS` of the last `WINDOW` rows' episodes succeed}.

    Training episodes are played with the noise that the actor explores with, so that a method which explores more
    is later here than in an evaluation. Rows without a finished episode count as none; runs that never got there
    are left out.
    """
    recent: dict[tuple[int, int], deque[tuple[float, float]]] = {}
    found: dict[tuple[int, int], int] = {}
    if not log.exists():
        return found
    with log.open(encoding="utf-8") as rows:
        for line in rows:
            try:
                row: dict[str, Any] = json.loads(line)
            except ValueError:
                continue  # the log says so itself where it matters
            if row.get("stage") != stage or row.get("rollout/success_rate") is None:
                continue
            run, episodes = (int(row["point"]), int(row["seed"])), float(row["rollout/episodes"])
            window = recent.setdefault(run, deque(maxlen=WINDOW))
            window.append((episodes, episodes * row["rollout/success_rate"]))
            played, succeeded = map(sum, zip(*window, strict=True))
            if len(window) == WINDOW and succeeded >= SUCCEEDS * played:
                found.setdefault(run, int(row["step"]))
    return found
