"""One stage in a work directory: started or resumed, trained, measured."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmbc_jax.core.files import plain
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Key, PyTree
from mmbc_jax.evaluation.measure import measure
from mmbc_jax.evaluation.results import StageResult, load_result, save_result, scalars
from mmbc_jax.runs.checkpoint import StageCheckpoints, checkpoint_steps
from mmbc_jax.runs.demonstrations import StageData
from mmbc_jax.runs.epoch import take_runs
from mmbc_jax.runs.fallback import newest_whole
from mmbc_jax.runs.finals import Done
from mmbc_jax.runs.grid import Grid, StageRuns, parent_index, run_keys
from mmbc_jax.runs.logs import MetricLog
from mmbc_jax.runs.loop import StageLoop, StopSignal
from mmbc_jax.runs.measurement import measurement
from mmbc_jax.runs.programs import Programs
from mmbc_jax.runs.restored import template_of
from mmbc_jax.runs.screen import Screen
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.stages import BaseStage


@dataclasses.dataclass(frozen=True)
class StageRun:
    """What a stage of a run is trained with.

    Attributes:
      setup: of the run.
      workdir: of the run.
      screen: for progress.
      grid: of the run.
      stage: which.
      programs: of the run.
      stop: signals.
      log: metric files.
      data: the demonstrations; called where they are needed.
      lane: that the stage belongs to (see `runs.lanes`); "" for none.
      watch: raises where this process should no longer write.
    """

    setup: Setup
    workdir: Path
    screen: Screen
    grid: Grid
    stage: BaseStage
    programs: Programs
    stop: StopSignal
    log: MetricLog
    data: Callable[[], StageData]
    lane: str = ""
    watch: Callable[[], None] = lambda: None
    # the last windows, and as all runs read them
    _shown: list[PyTree] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def runs(self) -> StageRuns:
        """The distinct runs of the stage."""
        return self.stage.runs(self.grid)

    def result(self, parent: Callable[[BaseStage], Done | None], done: Callable[[Done], None]) -> StageResult:
        """Reads the stage's result, or trains it from wherever its checkpoints are and measures it.

        Args:
          parent: the final state of the stage that another one starts from; called where it is needed.
          done: takes the final state, for the stages that start from it.

        Raises:
          UserError: of any kind.
          Interrupted: after saving.
        """
        stage = self.stage
        keep, mesh = self.setup.config.checkpoint.keep, self.programs.mesh
        checkpoints = StageCheckpoints(self.workdir / "checkpoints" / stage.name, keep, mesh=mesh)
        meta = _meta(self)
        try:
            result = load_result(self.workdir, stage.name)
            if result is not None and checkpoints.latest() == stage.schedule.epochs:
                return result
            state = self._train(parent(stage), checkpoints, meta)
        finally:
            checkpoints.close()
        state = mesh.fetch(state, len(self.runs.runs))
        done(Done(state, self.runs))
        return self._measure(state, meta)

    def prepare(self) -> None:
        """Compiles what the stage is trained and evaluated with, before there is a state to start from."""
        stage, runs = self.stage, len(self.runs.runs)
        before = None if stage.parent is None else template_of(stage.parent, runs)
        state = stage.template(stage.make_hparams(self.grid, self.runs), before, ())
        self.programs.prepare(stage, state, self._keys(stage.name))

    def _train(self, parent: Done | None, checkpoints: StageCheckpoints, meta: dict[str, Any]) -> TrainState:
        """The final state of the stage."""
        stage = self.stage
        if "demonstrations" in stage.needs:
            meta["data"] = self.data().fingerprint
        state, first_epoch = self._start(parent, checkpoints, meta)
        if first_epoch == stage.schedule.epochs:
            return state
        seeds = [(point, seed) for point, seed in meta["runs"]]
        with self.screen.status(f"{stage.name}: compiling"):
            program = self.programs.epoch(stage, state, self._shared(first_epoch), len(seeds))
        evaluate = self._evaluate if self.setup.env is not None else None
        told = (self.log, checkpoints, meta, self.stop, self.screen)
        loop = StageLoop(stage.name, stage.schedule, seeds, *told, evaluate, self.programs.mesh, self.watch)
        return loop.run(program, state, self._shared, first_epoch)

    def _start(
        self, parent: Done | None, checkpoints: StageCheckpoints, meta: dict[str, Any]
    ) -> tuple[TrainState, int]:
        """(the state to go on from, epochs that it has behind it)."""
        hp = self.stage.make_hparams(self.grid, self.runs)
        before = None if parent is None else take_runs(parent.state, parent_index(parent.runs, self.runs))
        shared = self._shared(0)
        stage, log = self.stage, self.log
        if not checkpoint_steps(checkpoints.directory):
            return self.programs.start(stage, self._keys(stage.name), hp, before, shared), 0
        template = stage.template(hp, before, shared)
        state, step, saved = newest_whole(checkpoints, template, log, self.screen.line)
        if meta["data"]:
            self.data().check(saved.get("data", ""), f"stage {self.stage.name}")
        meta["seconds"] = saved.get("seconds", 0.0)
        return state, step

    def _keys(self, label: str) -> Key:
        return run_keys(label, [self.grid.seeds[index] for _, index in self.runs.runs])

    def _shared(self, epoch: int) -> PyTree:
        """What all runs read in an epoch."""
        if "demonstrations" not in self.stage.needs:
            return ()
        windows = self.data().training(epoch)
        if not self._shown or self._shown[0] is not windows:
            self._shown[:] = windows, self.programs.mesh.share((windows, self.data().normalizer))
        return self._shown[1]

    def _evaluate(self, state: TrainState, epoch: int) -> list[dict[str, float]]:
        """Metrics of each run during training."""
        keys = self._keys(f"evaluate/{self.stage.name}/{epoch}")
        _, metrics = self.programs.evaluate(self.stage, state, keys)
        return [{f"eval/{name}": value for name, value in scalars(run).items()} for run in metrics]

    def _measure(self, state: TrainState, meta: dict[str, Any]) -> StageResult:
        """Measures the final state and writes the stage's result."""
        stage = self.stage
        facts = {
            "train_seconds": meta.get("seconds", 0.0),
            "lane": self.lane,
            "env_steps": stage.env_steps,
            "train_steps": stage.schedule.epochs * stage.schedule.steps_per_epoch,
        }
        with self.screen.status(f"{stage.name}: evaluating"):
            result = measure(
                measurement(self.setup),
                stage,
                state,
                self.runs.index,
                self._keys,
                self.programs,
                self.data,
                facts,
            )
        if self.programs.mesh.is_writer:
            save_result(self.workdir, result)
        return result


def _meta(run: StageRun) -> dict[str, Any]:
    """What every checkpoint of a stage says of itself."""
    stage, seeds = run.stage, run.grid.seeds
    return {
        "stage": stage.name,
        "config": plain(run.setup.config),
        "obs": run.setup.obs.to_json(),
        "action_dim": run.setup.action_dim,
        "runs": [[point, seeds[index]] for point, index in run.runs.runs],
        "parent": stage.parent.name if stage.parent else "",
        "data": "",  # fingerprint of the demonstrations, of a stage that learns from them
        "lane": run.lane,
        "cloned": stage.policy() is not None,
    }
