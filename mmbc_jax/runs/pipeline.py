"""Runs the stages of a configuration in a work directory, resuming whatever is already there."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from mmbc_jax.core.files import plain, read_json, write_json
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import PyTree
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.evaluation.measure import measure
from mmbc_jax.evaluation.results import StageResult, load_result, save_result, scalars
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.checkpoint import StageCheckpoints, checkpoint_steps, read_meta
from mmbc_jax.runs.options import STAGES
from mmbc_jax.runs.demonstrations import StageData
from mmbc_jax.runs.epoch import check_runs, take_runs
from mmbc_jax.runs.grid import Grid, StageRuns, check_grid, config_grid, parent_index, run_keys
from mmbc_jax.runs.logs import MetricLog
from mmbc_jax.runs.measurement import measurement
from mmbc_jax.runs.loop import Interrupted, StageLoop, StopSignal
from mmbc_jax.runs.programs import Programs
from mmbc_jax.runs.restored import restore_stage
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.sources import find_sources
from mmbc_jax.runs.stages import BaseStage, all_traced, make_stages
from mmbc_jax.runs.workdir import claim_workdir


@dataclasses.dataclass
class Done:
    """A stage's final state with the runs it consists of."""

    state: TrainState
    runs: StageRuns


class Pipeline:
    """One run: stages x sweep points x seeds.

    Args:
      setup: what the configuration names.
      workdir: where everything is written; see `workdir.claim_workdir`.
      console: for progress.
    """

    def __init__(self, setup: Setup, workdir: Path, console: Console):
        self.setup, self.workdir, self.console = setup, Path(workdir), console
        config = setup.config
        self.grid: Grid = config_grid(config)
        self.names = tuple(name for name in STAGES if name in config.stages)
        self._sources = find_sources(config, self.names, self.grid)
        self.stages = make_stages(setup, (*self._sources, *self.names))
        for name in self.names:
            self.stages[name].check()
        check_grid(self.grid, all_traced(self.stages.values()))
        for point in range(len(self.grid.points)):
            setup_lib.check_point(setup, self.grid.values(point))
            check_runs(config.sweep.mode, max(len(s.runs(self.grid).runs) for s in self.stages.values()))
        self.stop = StopSignal()
        self.programs = Programs(setup)
        self._done: dict[str, Done] = {}
        self._data: StageData | None = None
        self._episodes: Episodes | None = None

    def run(self) -> dict[str, StageResult]:
        """Runs or resumes every stage.

        Returns:
          The results of each stage in order.

        Raises:
          UserError: of any kind, before anything compiles where possible.
          Interrupted: SIGTERM or SIGINT arrived; the state is saved.
        """
        first_start = not os.path.exists(self.workdir / "config.json")
        if first_start and self.setup.config.data.path and any(map(self._learns_from_data, self.names)):
            # Before the directory is claimed, so that a mistyped path leaves nothing behind.
            self._episodes = setup_lib.load_episodes(self.setup)
        claim_workdir(self.workdir, self.setup.config)
        results = {}
        with self.stop.installed():
            log = MetricLog(self.workdir, self._log_bytes())
            try:
                for name in self.names:
                    if self.stop.received:
                        raise Interrupted
                    results[name] = self._run_stage(self.stages[name], log)
            finally:
                log.close()
        return results

    @property
    def data(self) -> StageData:
        """The demonstrations, read or recorded when a stage first needs them."""
        if self._data is None:
            self._data = StageData.prepare(self.setup, self.workdir, self._episodes)
            if not (self.workdir / "data.json").exists():
                write_json(self.workdir / "data.json", self._data.facts())
        return self._data

    def data_facts(self) -> dict[str, Any]:
        """Where the demonstrations came from and how their modes are separated; read back if recorded."""
        path = self.workdir / "data.json"
        return read_json(path) if path.exists() else {}

    def _learns_from_data(self, name: str) -> bool:
        return "demonstrations" in self.stages[name].needs

    def _log_bytes(self) -> int:
        """Bytes of the metric file that the newest checkpoint of this work directory had seen."""
        sizes = [0]
        for name in self.names:
            directory = self.workdir / "checkpoints" / name
            if checkpoint_steps(directory):
                sizes.append(int(read_meta(directory)[1]["log_bytes"]))
        return max(sizes)

    def _run_stage(self, stage: BaseStage, log: MetricLog) -> StageResult:
        runs = stage.runs(self.grid)
        seeds = [(point, self.grid.seeds[index]) for point, index in runs.runs]
        checkpoints = StageCheckpoints(
            self.workdir / "checkpoints" / stage.name, self.setup.config.checkpoint.keep
        )
        meta = {
            "stage": stage.name,
            "config": plain(self.setup.config),
            "obs": self.setup.obs.to_json(),
            "action_dim": self.setup.action_dim,
            "runs": [list(run) for run in seeds],
            "parent": stage.parent.name if stage.parent else "",
            "cloned": stage.policy() is not None,
        }
        try:
            result = load_result(self.workdir, stage.name)
            if result is not None and checkpoints.latest() == stage.schedule.epochs:
                return result
            state = self._train(stage, runs, log, checkpoints, meta)
        finally:
            checkpoints.close()
        self._done[stage.name] = Done(state, runs)
        return self._finish(stage, runs, state, meta)

    def _train(
        self,
        stage: BaseStage,
        runs: StageRuns,
        log: MetricLog,
        checkpoints: StageCheckpoints,
        meta: dict[str, Any],
    ) -> TrainState:
        """The final state of a stage, trained from wherever its checkpoints are."""
        state, first_epoch = self._start(stage, runs, checkpoints, meta)
        if first_epoch < stage.schedule.epochs:
            with self.console.status(f"{stage.name}: compiling"):
                program = self.programs.epoch(stage, state, self._shared(stage))
            evaluate = None
            if self.setup.env is not None:
                evaluate = lambda state, epoch: self._training_evaluation(stage, runs, state, epoch)  # noqa: E731
            seeds = [(point, seed) for point, seed in meta["runs"]]
            loop = StageLoop(
                stage.name, stage.schedule, seeds, log, checkpoints, meta, self.stop, self.console, evaluate
            )
            state = loop.run(program, state, self._shared(stage), first_epoch)
        return state

    def _start(
        self, stage: BaseStage, runs: StageRuns, checkpoints: StageCheckpoints, meta: dict[str, Any]
    ) -> tuple[TrainState, int]:
        hp = stage.make_hparams(self.grid, runs)
        parent = self._parent_state(stage, runs)
        shared = self._shared(stage)
        latest = checkpoints.latest()
        if latest is not None:
            _, saved = read_meta(checkpoints.directory)
            meta["seconds"] = saved.get("seconds", 0.0)
            return checkpoints.restore(latest, stage.template(hp, parent, shared)), latest
        return jax.jit(stage.start)(self._keys(stage.name, runs), hp, parent, shared), 0

    def _keys(self, label: str, runs: StageRuns) -> PyTree:
        return run_keys(label, [self.grid.seeds[index] for _, index in runs.runs])

    def _shared(self, stage: BaseStage) -> PyTree:
        if not self._learns_from_data(stage.name):
            return ()
        return self.data.train_windows, self.data.normalizer

    def _parent_state(self, stage: BaseStage, runs: StageRuns) -> PyTree:
        """[R] final states of the parent stage; None where it has none."""
        if stage.parent is None:
            return None
        parent = self._final(stage.parent.name)
        return take_runs(parent.state, parent_index(parent.runs, runs))

    def _final(self, name: str) -> Done:
        """The final state of a stage: from memory, this work directory, or `start_from`."""
        if name not in self._done:
            directory = self._sources.get(name, self.workdir / "checkpoints" / name)
            state, saved = restore_stage(self.setup, name, directory)
            runs = self.stages[name].runs(self.grid)
            if name in self._sources:  # one point, whose seeds may be more than, or ordered unlike, ours
                seeds = [seed for _, seed in saved]
                index = np.array([[seeds.index(seed) for seed in self.grid.seeds]] * len(self.grid.points))
                runs = StageRuns(tuple((0, i) for i in range(len(saved))), index)
            self._done[name] = Done(state, runs)
        return self._done[name]

    def _training_evaluation(
        self, stage: BaseStage, runs: StageRuns, state: TrainState, epoch: int
    ) -> list[dict[str, float]]:
        keys = self._keys(f"evaluate/{stage.name}/{epoch}", runs)
        _, metrics = self.programs.evaluate(stage, state, keys)
        return [{f"eval/{name}": value for name, value in scalars(run).items()} for run in metrics]

    def _finish(
        self, stage: BaseStage, runs: StageRuns, state: TrainState, meta: dict[str, Any]
    ) -> StageResult:
        """Measures the final state and writes the stage's result."""
        facts = {
            "train_seconds": meta.get("seconds", 0.0),
            "env_steps": stage.env_steps,
            "train_steps": stage.schedule.epochs * stage.schedule.steps_per_epoch,
        }
        with self.console.status(f"{stage.name}: evaluating"):
            result = measure(
                measurement(self.setup),
                stage,
                state,
                runs.index,
                lambda label: self._keys(label, runs),
                self.programs,
                lambda: self.data,
                facts,
            )
        save_result(self.workdir, result)
        return result


def make_pipeline(config: Any, workdir: Path, console: Console) -> Pipeline:
    """Builds and checks everything that needs no compilation."""
    return Pipeline(setup_lib.build(config), workdir, console)
