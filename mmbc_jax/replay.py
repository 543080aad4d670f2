"""Plays recorded actions open loop and says how well the environment follows the recording.

    python -m mmbc_jax.replay --env avoiding --data FILE.npz [--out FILE.json] [--config.env.KEY VALUE]
    python -m mmbc_jax.replay --env push_t --data FILE.npz [--window 10] [--goal X,Y,ANGLE]

Prints one JSON object. Every episode starts at its first recorded observation, at rest. Recordings stop when
they cross the finish line; a replay that lags behind gets the last action again, for `HOLD` steps at most.
Where a block is pushed, `--window` restarts from the recording every so many steps (`replay_block`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmbc_jax import cli
from mmbc_jax.core import config, registry
from mmbc_jax.core.compiling import jit
from mmbc_jax.core.errors import ConfigError, UserError
from mmbc_jax.core.files import check_folder, local_path, write_json
from mmbc_jax.core.keys import seeded
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.load import check_fits, load
from mmbc_jax.envs import wrappers
from mmbc_jax.ops.action_scale import boxed
from mmbc_jax.replay_block import pushes, replay_open, replay_windows

HOLD = 25
LONGEST_WINDOW = 10_000


def replay(env: Any, episodes: Episodes) -> dict[str, Any]:
    """Replays all episodes at once.

    The path error is the distance between recorded and replayed measured position, in mm, at every recorded
    observation. The mode of a recording is its label, or else the row crossings of its recorded path.
    `contacts` counts the replays that touched an obstacle; a recording that reached the finish never did.

    Args:
      env: a bare environment with `reset_to(obs, key)`, `label(path)`, a plotted position in m and a
        `contact` metric.
      episodes: in physical units.

    Returns:
      What the command line prints, without file names.

    Raises:
      ConfigError: the environment cannot be set to a recorded state.
      DataError: the episodes do not fit the environment.
    """
    if not (hasattr(env, "reset_to") and hasattr(env, "label") and env.spec.position):
        raise ConfigError(
            "env.name", env.spec.name, "an environment that can start from a recorded observation"
        )
    check_fits(episodes, env.spec, chunk_len=1)
    lengths, longest = episodes.lengths, int(episodes.lengths.max())
    low, high = (np.asarray(bound, np.float32) for bound in (env.spec.action_low, env.spec.action_high))
    rows = episodes.starts[:, None] + np.minimum(np.arange(longest + HOLD), lengths[:, None] - 1)
    obs = episodes.obs[rows]
    action = boxed(episodes.action[rows], low, high)
    position, mode, contact = (np.asarray(x) for x in _roll(env, obs[:, 0], action))
    recorded = obs[..., list(env.spec.position)]
    recorded_mode = episodes.mode
    if recorded_mode is None:
        recorded_mode = np.asarray(jax.vmap(env.label)(jnp.asarray(recorded)))
    error = 1e3 * np.linalg.norm(np.float64(position) - recorded, axis=-1)
    inside = np.arange(longest + HOLD) < lengths[:, None]
    mean = (error * inside).sum(1) / lengths
    worst = np.where(inside, error, 0.0).max(1)
    return {
        "episodes": len(episodes),
        "steps": int(lengths.sum()),
        "error_mean_mm": mean.round(3).tolist(),
        "error_max_mm": worst.round(3).tolist(),
        "median_error_mean_mm": round(float(np.median(mean)), 3),
        "median_error_max_mm": round(float(np.median(worst)), 3),
        "mode_agreement": int((mode == recorded_mode).sum()),
        "mode_source": "path" if episodes.mode is None else "recorded",
        "contacts": int(contact.sum()),
    }


def _roll(env: Any, first: np.ndarray, action: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Positions before each action [E, T, 2], final mode [E] and contact [E]."""
    stepper = wrappers.Chunk(wrappers.Episode(env, action.shape[1] + 1), exec_len=1, gamma=1.0)
    keys = jax.random.split(seeded(0), len(first))

    @jax.vmap
    def run(key: jax.Array, first: jax.Array, action: jax.Array) -> tuple[jax.Array, ...]:
        reset_key, noise_key = jax.random.split(key)
        template = stepper.reset(reset_key)
        placed = env.reset_to(first, noise_key)
        start = template.replace(data=placed.data, obs=placed.obs)
        last, path = jax.lax.scan(lambda s, a: (stepper.step(s, a[None]), s.obs), start, action)
        return (
            env.spec.obs.flat(path)[:, jnp.asarray(env.spec.position)],
            last.info["mode"],
            last.metrics["contact"],
        )

    return jit(run, env.spec)(keys, jnp.asarray(first), jnp.asarray(action))


def _goal(cfg: ConfigDict, flags: Any) -> list[tuple[str, str]]:
    """What `--goal` sets of a configuration.

    Raises:
      UserError: the environment has no goal, or these are not three numbers.
    """
    if flags.goal is None:
        return []
    names = ("goal_x", "goal_y", "goal_angle")
    if not all(name in cfg.env for name in names):
        raise UserError(f"--goal {flags.goal}: environment {flags.env!r} has no goal to set")
    parts = flags.goal.split(",")
    if len(parts) != len(names) or not all(map(_is_number, parts)):
        raise UserError(f"--goal {flags.goal}: needs three numbers X,Y,ANGLE, as 356,356,0.785")
    return [(f"env.{name}", str(float(part))) for name, part in zip(names, parts, strict=True)]


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _played(env: Any, flags: Any) -> dict[str, Any]:
    """The figures that fit an environment.

    Raises:
      UserError: a window that is no whole number above 0, or that nothing is pushed in.
    """
    if not pushes(env):
        if flags.window is not None:
            raise UserError(f"--window {flags.window}: environment {flags.env!r} has no block to restart")
        return replay(env, load(flags.data))
    if flags.window is None:
        return replay_open(env, load(flags.data))
    if not (flags.window.isdecimal() and 0 < int(flags.window) <= LONGEST_WINDOW):
        raise UserError(f"--window {flags.window}: needs a whole number, 1 to {LONGEST_WINDOW}")
    return replay_windows(env, load(flags.data), int(flags.window))


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    cli.quiet()
    rest, overrides = config.split_overrides(argv)
    parser = cli.Parser("python -m mmbc_jax.replay", __doc__)
    parser.add_argument("--env", default="avoiding", help="environment (default: avoiding)")
    parser.add_argument("--data", required=True, help="recording: .npz, .zarr or .zip")
    parser.add_argument("--out", help="also write the JSON there")
    parser.add_argument("--window", help="where a block is pushed: restart every so many control steps")
    parser.add_argument("--goal", help="where there is one: its pose as X,Y,ANGLE in px and rad")
    flags = parser.known(rest)
    out = None if flags.out is None else local_path(flags.out, "--out")
    if out is not None:
        check_folder(out.parent, "the folder of --out")
        if out.is_dir() or not out.parent.exists():
            raise UserError(f"--out {out} cannot be a file: it is a folder, or its own folder is not there")
    cfg = ConfigDict({"env": config.plugin("env", flags.env)})
    cfg = config.apply_overrides(cfg, [*overrides, *_goal(cfg, flags)])
    env = registry.build("env", cfg.env)
    found = {"env": flags.env, "data": flags.data} | _played(env, flags)
    if out is not None:
        write_json(out, found)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    cli.run_main(main)
