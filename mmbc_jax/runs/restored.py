"""Trained stages read back from their checkpoints."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.config import apply_overrides, from_plain
from mmbc_jax.core.errors import CheckpointError, UserError
from mmbc_jax.core.types import PyTree
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs import stages as stages_lib
from mmbc_jax.runs.checkpoint import StageCheckpoints, find_stage, read_meta
from mmbc_jax.runs.demonstrations import StageData
from mmbc_jax.runs.defaults import STAGES
from mmbc_jax.runs.diagnose import diagnose
from mmbc_jax.runs.grid import Grid, parse_grid, run_keys
from mmbc_jax.runs.programs import Programs
from mmbc_jax.evaluation.results import StageResult
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.stages import Stage
from mmbc_jax.core.state import TrainState


def restore_stage(setup: Setup, name: str, directory: Path) -> tuple[TrainState, list[tuple[int, int]]]:
    """The newest state of a stage.

    Args:
      setup: of the configuration that it was trained with, as far as shapes go.
      name: of the stage.
      directory: with its checkpoints.

    Returns:
      (state with leading axis R, (point, seed) of each run).

    Raises:
      CheckpointError: nothing there, or it does not fit.
    """
    step, meta = read_meta(directory)
    runs = [(int(point), int(seed)) for point, seed in meta["runs"]]
    shared = stages_lib.dummy_shared(setup)
    grid = parse_grid("", 1, 0)

    def shapes(stage: Stage, parent: PyTree) -> PyTree:
        one = stage.make_hparams(grid, stage.runs(grid))
        hp = jax.tree.map(lambda _: jax.ShapeDtypeStruct((len(runs),), jnp.float32), one)
        return stages_lib.template(stage, hp, parent, shared)

    # The parent's shapes are all that matters here, and a clone has the same whether or not discovery follows it.
    stage = stages_lib.make_stage(setup, name, ("bc",))
    parent = {} if stage.parent is None else shapes(stages_lib.make_stage(setup, "bc", ("bc",)), {})
    checkpoints = StageCheckpoints(directory, read_only=True)
    try:
        return checkpoints.restore(step, shapes(stage, parent)), runs
    finally:
        checkpoints.close()


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
    """

    setup: Setup
    stage: Stage
    state: TrainState
    runs: list[tuple[int, int]]
    grid: Grid
    workdir: Path

    def diagnose(self, results: dict[str, StageResult]) -> None:
        """Adds the figures of the instruments in `config.diagnostics`, and the verdicts, to a result.

        Args:
          results: as from `evaluate`; changed in place.

        Raises:
          UserError: the stage is not a clone.
        """
        stage = self.stage
        if stage.num_modes is not None:
            raise UserError(
                f"--diagnostics measures clones (stages bc, baseline and dagger), not {stage.name}"
            )
        windows = StageData.prepare(self.setup, self.workdir, keep=False).train_windows
        keys = run_keys(f"diagnose/{stage.name}", [seed for _, seed in self.runs])
        result = results[stage.name]
        found = diagnose(self.setup, stage, self.state, windows, result.rollouts, keys)
        result.metrics = [{**ours, **theirs} for ours, theirs in zip(result.metrics, found, strict=True)]

    def evaluate(self, seed: int | None = None, command: int | None = None) -> dict[str, StageResult]:
        """Plays episodes as training's last evaluation does.

        Args:
          seed: of the evaluation; None for the keys that training used, which gives its figures again.
          command: z for every episode; None to spread all z evenly.

        Returns:
          {stage name: result}.

        Raises:
          ConfigError: there is no environment.
          UserError: there is no such z.
        """
        start = time.perf_counter()
        num_modes = self.stage.num_modes or 1
        if command is not None and not 0 <= command < num_modes:
            raise UserError(f"--z {command}: stage {self.stage.name} has z 0 to {num_modes - 1}")
        keys = run_keys(f"evaluate/{self.stage.name}", [run_seed for _, run_seed in self.runs])
        if seed is not None:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, seed))(keys)
        programs = Programs(self.setup, command)
        metrics: list[dict[str, Any]] = [{} for _ in self.runs]
        rollouts = None
        if self.setup.env is not None or not self.setup.config.diagnostics:
            rollouts, metrics = programs.evaluate(self.stage, self.state, keys)
        facts = {
            "train_seconds": 0.0,
            "evaluate_seconds": time.perf_counter() - start,
            **programs.facts(self.stage.name),
            "temp_bytes": -1,
            "env_steps": 0,
            "train_steps": int(np.asarray(self.state.step).flat[0]),
        }
        index = self.stage.runs(self.grid).index
        return {self.stage.name: StageResult(self.stage.name, num_modes, index, metrics, facts, rollouts)}


def restore(path: Path, stage: str, overrides: list[tuple[str, str]]) -> Restored:
    """Reads a checkpoint back with its own configuration.

    Args:
      path: a work directory or one stage's checkpoints.
      stage: which stage; "" for the last there is.
      overrides: of `env` and `evaluation` (a shifted environment, more episodes).

    Raises:
      CheckpointError: nothing there, or damaged.
      ConfigError: an override that cannot work.
    """
    if stage and stage not in STAGES:
        raise CheckpointError(f"--stage {stage}: known are {', '.join(STAGES)}")
    directory, name = find_stage(path, (stage,) if stage else tuple(reversed(STAGES)))
    _, meta = read_meta(directory)
    config: Any = apply_overrides(from_plain(meta["config"]), overrides)
    setup = setup_lib.build(config, tuple(meta["dims"]))
    if [setup.obs_dim, setup.action_dim] != meta["dims"]:
        raise CheckpointError(
            f"checkpoint {directory} was trained on env.name = {meta['config']['env']['name']!r}, with an "
            f"observation and an action of size {meta['dims']}; {config.env.name!r} has "
            f"{[setup.obs_dim, setup.action_dim]}"
        )
    state, runs = restore_stage(setup, name, directory)
    seeds = len({seed for _, seed in runs})
    grid = parse_grid(config.sweep.grid, seeds, min(seed for _, seed in runs))
    return Restored(
        setup, stages_lib.make_stage(setup, name, ("bc",)), state, runs, grid, directory.parents[1]
    )
