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

from mmbc_jax.core.errors import CheckpointError, ConfigError
from mmbc_jax.core.files import plain, read_json, write_json
from mmbc_jax.core.types import PyTree
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs import stages as stages_lib
from mmbc_jax.runs.checkpoint import StageCheckpoints, checkpoint_steps, find_stage, read_meta
from mmbc_jax.runs.demonstrations import StageData
from mmbc_jax.runs.defaults import STAGES
from mmbc_jax.runs.diagnose import diagnose
from mmbc_jax.runs.epoch import check_runs, take_runs
from mmbc_jax.runs.grid import Grid, StageRuns, check_grid, parent_index, parse_grid, run_keys
from mmbc_jax.runs.logs import MetricLog
from mmbc_jax.runs.loop import Interrupted, StageLoop, StopSignal
from mmbc_jax.runs.programs import Programs
from mmbc_jax.runs.restored import restore_stage
from mmbc_jax.evaluation.results import StageResult, load_result, save_result, scalars
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.stages import Stage
from mmbc_jax.core.state import TrainState
from mmbc_jax.runs.workdir import changed_fields, claim_workdir


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
        self.grid: Grid = parse_grid(config.sweep.grid, config.seeds, config.first_seed)
        check_grid(self.grid, stages_lib.all_traced(setup))
        twice = [path for path in self.grid.paths if self.grid.paths.count(path) > 1]
        if twice:
            raise ConfigError("sweep.grid", config.sweep.grid, f"without naming {twice[0]} twice")
        for point in range(len(self.grid.points)):
            setup_lib.check_point(setup, self.grid.values(point))
        self.names = tuple(name for name in STAGES if name in config.stages)
        self.stop = StopSignal()
        self.programs = Programs(setup)
        self._done: dict[str, Done] = {}
        self._data: StageData | None = None
        self._episodes: Episodes | None = None
        self._sources = self._find_sources()
        available = tuple(dict.fromkeys((*self._sources, *self.names)))
        self.stages = {name: stages_lib.make_stage(setup, name, available) for name in available}
        for name in self.names:
            check_runs(config.sweep.mode, len(self.stages[name].runs(self.grid).runs))

    def run(self) -> dict[str, StageResult]:
        """Runs or resumes every stage.

        Returns:
          The results of each stage in order.

        Raises:
          UserError: of any kind, before anything compiles where possible.
          Interrupted: SIGTERM or SIGINT arrived; the state is saved.
        """
        first_start = not os.path.exists(self.workdir / "config.json")
        if first_start and self.setup.config.data.path and {"bc", "baseline", "dagger"} & set(self.names):
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

    def _find_sources(self) -> dict[str, Path]:
        """Stages left out here that `start_from` provides, with their checkpoint directories."""
        start_from = self.setup.config.start_from
        if not start_from:
            return {}
        found = {}
        for name in ("bc", "discover"):
            if name in self.names:
                continue
            try:
                found[name], _ = find_stage(Path(start_from), (name,))
            except CheckpointError:
                if name == "bc":
                    raise
        for name, directory in found.items():
            self._check_source(name, directory)
        return found

    def _check_source(self, name: str, directory: Path) -> None:
        _, meta = read_meta(directory)
        config = plain(self.setup.config)
        sections = ["env", "policy", "prior", "sampler", "chunk"]
        if name == "discover":
            sections += ["actor", "discriminator"]
        if name == "bc" and "dagger" in self.names:
            sections += ["data"]  # whose windows were normalised as the clone's were
        for section in sections:
            differ = changed_fields(meta["config"].get(section), config[section], section)
            if differ:
                raise CheckpointError(f"checkpoint {directory} belongs to another configuration: {differ[0]}")
        if name == "discover" and meta["config"]["finetune"]["num_modes"] != config["finetune"]["num_modes"]:
            raise CheckpointError(
                f"checkpoint {directory} has finetune.num_modes = {meta['config']['finetune']['num_modes']}, "
                f"not {config['finetune']['num_modes']}"
            )
        missing = set(self.grid.seeds) - {seed for _, seed in meta["runs"]}
        if missing or len({point for point, _ in meta["runs"]}) > 1:
            raise CheckpointError(
                f"checkpoint {directory} holds (point, seed) runs {meta['runs']}; "
                f"one point with seeds {list(self.grid.seeds)} is needed"
            )

    def _log_bytes(self) -> int:
        """Bytes of the metric file that the newest checkpoint of this work directory had seen."""
        sizes = [0]
        for name in self.names:
            directory = self.workdir / "checkpoints" / name
            if checkpoint_steps(directory):
                sizes.append(int(read_meta(directory)[1]["log_bytes"]))
        return max(sizes)

    def _run_stage(self, stage: Stage, log: MetricLog) -> StageResult:
        runs = stage.runs(self.grid)
        seeds = [(point, self.grid.seeds[index]) for point, index in runs.runs]
        checkpoints = StageCheckpoints(
            self.workdir / "checkpoints" / stage.name, self.setup.config.checkpoint.keep
        )
        meta = {
            "stage": stage.name,
            "config": plain(self.setup.config),
            "dims": [self.setup.obs_dim, self.setup.action_dim],
            "runs": [list(run) for run in seeds],
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
        stage: Stage,
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
        self, stage: Stage, runs: StageRuns, checkpoints: StageCheckpoints, meta: dict[str, Any]
    ) -> tuple[TrainState, int]:
        hp = stage.make_hparams(self.grid, runs)
        parent = self._parent_state(stage, runs)
        shared = self._shared(stage)
        latest = checkpoints.latest()
        if latest is not None:
            _, saved = read_meta(checkpoints.directory)
            meta["seconds"] = saved.get("seconds", 0.0)
            return checkpoints.restore(latest, stages_lib.template(stage, hp, parent, shared)), latest
        init = jax.jit(jax.vmap(stage.init, in_axes=(0, 0, 0, None)))
        return init(self._keys(stage.name, runs), hp, parent, shared), 0

    def _keys(self, label: str, runs: StageRuns) -> PyTree:
        return run_keys(label, [self.grid.seeds[index] for _, index in runs.runs])

    def _shared(self, stage: Stage) -> PyTree:
        if stage.num_modes is not None:
            return ()
        return self.data.train_windows, self.data.normalizer

    def _parent_state(self, stage: Stage, runs: StageRuns) -> PyTree:
        """[R] final states of the parent stage, or an empty tree."""
        if stage.parent is None:
            return {}
        parent = self._final(stage.parent)
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
        self, stage: Stage, runs: StageRuns, state: TrainState, epoch: int
    ) -> list[dict[str, float]]:
        keys = self._keys(f"evaluate/{stage.name}/{epoch}", runs)
        _, metrics = self.programs.evaluate(stage, state, keys)
        return [{f"eval/{name}": value for name, value in scalars(run).items()} for run in metrics]

    def _finish(self, stage: Stage, runs: StageRuns, state: TrainState, meta: dict[str, Any]) -> StageResult:
        """Evaluates the final state and writes the stage's result."""
        start = time.perf_counter()
        metrics: list[dict[str, Any]] = [{} for _ in runs.runs]
        rollouts = None
        with self.console.status(f"{stage.name}: evaluating"):
            if self.setup.env is not None:
                keys = self._keys(f"evaluate/{stage.name}", runs)
                rollouts, metrics = self.programs.evaluate(stage, state, keys)
            if stage.num_modes is None and self.data.held_out is not None:
                offline = self.data.offline(stage, state, self._keys(f"offline/{stage.name}", runs))
                metrics = [{**ours, **theirs} for ours, theirs in zip(metrics, offline, strict=True)]
            if stage.num_modes is None and self.setup.config.diagnostics:
                keys = self._keys(f"diagnose/{stage.name}", runs)
                figures = diagnose(self.setup, stage, state, self.data.train_windows, rollouts, keys)
                metrics = [{**ours, **theirs} for ours, theirs in zip(metrics, figures, strict=True)]
        facts = {
            "train_seconds": meta.get("seconds", 0.0),
            "evaluate_seconds": time.perf_counter() - start,
            **self.programs.facts(stage.name),
            "temp_bytes": self.programs.temp_bytes(stage, len(runs.runs)),
            "env_steps": stage.env_steps,
            "train_steps": stage.schedule.epochs * stage.schedule.steps_per_epoch,
        }
        metrics = plain(metrics)  # as a resumed run will read them back
        result = StageResult(stage.name, stage.num_modes or 1, runs.index, metrics, facts, rollouts)
        save_result(self.workdir, result)
        return result


def make_pipeline(config: Any, workdir: Path, console: Console) -> Pipeline:
    """Builds and checks everything that needs no compilation."""
    return Pipeline(setup_lib.build(config), workdir, console)
