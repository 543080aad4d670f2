"""The final states of stages, from which others start: just trained, in the work directory, or of `start_from`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from mmbc_jax.core.errors import CheckpointError
from mmbc_jax.core.state import TrainState
from mmbc_jax.ops.normalisation import Normalizer
from mmbc_jax.runs.checkpoint import DamagedError, read_meta
from mmbc_jax.runs.divergence import STOPPED
from mmbc_jax.runs.grid import Grid, StageRuns
from mmbc_jax.runs.restored import restore_stage
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.sources import Sources
from mmbc_jax.runs.stages import BaseStage


@dataclasses.dataclass
class Done:
    """A stage's final state with the runs it consists of, and those of them that have diverged."""

    state: TrainState
    runs: StageRuns
    stopped: frozenset[int] = frozenset()


class Finals:
    """The final states of a run.

    Args:
      setup: of the run.
      workdir: of the run.
      grid: of the run.
      stages: that it trains or takes over, by name.
      sources: what `start_from` provides.
    """

    def __init__(
        self, setup: Setup, workdir: Path, grid: Grid, stages: Mapping[str, BaseStage], sources: Sources
    ):
        self._setup, self._workdir, self._grid = setup, workdir, grid
        self._stages, self._sources = stages, sources
        self._done: dict[str, Done] = {}

    def keep(self, name: str, final: Done) -> None:
        """Remembers the final state of a stage that has just been trained."""
        self._done[name] = final

    def parent_of(self, stage: BaseStage) -> Done | None:
        """What a stage starts from: its own weights in `start_from` where it starts warm; None for nothing.

        Raises:
          CheckpointError: it is damaged.
        """
        if stage.name in self._sources.warm:
            return self._taken(stage, self._sources.warm[stage.name])
        return None if stage.parent is None else self._final(stage.parent.name)

    def scales(self) -> Normalizer | None:
        """The normaliser of the clone that bc starts from; None where it starts from nothing."""
        if "bc" not in self._sources.warm:
            return None
        state = self._taken(self._stages["bc"], self._sources.warm["bc"]).state
        scales: Normalizer = jax.tree.map(lambda leaf: leaf[0], state.stats["normalizer"])
        return scales

    def _final(self, name: str) -> Done:
        if name not in self._done:
            stage = self._stages[name]
            if name in self._sources.directories:
                self._done[name] = self._taken(stage, self._sources.directories[name])
            else:
                self._done[name] = Done(
                    self._restored(name),
                    stage.runs(self._grid),
                    stopped_of(self._workdir / "checkpoints" / name),
                )
        return self._done[name]

    def _taken(self, stage: BaseStage, directory: Path) -> Done:
        """A stage of `start_from`: of one point, whose seeds may be more than, or ordered unlike, ours."""
        state, saved = restore_stage(self._setup, stage.name, directory)
        seeds = [seed for _, seed in saved]
        index = np.array([[seeds.index(seed) for seed in self._grid.seeds]] * len(self._grid.points))
        runs = StageRuns(tuple((0, i) for i in range(len(saved))), index)
        return Done(state, runs, stopped_of(directory))

    def _restored(self, name: str) -> TrainState:
        try:
            return restore_stage(self._setup, name, self._workdir / "checkpoints" / name)[0]
        except DamagedError as error:
            raise CheckpointError(
                f"{error}; remove that folder and repeat the command, which trains {name} on from the one before"
            ) from error


def stopped_of(directory: Path) -> frozenset[int]:
    """The runs that have diverged, as the newest checkpoint of a stage says."""
    return frozenset(int(run) for run in read_meta(directory)[1].get(STOPPED, ()))
