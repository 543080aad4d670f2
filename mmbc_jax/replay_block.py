"""Plays recorded actions where a block is pushed: in windows that restart from the recording, or open loop.

Row i of a recording is what was seen when its action was commanded, so action i leads from row i to row i + 1. The
velocity of the disc is not recorded. At an episode's first row it is 0, everywhere else what the row before, its
action and the disc's known spring and brake leave (`left_velocity`): nothing of the future is used. The block's
velocity is what its contacts give it in the recorded state.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.compiling import jit
from mmbc_jax.core.errors import DataError
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.load import check_fits
from mmbc_jax.ops.action_scale import boxed


def pushes(env: Any) -> bool:
    """Whether recordings of an environment can be replayed here."""
    return all(hasattr(env, name) for name in ("reset_to", "moving", "seen", "left_velocity"))


def replay_windows(env: Any, episodes: Episodes, window: int) -> dict[str, Any]:
    """Restarts from the recorded state every `window` steps and compares the pose after them.

    Only windows of full length whose last state is recorded count: they start at the rows 0, w, 2 w, ... of an
    episode that has w more rows.

    Args:
      env: a bare environment that `pushes`.
      episodes: in physical units.
      window: w, control steps.

    Returns:
      Medians over windows of the distance between recorded and played block [px], of the angle between them [rad]
      and of the distance of the discs [px], the 95th percentiles, and the medians over windows in which the block
      moved by more than 1 px.

    Raises:
      DataError: the episodes do not fit the environment, or none is longer than a window.
    """
    check_fits(episodes, env.spec, chunk_len=1)
    first = [np.arange(s, e - window, window) for s, e in zip(episodes.starts, episodes.ends, strict=True)]
    rows = np.concatenate(first)
    if not len(rows):
        raise DataError(f"{episodes.source}: no episode has more than {window} rows, which a window needs")
    begins = np.isin(rows, episodes.starts)
    before = np.where(begins, rows, rows - 1)
    obs = episodes.obs
    placed = (obs[before], obs[rows], episodes.action[before], begins)
    ended, _ = _play(env, placed, _actions(env, episodes.action[rows[:, None] + np.arange(window)]))
    seen = jax.vmap(env.seen)
    found = _errors(seen(ended[:, -1]), seen(obs[rows + window]))
    moved = _errors(seen(obs[rows]), seen(obs[rows + window]))["block_error_px"] > 1.0
    medians = {f"median_{name}": _figure(np.median(values)) for name, values in found.items()}
    high = {f"p95_{name}": _figure(np.percentile(values, 95)) for name, values in found.items()}
    pushed = {
        f"moved_median_{name}": _figure(np.median(values[moved])) if moved.any() else None
        for name, values in found.items()
    }
    counts = {
        "episodes": len(episodes),
        "window": window,
        "windows": len(rows),
        "moved_windows": int(moved.sum()),
    }
    return counts | medians | high | pushed


def replay_open(env: Any, episodes: Episodes) -> dict[str, Any]:
    """Plays every episode from its first recorded state, at rest, to its last row.

    Args:
      env: a bare environment that `pushes`.
      episodes: in physical units.

    Returns:
      Medians over episodes: the block's error at the last row [px, rad], the disc's mean error [px], the highest
      coverage; and the shares of episodes that cover more than .9 and .95 at some step.

    Raises:
      DataError: the episodes do not fit the environment.
    """
    check_fits(episodes, env.spec, chunk_len=1)
    starts, lengths = episodes.starts, episodes.lengths
    longest = int(lengths.max())
    rows = starts[:, None] + np.minimum(np.arange(longest), lengths[:, None] - 1)
    obs = episodes.obs
    placed = (obs[starts], obs[starts], episodes.action[starts], np.ones(len(starts), bool))
    played, covered = _play(env, placed, _actions(env, episodes.action[rows]))
    seen = jax.vmap(env.seen)
    # Action i leads to row i + 1; the last action of an episode leads to a state that is not recorded.
    path = np.concatenate([obs[starts][:, None], played[:, :-1]], 1)
    final = _errors(seen(path[np.arange(len(starts)), lengths - 1]), seen(obs[episodes.ends - 1]))
    disc = [jax.vmap(seen)(part)[0] for part in (path, obs[rows])]
    inside = np.arange(longest) < lengths[:, None]
    away = (np.linalg.norm(np.subtract(*map(np.asarray, disc)), axis=-1) * inside).sum(1) / lengths
    best = np.where(inside, covered, 0.0).max(1)
    return {
        "episodes": len(episodes),
        "steps": int(lengths.sum()),
        "median_final_block_error_px": _figure(np.median(final["block_error_px"])),
        "median_final_block_error_rad": _figure(np.median(final["block_error_rad"])),
        "median_agent_error_px": _figure(np.median(away)),
        "median_max_coverage": _figure(np.median(best)),
        "max_coverage_above_0.90": _figure((best > 0.90).mean()),
        "max_coverage_above_0.95": _figure((best > 0.95).mean()),
    }


def _actions(env: Any, recorded: np.ndarray) -> np.ndarray:
    """Physical actions [..., A] in the environment's box."""
    low, high = (np.asarray(bound, np.float32) for bound in (env.spec.action_low, env.spec.action_high))
    return np.clip(boxed(recorded, low, high), -1.0, 1.0)


def _play(env: Any, placed: tuple, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Observations [E, T, D] and coverage [E, T] after each of the actions [E, T, A]."""
    params = env.default_params()

    @jax.vmap
    def run(
        before: jax.Array, here: jax.Array, target: jax.Array, begins: jax.Array, action: jax.Array
    ) -> Any:
        velocity = jnp.where(begins, 0.0, env.left_velocity(before, here, target))
        start = env.moving(here, velocity, params)

        def step(state: Any, given: jax.Array) -> Any:
            after = env.step(state, given)
            return after, (after.obs, after.metrics["coverage"])

        return jax.lax.scan(step, start, action)[1]

    obs, covered = jit(run, env.spec)(*map(jnp.asarray, placed), jnp.asarray(action))
    return np.asarray(obs), np.asarray(covered)


def _errors(one: tuple, other: tuple) -> dict[str, np.ndarray]:
    """Distances [E] of discs and blocks in px, and between the angles in rad, of two (disc [E, 2], pose [E, 3])."""
    (disc, pose), (disc_other, pose_other) = (
        [np.asarray(part, np.float64) for part in pair] for pair in (one, other)
    )
    turn = pose[:, 2] - pose_other[:, 2]
    return {
        "block_error_px": np.linalg.norm(pose[:, :2] - pose_other[:, :2], axis=-1),
        "block_error_rad": np.abs((turn + np.pi) % (2.0 * np.pi) - np.pi),
        "agent_error_px": np.linalg.norm(disc - disc_other, axis=-1),
    }


def _figure(value: Any) -> float:
    return round(float(value), 5)
