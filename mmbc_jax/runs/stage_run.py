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
from mmbc_jax.data.fingerprint import check_same, fingerprint
from mmbc_jax.evaluation.measure import measure
from mmbc_jax.evaluation.results import StageResult, load_result, save_result, scalars, without_figures
from mmbc_jax.runs.best import keeping
from mmbc_jax.runs.checkpoint import StageCheckpoints, checkpoint_steps
from mmbc_jax.runs.demonstrations import StageData
from mmbc_jax.runs.divergence import INSTANCES, STOPPED, evaluated_lines
from mmbc_jax.runs.epoch import take_runs
from mmbc_jax.runs.fallback import newest_whole
from mmbc_jax.runs.finals import Done
from mmbc_jax.runs.grid import Grid, StageRuns, parent_index, run_keys
from mmbc_jax.runs.logs import MetricLog
from mmbc_jax.runs.loop import StageLoop, StopSignal
from mmbc_jax.runs.measurement import measurement
from mmbc_jax.runs.milestones import CLOCK, FIGURE, SECONDS, seconds_at, steps_to_success
from mmbc_jax.runs.programs import Programs
from mmbc_jax.runs.screen import Screen
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.stages import BaseStage
from mmbc_jax.runs.templates import OWN_SCALE, has_own_scale, likely_own_scale, template_of

_SUCCESS = frozenset({"rollout/success_rate", "dagger/success_rate"})


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
          parent: what it starts from; called where that is needed.
          done: takes its final state.

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
        done(Done(state, self.runs, frozenset(map(int, meta[STOPPED]))))
        return _measured(self, state, meta)

    def prepare(self) -> None:
        """Compiles what the stage is trained and evaluated with, before there is a state to start from."""
        stage, runs = self.stage, len(self.runs.runs)
        before = (
            None if stage.parent is None else template_of(stage.parent, runs, likely_own_scale(self.setup))
        )
        state = stage.template(stage.make_hparams(self.grid, self.runs), before, ())
        self.programs.prepare(stage, state, self.keys(stage.name))

    def _train(self, parent: Done | None, checkpoints: StageCheckpoints, meta: dict[str, Any]) -> TrainState:
        """The final state of the stage."""
        stage = self.stage
        if "demonstrations" in stage.needs:
            meta["data"] = fingerprint(self.data().episodes)
        state, first_epoch = self._start(parent, checkpoints, meta)
        meta[OWN_SCALE] = has_own_scale(state)
        if first_epoch == stage.schedule.epochs:
            return state
        seeds = [(point, seed) for point, seed in meta["runs"]]
        with self.screen.status(f"{stage.name}: compiling its training"):
            program = self.programs.epoch(stage, state, self._shared(first_epoch), len(seeds))
        evaluate = self._evaluate if self.setup.env is not None else None
        told = (self.log, checkpoints, meta, self.stop, self.screen)
        mesh, metric = self.programs.mesh, self.setup.config.checkpoint.best
        with keeping(self.workdir, stage.name, metric, mesh) as offer:
            loop = StageLoop(
                stage.name,
                stage.schedule,
                seeds,
                *told,
                evaluate,
                mesh,
                self.watch,
                offer,
                stage.learner.num_envs,
                frozenset() if self.setup.env is None or self.setup.env_spec.has_success else _SUCCESS,
            )
            return loop.run(program, state, self._shared, first_epoch)

    def _start(
        self, parent: Done | None, checkpoints: StageCheckpoints, meta: dict[str, Any]
    ) -> tuple[TrainState, int]:
        """(the state to go on from, epochs that it has behind it)."""
        hp = self.stage.make_hparams(self.grid, self.runs)
        before = None
        if parent is not None:
            came = parent_index(parent.runs, self.runs)
            before = take_runs(parent.state, came)
            meta[STOPPED] = {str(run): 0 for run, one in enumerate(came) if int(one) in parent.stopped}
        shared = self._shared(0)
        stage, log = self.stage, self.log
        if not checkpoint_steps(checkpoints.directory):
            return self.programs.start(stage, self.keys(stage.name), hp, before, shared), 0
        template = stage.template(hp, before, shared)
        state, step, saved = newest_whole(checkpoints, template, log, self.screen.line)
        if meta["data"]:
            check_same(self.data().episodes, saved.get("data", ""), f"stage {self.stage.name}")
        meta.update({name: saved[name] for name in ("seconds", STOPPED, INSTANCES, CLOCK) if name in saved})
        return state, step

    def keys(self, label: str) -> Key:
        """[R] keys of the stage's runs for a purpose."""
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
        keys = self.keys(f"evaluate/{self.stage.name}/{epoch}")
        _, metrics = self.programs.evaluate(self.stage, state, keys)
        return [{f"eval/{name}": value for name, value in scalars(run).items()} for run in metrics]


def _measured(run: StageRun, state: TrainState, meta: dict[str, Any]) -> StageResult:
    """Measures the final state of a stage and writes its result."""
    stage, stopped = run.stage, meta[STOPPED]
    facts = {
        "train_seconds": meta.get("seconds", 0.0),
        CLOCK: meta[CLOCK][-1] if len(meta.get(CLOCK, ())) == stage.schedule.epochs else None,
        "lane": run.lane,
        "env_steps": stage.env_steps,
        "train_steps": stage.schedule.epochs * stage.schedule.steps_per_epoch,
        "diverged": meta.get(INSTANCES, 0),
        "stopped": [[*meta["runs"][int(one)], step] for one, step in stopped.items()],
    }
    with run.screen.status(f"{stage.name}: evaluating"):
        what = (measurement(run.setup), stage, state, run.runs.index, run.keys)
        result = measure(*what, run.programs, run.data, facts)
    per_step = stage.env_steps / max(facts["train_steps"], 1)
    reached = steps_to_success(run.log.path, stage.name) if per_step else {}
    result.facts[SECONDS] = _seconds(run, [reached.get((p, seed)) for p, seed in meta["runs"]], meta)
    for metrics, (point, seed) in zip(result.metrics, meta["runs"], strict=True):
        if (point, seed) in reached:
            metrics[FIGURE] = _before(stage) + per_step * reached[point, seed]
    for one in map(int, stopped):
        result.metrics[one] = without_figures(result.metrics[one])
    for line in evaluated_lines(result):
        run.screen.line(line)
    if run.programs.mesh.is_writer:
        save_result(run.workdir, result)
    return result


def _seconds(run: StageRun, reached: list[int | None], meta: dict[str, Any]) -> list[float | None]:
    """[R] seconds of training until each run succeeded; None where it did not, or that is not known."""
    clock, per_epoch = meta.get(CLOCK, ()), run.stage.schedule.steps_per_epoch
    before = _seconds_before(run.workdir, run.stage)
    own = [None if step is None else seconds_at(clock, step, per_epoch) for step in reached]
    return [None if one is None or before is None else before + one for one in own]


def _seconds_before(workdir: Path, stage: BaseStage) -> float | None:
    """What the stages before took that played in the environment; None where a work directory has no record of it."""
    parent = stage.parent
    if parent is None or not parent.env_steps:
        return 0.0
    result, before = load_result(workdir, parent.name), _seconds_before(workdir, parent)
    own = None if result is None else result.facts.get(CLOCK)
    return None if own is None or before is None else float(own) + before


def _before(stage: BaseStage) -> int:
    """Environment steps that the stages before took: mode discovery is not free."""
    return 0 if stage.parent is None else stage.parent.env_steps + _before(stage.parent)


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
        STOPPED: {},
        "data": "",  # fingerprint of the demonstrations, of a stage that learns from them
        "lane": run.lane,
        "cloned": stage.policy() is not None,
    }
