"""The checkpoint with the best evaluation of a stage, kept beside the newest ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmbc_jax.core.state import TrainState
from mmbc_jax.runs.checkpoint import DamagedError, StageCheckpoints, checkpoint_steps, read_meta
from mmbc_jax.runs.mesh import Mesh

FOLDER = "best"
Figures = Sequence[Mapping[str, float]]
Offer = Callable[[int, TrainState, Figures, Mapping[str, Any]], None]


class BestCheckpoint:
    """Keeps the state whose named metric is highest, in `<workdir>/best/<stage>/<epoch>/`.

    What was best before a run was interrupted is read from what that checkpoint says of itself.

    Args:
      workdir: of the run.
      stage: name.
      metric: name of an evaluation's figure; the mean over the runs that have it counts.
      mesh: of the states.
    """

    def __init__(self, workdir: Path, stage: str, metric: str, mesh: Mesh):
        self.metric, self._directory = metric, Path(workdir) / FOLDER / stage
        self._checkpoints = StageCheckpoints(self._directory, keep=1, mesh=mesh)
        self._value = -math.inf
        for step in checkpoint_steps(self._directory):
            try:
                self._value = max(self._value, float(read_meta(self._directory, step)[1]["best"]))
            except DamagedError:
                self._checkpoints.put_aside(step)

    def offer(self, epoch: int, state: TrainState, found: Figures, meta: Mapping[str, Any]) -> None:
        """Saves a state if its evaluation is better than any before, and is there at all.

        Args:
          epoch: whose end it is.
          state: leading axis R, or on the mesh with its additional rows.
          found: figures of each run, as they are logged.
          meta: what every checkpoint of the stage says of itself.
        """
        values = [one[f"eval/{self.metric}"] for one in found if f"eval/{self.metric}" in one]
        value = sum(values) / len(values) if values else -math.inf
        if value > self._value:
            self._value = value
            # it is written while training goes on and adds to what a checkpoint says
            said = {
                **copy.deepcopy(dict(meta)),
                "epoch": epoch,
                "best": value,
                "metric": self.metric,
                "log_bytes": 0,
            }
            self._checkpoints.save(epoch, state, said, len(found))

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._checkpoints.close()


@contextmanager
def keeping(workdir: Path, stage: str, metric: str, mesh: Mesh) -> Iterator[Offer | None]:
    """What `StageLoop.offer` is inside the context: a checkpoint's `offer`; None where no metric is named."""
    if not metric:
        yield None
        return
    best = BestCheckpoint(workdir, stage, metric, mesh)
    try:
        yield best.offer
    finally:
        best.close()
