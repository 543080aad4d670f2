"""Films of episodes that are played again, of tasks that have pictures of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.compiling import jit
from mmbc_jax.core.picturing import HasScene
from mmbc_jax.data.windows import spread_indices
from mmbc_jax.evaluation.experts import frame_of
from mmbc_jax.evaluation.filming import Filming
from mmbc_jax.report import clips
from mmbc_jax.report.films import Film, Player
from mmbc_jax.runs.restored import Restored, restore

_SIZE = (240, 180)  # of a picture that MuJoCo draws
_FRAMES, _FPS = 48, 12.0


def player(workdir: Path) -> Player:
    """What plays stages of a work directory again and films them; see `films.Player`."""

    def play(stage: str, row: int, commands: Sequence[int]) -> list[Film] | None:
        restored = restore(workdir, stage, [])
        env: Any = getattr(restored.setup.env, "unwrapped", restored.setup.env)
        scene = isinstance(env, HasScene)
        keep = env.posed if scene else frame_of(env)
        if keep is None:
            return None
        kept, success, mode, steps = jax.device_get(_played(restored, row, commands, keep))
        films = []
        for i, z in enumerate(commands):
            at = spread_indices(int(steps[i]) + 1, _FRAMES)
            own = jax.tree.map(lambda x, at=at, i=i: np.asarray(x)[at, i], kept)
            pictures = _rendered(env, own) if scene else own
            films.append(Film(int(z), bool(success[i]), int(mode[i]), list(_even(pictures)), _FPS))
        return films

    return play


def _played(restored: Restored, row: int, commands: Sequence[int], keep: Any) -> Any:
    stage, setup = restored.stage, restored.setup
    filming = Filming(stage.evaluator(), setup.env, setup.config.chunk.observe)

    def program(state: Any, key: Any, z: Any) -> Any:
        return filming.run(stage.subject(state, key), z, keep)

    own = jax.tree.map(lambda leaf: leaf[row], restored.state)
    key = restored.keys("film/" + stage.name)[row]
    state = own.replace(opt_state={}, env_state={})
    return jit(program, setup.env_spec)(state, key, jnp.asarray(commands, jnp.int32))


def _rendered(env: Any, kept: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    from mmbc_jax.report import scenes

    return scenes.frames(env.scene, *kept, size=_SIZE)


def _even(pictures: np.ndarray) -> np.ndarray:
    """Pictures [T, height, width, 3] of even sides, small ones enlarged."""
    return clips.tiled(pictures[:, None])
