"""The runs of a checkpoint in a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mmbc_jax.core.acting import played_by
from mmbc_jax.core.errors import UserError
from mmbc_jax.evaluation import gymnasium_host
from mmbc_jax.evaluation.evaluator import acting
from mmbc_jax.runs.restored import Restored

_MOST_ENVS = 32  # instances that step after another
_LABEL = "evaluate/"  # of the keys that a seed changes


def in_lines(found: Mapping[str, Any]) -> list[str]:
    """A line for each run of what `played` found."""
    lines = []
    for one in found["runs"]:
        success = "–" if one["success_rate"] is None else f"{one['success_rate']:.3f}"
        where = f"seed {one['seed']}"
        lines.append(
            f"{found['stage']} in {found['gym']}, {where}: success {success}, return {one['mean_return']:.4g}, "
            f"{one['mean_steps']:.4g} steps, {found['episodes']} episodes"
        )
    return lines


def played(
    restored: Restored, name: str, seed: int | None = None, command: int | None = None
) -> dict[str, Any]:
    """Plays `evaluation.episodes` episodes with each run.

    Args:
      restored: the checkpoint.
      name: id of the environment, or `module:id`.
      seed: of start states, which are the same for all runs, and of the policy's noise; None for 0.
      command: z of every episode; None to spread them.

    Returns:
      {"gym", "stage", "episodes", "runs": [...]}: of each run mean return and steps, and `success_rate` and
      `modes` ({label: share of episodes}) where the environment's info tells them, else None.

    Raises:
      UserError: no such z or environment, or one whose spaces are not the policy's.
    """
    setup, stage = restored.setup, restored.stage
    config = setup.config
    if command is not None and not 0 <= command < stage.num_modes:
        raise UserError(f"--z {command}: stage {stage.name} has z 0 to {stage.num_modes - 1}")
    episodes, start = int(config.evaluation.episodes), 0 if seed is None else seed
    act = acting(played_by(stage.learner, stage.parts), config.evaluation.deterministic)
    subjects = stage.subject(restored.state, restored.keys(f"{_LABEL}{stage.name}", start))
    env = gymnasium_host.made(name, min(episodes, _MOST_ENVS))
    try:
        player = gymnasium_host.HostPlayer(
            env,
            act,
            setup.obs,
            setup.action_dim,
            config.chunk.observe,
            config.chunk.execute,
            stage.num_modes,
            command,
        )
        found = []
        for i, (_, run_seed) in enumerate(restored.runs):
            subject = jax.tree.map(lambda leaf, i=i: leaf[i], subjects)
            found.append({"seed": run_seed, **_summary(player.play(subject, subject.key, episodes, start))})
    except UserError as error:
        raise UserError(f"--gym {name}: {error}") from error
    finally:
        env.close()
    return {"gym": name, "stage": stage.name, "episodes": episodes, "runs": found}


def _summary(episodes: dict[str, Any]) -> dict[str, Any]:
    success, mode = episodes["success"], episodes["mode"]
    shares = None
    if mode is not None:
        labels, counts = np.unique(mode.astype(int), return_counts=True)
        shares = {str(label): float(count) / len(mode) for label, count in zip(labels, counts, strict=True)}
    return {
        "mean_return": float(episodes["return"].mean()),
        "std_return": float(episodes["return"].std()),
        "mean_steps": float(episodes["steps"].mean()),
        "success_rate": None if success is None else float((success > 0).mean()),
        "modes": shares,
    }
