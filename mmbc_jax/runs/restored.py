"""Trained stages read back from their checkpoints."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmbc_jax.core.config import apply_overrides, at, from_plain
from mmbc_jax.core.errors import CheckpointError, UserError
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Key
from mmbc_jax.data.fingerprint import check_same
from mmbc_jax.evaluation.measure import asking_episodes, measure
from mmbc_jax.evaluation.results import StageResult, without_figures
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.checkpoint import (
    DamagedError,
    StageCheckpoints,
    checkpoint_steps,
    find_stage,
)
from mmbc_jax.runs.commanded import Commanded, check_head
from mmbc_jax.runs.demonstrations import StageData
from mmbc_jax.runs.described import stage_meta
from mmbc_jax.runs.divergence import STOPPED
from mmbc_jax.runs.grid import Grid, config_grid, run_keys
from mmbc_jax.runs.measurement import measurement
from mmbc_jax.runs.mesh import make_mesh
from mmbc_jax.runs.programs import Programs
from mmbc_jax.runs.run_options import STAGES
from mmbc_jax.runs.sections import completed
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.stages import BaseStage, make_stages
from mmbc_jax.runs.templates import OWN_SCALE, template_of


def restore_stage(
    setup: Setup, name: str, directory: Path, step: int | None = None
) -> tuple[TrainState, list[tuple[int, int]]]:
    """The state of a stage.

    Args:
      setup: of the configuration that it was trained with, as far as shapes go.
      name: of the stage.
      directory: with its checkpoints.
      step: of the checkpoint; None for the newest.

    Returns:
      (state with leading axis R, (point, seed) of each run).

    Raises:
      CheckpointError: nothing there, or it does not fit.
    """
    step, meta = stage_meta(directory, step)
    runs = [(int(point), int(seed)) for point, seed in meta["runs"]]
    stage = stage_of(setup, name, meta)
    checkpoints = StageCheckpoints(directory, read_only=True)
    try:
        return checkpoints.restore(step, template_of(stage, len(runs), meta.get(OWN_SCALE, False))), runs
    finally:
        checkpoints.close()


def stage_of(setup: Setup, name: str, meta: dict[str, Any]) -> BaseStage:
    """The stage behind a checkpoint, started from what `meta` says that it was started from."""
    ancestors = [meta["parent"]] if meta["parent"] else []
    if meta["parent"] == "discover" and meta["cloned"]:
        ancestors.append("bc")
    return make_stages(setup, (*ancestors, name))[name]


def check_start(stage: BaseStage) -> None:
    """Raises ConfigError where a stage cannot go on with the actor that the stage before it trains."""
    parent, config = stage.parent, stage.setup.config
    if parent is None or stage.parts.actor is None or parent.parts.actor is None:
        return
    own, theirs = (at(config, stage.setup.part(name, "actor")) for name in (stage.name, parent.name))
    if own.to_dict() != theirs.to_dict():
        template_of(stage, 1, own_scale=False)


@dataclasses.dataclass
class Restored:
    """A trained stage, ready to act.

    Attributes:
      setup: with the checkpoint's configuration, and the overrides asked for.
      stage: which one.
      state: leading axis R.
      runs: (point, seed) of each run.
      grid: of the training run.
      workdir: of the training run, with the demonstrations that it recorded.
      data: fingerprint of the demonstrations that it was trained on; "" where it was on none.
      notes: which checkpoint it is, and what the user may have expected instead, a line each.
      step: of the checkpoint.
      checkpoint: which it is, from the name of the work directory on.
      stopped: {number of a run: step} of those that diverged, which have no figures.
    """

    setup: Setup
    stage: BaseStage
    state: TrainState
    runs: list[tuple[int, int]]
    grid: Grid
    workdir: Path
    data: str = ""
    notes: tuple[str, ...] = ()
    step: int = 0
    checkpoint: str = ""
    stopped: Mapping[int, int] = dataclasses.field(default_factory=dict)

    def keys(self, label: str, seed: int | None = None) -> Key:
        """[R] keys for a purpose: those of training, or where `seed` is given and episodes are evaluated, others."""
        made = run_keys(label, [run_seed for _, run_seed in self.runs])
        if seed is None or not label.startswith("evaluate/"):
            return made
        return jax.vmap(lambda key: jax.random.fold_in(key, seed))(made)

    def programs(self, command: int | None = None, headless: bool = False) -> Programs:
        """Compiled programs to evaluate with, on one device."""
        mode = "map" if self.setup.config.sweep.mode == "map" else "vmap"
        return Programs(self.setup, make_mesh(mode, 1), command, headless)

    def check(self, command: int | None = None) -> None:
        """Checks that `evaluate` can do what is asked for, without doing it.

        Raises:
          ConfigError: there is no environment, and nothing to diagnose.
          UserError: there is no such z, or instruments that measure clones are asked for a stage that is none.
        """
        stage, num_modes = self.stage, self.stage.num_modes
        if command is not None and not 0 <= command < num_modes:
            raise UserError(f"--z {command}: stage {stage.name} has z 0 to {num_modes - 1}")
        diagnosed = measurement(self.setup, offline=False).instruments
        needs_clone = sorted(set(diagnosed) - set(asking_episodes(diagnosed)))
        if needs_clone and stage.cloned(jax.tree.map(lambda leaf: leaf[0], self.state)) is None:
            raise UserError(
                f"--diagnostics {','.join(needs_clone)} measures clones (stages bc, baseline and dagger), "
                f"not {stage.name}"
            )
        if not diagnosed and self.setup.env is None:
            self._check_offline()

    def _check_offline(self) -> None:
        config = self.setup.config
        if not config.data.path or not config.data.holdout:
            why = "no environment" if config.data.path else "neither an environment nor a file of data"
            raise UserError(
                f"stage {self.stage.name} has {why}, and data.holdout = {config.data.holdout}: there is nothing to "
                "measure it on; --diagnostics all asks the clone itself"
            )

    def evaluate(
        self, seed: int | None = None, command: int | np.ndarray | None = None, headless: bool = False
    ) -> dict[str, StageResult]:
        """Plays episodes as training's last evaluation does, and applies the instruments of `config.diagnostics`.

        Args:
          seed: of the evaluation; None for the keys that training used, which gives its figures again.
          command: z for every episode, or [R] that of each run; None to spread all z evenly.
          headless: without the actor's steering head.

        Returns:
          {stage name: result}.

        Raises:
          UserError: as `check`; the actor has no head; or the demonstrations that instruments need have changed.
        """
        own = command if isinstance(command, int) else None
        self.check(own)
        stage, programs = self.stage, self.programs(own, headless)
        if headless:
            check_head(stage)
        player = Commanded(programs, command) if isinstance(command, np.ndarray) else programs
        result = measure(
            measurement(self.setup, offline=self.setup.env is None),
            stage,
            self.state,
            stage.runs(self.grid).index,
            functools.partial(self.keys, seed=seed),
            player,
            self._demonstrations,
            {
                "train_seconds": 0.0,
                "env_steps": 0,
                "train_steps": int(np.asarray(self.state.step).flat[0]),
                "stopped": [[*self.runs[row], at] for row, at in self.stopped.items()],
            },
        )
        for row in self.stopped:
            result.metrics[row] = without_figures(result.metrics[row])
        return {stage.name: result}

    def _demonstrations(self) -> StageData:
        data = StageData.prepare(self.setup, self.workdir, keep=False)
        check_same(data.episodes, self.data, f"stage {self.stage.name}")
        return data


def restore(
    path: Path,
    stage: str,
    overrides: list[tuple[str, str]],
    among: tuple[str, ...] = STAGES,
    step: int | None = None,
) -> Restored:
    """Reads a checkpoint back with its own configuration.

    Args:
      path: a work directory or one stage's checkpoints.
      stage: which stage; "" for the last there is of `among`.
      overrides: of `env` and `evaluation` (a shifted environment, more episodes), of `diagnostics`, and of
        `precision`, which is else that of the training.
      among: stages to choose from, the preferred one last.
      step: of the checkpoint; None for the newest whole one.

    Raises:
      CheckpointError: nothing there, or damaged.
      ConfigError: an override that cannot work.
    """
    if stage and stage not in STAGES:
        raise CheckpointError(f"--stage {stage}: known are {', '.join(STAGES)}")
    directory, name = find_stage(path, (stage,) if stage else tuple(reversed(among)))
    notes: list[str] = []
    steps = checkpoint_steps(directory)
    if step is not None and step not in steps:
        raise CheckpointError(f"{directory} has no step {step}; it has {', '.join(map(str, steps))}")
    tried = steps if step is None else [step]
    for one in reversed(tried):
        try:
            restored = _restore_step(directory, name, one, overrides)
        except DamagedError as error:
            if one == tried[0]:
                raise
            notes.append(f"{error}; the one before it is taken")
        else:
            break
    planned = restored.setup.config.stages
    later = among[among.index(name) + 1 :] if name in among else ()
    missing = [each for each in planned if each in later]
    if missing and not stage and path.name != name:
        notes.append(f"there is no checkpoint of {', '.join(missing)} in {path}: this is stage {name}")
    where = directory / str(one)
    said = "/".join(where.absolute().parts[-4:])
    notes.append(f"checkpoint {where}")
    return dataclasses.replace(restored, notes=tuple(notes), step=one, checkpoint=said)


def _restore_step(directory: Path, name: str, step: int, overrides: list[tuple[str, str]]) -> Restored:
    _, meta = stage_meta(directory, step)
    config: Any = apply_overrides(completed(from_plain(meta["config"])), overrides)
    trained = (ObsSpec.from_json(meta["obs"]), int(meta["action_dim"]))
    setup = setup_lib.build(config, trained)
    sizes, ours = [[obs.size, action] for obs, action in (trained, (setup.obs, setup.action_dim))]
    if sizes != ours or trained[0].images != setup.obs.images:
        raise CheckpointError(
            f"checkpoint {directory} was trained on env.name = {meta['config']['env']['name']!r}, with an "
            f"observation and an action of size {sizes}; {config.env.name!r} has {ours}"
        )
    trained_in, other = setup, [each for each in overrides if not each[0].startswith("env.")]
    if len(other) < len(overrides):  # what these add to the environment's parameters is not in the checkpoint
        trained_in = setup_lib.build(apply_overrides(completed(from_plain(meta["config"])), other), trained)
    state, runs = restore_stage(trained_in, name, directory, step)
    seeds = [seed for _, seed in runs]
    grid = dataclasses.replace(
        config_grid(config), seeds=tuple(range(min(seeds), min(seeds) + len(set(seeds))))
    )
    stage = stage_of(setup, name, meta)
    stopped = {int(row): int(at) for row, at in meta.get(STOPPED, {}).items()}
    where, data = directory.parents[1], meta.get("data", "")
    return Restored(setup, stage, state, runs, grid, where, data, stopped=stopped)
