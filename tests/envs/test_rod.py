"""The rod in closed form against MJX's own step, on the packaged scene and on heavier, damped and pulled ones."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mujoco import mjx

from mmbc_jax.envs.mjx import avoiding
from mmbc_jax.envs.mjx._rod import GAIN_NEW, GAIN_OLD, LAG, TrackedRod

SCENE = Path(avoiding.__file__).with_name("avoiding.xml").read_text()
SLIDE = 'type="slide" axis="1 0 0"'
CHANGES = {
    "packaged": {},
    "heavy": {'mass="1"': 'mass="2.5"', SLIDE: f'{SLIDE} armature="0.3"'},
    "pulled": {'gravity="0 0 0"': 'gravity="0.2 -0.1 0"'},
    "damped": {'eulerdamp="disable"': 'eulerdamp="enable"', SLIDE: f'{SLIDE} damping="4"'},
    "damped explicitly": {SLIDE: f'{SLIDE} damping="4"'},
}


def by_mjx(rod: TrackedRod):
    """The step as MJX makes it: accelerations by a factorised mass matrix, then its Euler step."""
    template = rod._template

    def step(state, commands):
        position, velocity = state
        command, new_command = commands
        old = velocity * rod.dt
        new = LAG * old + GAIN_NEW * (new_command - position) + GAIN_OLD * (command - position)
        force = rod.mass * (new - old) / rod.dt**2
        data = template.replace(qpos=position, qvel=velocity, qfrc_applied=force)
        data = mjx.fwd_acceleration(rod._mx, data)
        data = mjx.euler(rod._mx, data.replace(qacc=data.qacc_smooth))
        return (data.qpos, data.qvel), (data.qpos, data.qvel)

    return step


@pytest.mark.parametrize("change", CHANGES)
def test_free_motion_is_that_of_mjx(change, tmp_path):
    text = SCENE
    for old, new in CHANGES[change].items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "scene.xml").write_text(text)
    rod = TrackedRod(tmp_path / "scene.xml", solve=False)
    moves = np.random.default_rng(0).uniform(-0.01, 0.01, size=(60, 2)).cumsum(0)
    commands = jnp.asarray(np.array([0.52, -0.28]) + np.concatenate([np.zeros((1, 2)), moves]), jnp.float32)
    pairs = (commands[:-1], commands[1:])

    def ours(state, pair):
        state = rod.step(state, *pair)
        return state, (state.position, state.velocity)

    @jax.jit
    def both():
        found = jax.lax.scan(ours, rod.at_rest(commands[0]), pairs)[1]
        return found, jax.lax.scan(by_mjx(rod), (commands[0], jnp.zeros(2)), pairs)[1]

    (position, velocity), (expected, speed) = both()
    np.testing.assert_allclose(position, expected, atol=1e-6)
    np.testing.assert_allclose(velocity, speed, atol=1e-5)
    assert np.ptp(position[:, 0]) > 0.01
