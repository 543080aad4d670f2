"""Films of a small scene: what moves is seen to move, files are what they say, and errors name what is missing."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from mmbc_jax.core.errors import UserError
from mmbc_jax.report import scenes

SCENE = """<mujoco><visual><headlight ambient=".6 .6 .6"/></visual><worldbody>
  <body name="ball"><joint type="slide" axis="0 1 0"/><geom type="sphere" size=".1" rgba="1 0 0 1"/></body>
  <body name="mark" mocap="true"><geom type="sphere" size=".1" rgba="0 1 0 1"/></body>
</worldbody></mujoco>"""
VIEW = {"lookat": (0.0, 0.0, 0.0), "distance": 2.0, "azimuth": 180.0, "elevation": 0.0}


def pictures():
    model = mujoco.MjModel.from_xml_string(SCENE)
    places = np.array([[[0.0, 0.0, 0.4]], [[0.0, 0.0, -0.4]]])
    try:
        return scenes.frames(model, np.array([[-0.4], [0.4]]), places, (96, 64), VIEW)
    except UserError as error:
        pytest.skip(str(error))


def middle(picture, channel):
    """(row, column) of the middle of what is of one colour."""
    strong = (picture[..., channel].astype(int) - picture.astype(int).sum(-1) / 3) > 40
    return np.argwhere(strong).mean(0)


def test_what_moves_is_seen_to_move():
    found = pictures()
    assert found.shape == (2, 64, 96, 3)
    assert found.dtype == np.uint8
    red, green = ([middle(picture, channel) for picture in found] for channel in (0, 1))
    assert abs(red[1][1] - red[0][1]) > 20  # sideways
    assert abs(red[1][0] - red[0][0]) < 2
    assert green[1][0] - green[0][0] > 20  # downwards


def test_a_still_shows_the_end_and_the_way_there():
    model = mujoco.MjModel.from_xml_string(SCENE)
    qpos = np.linspace(-0.4, 0.4, 9)[:, None]
    pictures()  # skips without OpenGL
    bare = scenes.still(model, qpos, None, (96, 64), VIEW)
    np.testing.assert_array_equal(bare, scenes.frames(model, qpos[-1:], None, (96, 64), VIEW)[0])
    followed = scenes.still(model, qpos, None, (96, 64), VIEW, ("nothing", "ball"))
    changed = np.argwhere((bare != followed).any(-1))
    across, ball = np.ptp(changed[:, 1]), middle(bare, 0)[1]
    assert across > 25
    assert np.ptp(changed[:, 0]) < 8  # a straight line
    assert min(abs(ball - changed[:, 1])) < 12  # which ends at the ball


def test_errors_name_what_is_wrong(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "wgl")
    with pytest.raises(UserError, match="MUJOCO_GL=wgl cannot draw here"):
        scenes.frames(mujoco.MjModel.from_xml_string(SCENE), np.zeros((1, 1)))
