"""A film of an arm goes through MuJoCo's renderer into a file that opens."""

from __future__ import annotations

import io

import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import UserError
from mmbc_jax.report import clips, played


def test_a_film_of_the_panda_opens_and_moves():
    """Its base turns by 1.2 rad: what was there is somewhere else, what stands still is not."""
    av = pytest.importorskip("av")
    env = registry.build("env", plugin("env", "reach"))
    qpos = np.tile(env.scene.qpos0, (6, 1))
    qpos[:, 1], qpos[:, 3] = 0.4, -1.8
    qpos[:, 0] = np.linspace(-0.6, 0.6, 6)
    places = np.tile(np.array([[0.5, 0.0, 0.0], [0.6, 0.0, 0.3]]), (6, 1, 1))
    try:
        pictures = played._even(played._rendered(env, (qpos, places)))
    except UserError as error:
        pytest.skip(str(error))
    assert pictures.shape == (6, 180, 240, 3)
    content = clips.encoded(list(pictures), 12.0)
    with av.open(io.BytesIO(content)) as film:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(video=0)]
    assert len(frames) == 6
    assert frames[0].shape == (180, 240, 3)
    for before, after in zip(frames[:-1], frames[1:], strict=True):
        changed = (np.abs(before - after).max(-1) > 40).mean()
        assert 0.002 < changed < 0.3
