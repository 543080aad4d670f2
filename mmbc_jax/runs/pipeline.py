"""Runs the stages of a configuration in a work directory, resuming whatever is already there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from mmbc_jax.core import registry
from mmbc_jax.evaluation.results import StageResult
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.checkpoint import DamagedError, checkpoint_steps
from mmbc_jax.runs.demonstrations import Demonstrations
from mmbc_jax.runs.described import stage_meta
from mmbc_jax.runs.extension import check_extension
from mmbc_jax.runs.fallback import mark_of
from mmbc_jax.runs.finals import Done, Finals
from mmbc_jax.runs.grid import Grid, check_grid, config_grid
from mmbc_jax.runs.lanes import FOLDER, Lane, Lanes, announced, choose
from mmbc_jax.runs.lock import WorkdirLock
from mmbc_jax.runs.logger import Logger, Place, make_loggers, namer
from mmbc_jax.runs.logs import Mark, MetricLog, check_seen, read_rows
from mmbc_jax.runs.loop import Interrupted, StopSignal
from mmbc_jax.runs.mesh import make_mesh
from mmbc_jax.runs.mode_choice import Modes
from mmbc_jax.runs.plain_screen import screen_of
from mmbc_jax.runs.programs import Programs
from mmbc_jax.runs.resources import check_sizes
from mmbc_jax.runs.restored import check_start
from mmbc_jax.runs.run_options import STAGES
from mmbc_jax.runs.screen import Screen
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.sources import find_sources
from mmbc_jax.runs.stage_run import StageRun
from mmbc_jax.runs.stages import BaseStage, all_traced, make_stages
from mmbc_jax.runs.workdir import Change, claim_workdir, has_trained, opened


class Pipeline:
    """One run: stages x sweep points x seeds.

    Args:
      setup: what the configuration names.
      workdir: where everything is written; see `workdir.claim_workdir`.
      screen: for progress.
      extend: train a run that is there on where only `workdir.LENGTHS` differ from its own, all longer.
    """

    def __init__(self, setup: Setup, workdir: Path, screen: Screen, extend: bool = False):
        self.setup, self.workdir, self.screen = setup, Path(workdir), screen
        self._lock, self._extend = WorkdirLock(self.workdir), extend
        config = setup.config
        self.grid: Grid = config_grid(config)
        self.names = tuple(name for name in STAGES if name in config.stages)
        self.sources = find_sources(setup, self.names, self.grid)
        self.stages = make_stages(setup, (*self.sources.directories, *self.names))
        for name in self.names:
            self.stages[name].check()
            check_start(self.stages[name])
        used = {section for name in self.names for section in self.stages[name].policy_sections}
        registry.check_base(config.prior.name, config.sampler.name, {one: config[one].name for one in used})
        check_grid(self.grid, all_traced(self.stages.values()))
        setup_lib.check_points(setup, self.grid)
        if not has_trained(self.workdir):
            check_sizes(setup, self.trained, self.grid, self.workdir)
        loggers_of(self)  # says what is missing before anything compiles
        self.stop = StopSignal()
        self.mesh = make_mesh(config.sweep.mode, config.mesh.runs, config.mesh.batch, self.grid.size)
        modes = Modes(self.workdir / "modes.json", screen.line)
        self.programs = Programs(setup, self.mesh, modes=modes)
        self._finals = Finals(setup, self.workdir, self.grid, self.stages, self.sources)
        cloning = [name for name in self.names if "demonstrations" in self.stages[name].needs]
        self.demonstrations = Demonstrations(
            setup, self.workdir, self.mesh, cloning, screen.line, self._finals.scales
        )

    def run(self, meanwhile: Callable[[], None] = lambda: None) -> dict[str, StageResult]:
        """Runs or resumes every stage.

        Args:
          meanwhile: called before the run waits for its lanes, if for anything.

        Returns:
          The results of each stage in order.

        Raises:
          UserError: of any kind, before anything compiles where possible.
          Interrupted: SIGTERM or SIGINT arrived; the state is saved.
        """
        with self.exclusive():
            return self._run(meanwhile)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the work directory against other processes, once the demonstrations are known to be readable.

        Raises:
          DataError: they are not. A mistyped path leaves no directory behind.
          WorkdirError: another process has it, or it cannot be used.
        """
        self.demonstrations.read()
        if not self.mesh.is_writer:
            yield
            return
        with opened(self.workdir, self._lock):
            yield

    def _run(self, meanwhile: Callable[[], None]) -> dict[str, StageResult]:
        with self.mesh.writer_first():
            claim_workdir(self.workdir, self.setup.config, self.mesh.is_writer, self._extends)
        if self.sources.line:
            self.screen.line(self.sources.line)
        if lanes := self._lanes():
            self.screen.line(announced(lanes))
        laned = {name for lane in lanes for name in lane.stages}
        results = {}
        with self.stop.installed(), Lanes(self.workdir, lanes) as side:
            log = _open_log(self, laned)
            try:
                for source in ("", *self.sources.directories):
                    side.go(source)
                for name in (name for name in self.names if name not in laned):
                    results[name] = self._run_stage(self.stages[name], log, side.go)
                    side.go(name)
                self.demonstrations.write_facts()  # while the lanes train
                meanwhile()
                _join(side, log, self.screen, self.stop)
                for name in (name for name in self.names if name in laned):
                    results[name] = self._run_stage(self.stages[name], log)
            finally:
                log.close()
        return {name: results[name] for name in self.names}

    def prepare(self, lane: Lane) -> None:
        """Compiles what the stages of a lane need, before there is a state to start from."""
        self.programs.modes.path = self.workdir / FOLDER / lane.name / "modes.json"
        for name in lane.stages:
            self._stage_run(self.stages[name], None, lane.name).prepare()

    def run_lane(self, lane: Lane) -> None:
        """Runs or resumes the stages of a lane, in its own process; what they start from is saved.

        Raises:
          UserError: of any kind.
          Interrupted: SIGTERM or SIGINT arrived; the state is saved.
        """
        log = _open_lane_log(self, lane)
        try:
            for name in lane.stages:
                self._run_stage(self.stages[name], log, lane=lane.name)
        finally:
            log.close()

    @property
    def trained(self) -> list[BaseStage]:
        """The stages that this run trains, in order."""
        return [self.stages[name] for name in self.names]

    def _extends(self, changes: list[Change]) -> bool:
        return self._extend and check_extension(self.workdir, self.trained, changes)

    def _lanes(self) -> list[Lane]:
        alone = self.mesh.devices is None and jax.process_count() == 1 and jax.default_backend() == "cpu"
        return choose(self.setup.config.mesh.cores, self.trained, self.grid.size, self.workdir, alone)

    def _stage_run(self, stage: BaseStage, log: MetricLog | None, lane: str) -> StageRun:
        shared = (self.setup, self.workdir, self.screen, self.grid)
        log = log or MetricLog(self.workdir, write=False)
        data = lambda: self.demonstrations.data  # noqa: E731  (prepared when a stage first asks)
        return StageRun(*shared, stage, self.programs, self.stop, log, data, lane, self._lock.check)

    def _run_stage(
        self,
        stage: BaseStage,
        log: MetricLog,
        saved: Callable[[str], None] = lambda name: None,
        lane: str = "",
    ) -> StageResult:
        """The result of a stage; `saved` is called with its name as soon as its final state is on disk."""
        if self.mesh.any_process(self.stop.received is not None):
            raise Interrupted

        def done(final: Done) -> None:
            self._finals.keep(stage.name, final)
            saved(stage.name)

        return self._stage_run(stage, log, lane).result(self._finals.parent_of, done)


def loggers_of(pipeline: Pipeline, stages: tuple[str, ...] | None = None) -> list[Logger]:
    """What writes a run's rows besides `metrics.jsonl`: those of `stages` in this process, or of all with None."""
    traced = {name: stage.traced for name, stage in pipeline.stages.items()}
    place = Place(pipeline.workdir, stages, namer(pipeline.grid, traced))
    return make_loggers(pipeline.setup.config, place)


def _open_log(run: Pipeline, laned: Collection[str]) -> MetricLog:
    """The log of a run, from where its newest checkpoint was; the stages of lanes log their own."""
    seen = _log_seen(run.workdir, run.names)
    own = loggers_of(run, tuple(name for name in run.names if name not in laned) if laned else None)
    return MetricLog(run.workdir, seen, write=run.mesh.is_writer, loggers=own)


def _open_lane_log(run: Pipeline, lane: Lane) -> MetricLog:
    """In the process of a lane, the log of the lane."""
    seen = _log_seen(run.workdir, lane.stages, lane.name)
    own = loggers_of(run, lane.stages)
    return MetricLog(run.workdir, seen, folder=f"{FOLDER}/{lane.name}", loggers=own)


def _log_seen(workdir: Path, names: Sequence[str], lane: str = "") -> Mark:
    """What the newest checkpoint of a lane, or with "" of the run itself, had seen of its metric file."""
    marks: list[Mark] = [{}]
    for name in names:
        directory = workdir / "checkpoints" / name
        for step in reversed(checkpoint_steps(directory)):
            with suppress(DamagedError):  # the stage says so when it restores it
                meta = stage_meta(directory, step)[1]
                marks += [mark_of(meta)] if meta.get("lane", "") == lane else []
                break
    return max(marks, key=lambda mark: mark.get("log_bytes", 0))


def _join(side: Lanes, log: MetricLog, screen: Screen, stop: StopSignal) -> None:
    """Waits for the lanes, and takes over their rows in the order of the stages."""
    if not side.lanes:
        return
    with screen.bars() as bars:
        if side.wait(bars, lambda: stop.received is not None):
            raise Interrupted
    for lane in side.lanes:
        path = side.workdir / FOLDER / lane.name / "metrics.jsonl"
        seen = _log_seen(side.workdir, lane.stages, lane.name)
        if seen:
            check_seen(path, seen)
            log.append(read_rows(path))
    log.sync().result()  # whoever counts the steps to success reads the file


def make_pipeline(config: Any, workdir: Path, console: Console, extend: bool = False) -> Pipeline:
    """Builds and checks everything that needs no compilation; see `Pipeline`."""
    return Pipeline(setup_lib.build(config), workdir, screen_of(console), extend)
