"""Films an episode of an environment's expert in three dimensions.

    python -m mmbc_jax.film --env lift --mode 1 --out lift.mp4 [--config.env.KEY VALUE]

OpenGL comes from where `MUJOCO_GL` says (egl, osmesa or glfw), egl where it says nothing; a film needs the extra
`video`, a picture of its last state does not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmbc_jax import cli
from mmbc_jax.core import config, registry
from mmbc_jax.core.compiling import jit
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.keys import seeded


def expert_states(env: Any, mode: int, seed: int = 0) -> list[Any]:
    """The states of an episode in which the expert pursues `mode`, up to its end."""
    key_reset, key_expert = jax.random.split(seeded(seed))

    def step(state: Any, number: Any) -> Any:
        action = env.expert(state, jnp.asarray(mode), jax.random.fold_in(key_expert, number))
        return env.step(state, action)

    advance = jit(step, env.spec)
    states = [jit(env.reset, env.spec)(key_reset)]
    while len(states) <= env.spec.episode_length and not states[-1].done:
        states.append(advance(states[-1], len(states)))
    return states


def _drawing() -> tuple[Any, Any]:
    """`frames` and `write`; MuJoCo itself does not load under a `MUJOCO_GL` whose library is absent."""
    try:
        from mmbc_jax.envs._render3d import frames, write
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        name = os.environ.get("MUJOCO_GL", "")
        raise UserError(f"MUJOCO_GL={name} does not load ({error}); try egl, osmesa or glfw") from error
    return frames, write


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    cli.quiet()
    cli.compilation_cache()
    rest, overrides = config.split_overrides(argv)
    parser = cli.Parser("python -m mmbc_jax.film", __doc__)
    parser.add_argument("--env", required=True, help="environment with a scene and an expert")
    parser.add_argument("--mode", type=int, default=0, help="that the expert pursues (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the episode (default: 0)")
    parser.add_argument("--out", required=True, help=".mp4 for the film, .png for its last picture")
    flags = parser.parse_args(rest)
    frames, write = _drawing()
    cfg = config.apply_overrides(ConfigDict({"env": config.plugin("env", flags.env)}), overrides)
    env = registry.build("env", cfg.env)
    if not hasattr(env, "scene"):
        raise UserError(f"--env {flags.env} has no scene to film")
    shown = [env.scene(state) for state in expert_states(env, flags.mode, flags.seed)]
    qpos, mocap = (np.stack([np.asarray(each[i]) for each in shown]) for i in (1, 2))
    write(flags.out, frames(shown[0][0], qpos, mocap), 1.0 / env.spec.control_dt)
    return 0


if __name__ == "__main__":
    cli.run_main(main)
