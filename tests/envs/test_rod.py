"""The rod in closed form against MJX's own step, on the packaged scene and on heavier, damped and pulled ones."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mujoco import mjx

from mmbc_jax.envs.mjx import avoiding
from mmbc_jax.envs.mjx._rod import GAIN_NEW, GAIN_OLD, LAG, Dynamics, TrackedRod
from tests.toys.products import spared

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
@spared("damped*", "heavy")
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


def under(mass, damping, friction, commands, kilograms=1.0):
    """The formulas of the module in float64."""
    dt, position, velocity, path = 0.035, np.array(commands[0], np.float64), np.zeros(2), []
    for old, new in zip(commands[:-1], commands[1:], strict=True):
        step = velocity * dt
        wanted = LAG * step + GAIN_NEW * (new - position) + GAIN_OLD * (old - position)
        force, own = kilograms * (wanted - step) / dt**2, mass * kilograms
        damped = (velocity + dt * force / own) / (1 + dt * damping / own)
        velocity = np.sign(damped) * np.maximum(np.abs(damped) - dt * friction / own, 0)
        position = position + dt * velocity
        path.append(position)
    return np.array(path)


@pytest.mark.parametrize("solve", [False, True])
@spared("True")
def test_other_dynamics_are_their_formulas(solve):
    """Also where MJX integrates: it gets the force that leads there. 0.2 N hold the rod where commands are small."""
    rod = TrackedRod(Path(avoiding.__file__).with_name("avoiding.xml"), solve=solve)
    rng = np.random.default_rng(1)
    moves = np.concatenate([rng.uniform(-2e-4, 2e-4, (10, 2)), rng.uniform(-0.01, 0.01, (30, 2))]).cumsum(0)
    commands = np.array([0.6, -0.25]) + np.concatenate([np.zeros((1, 2)), moves])
    pairs = (jnp.asarray(commands[:-1], jnp.float32), jnp.asarray(commands[1:], jnp.float32))

    @jax.jit
    def path(dynamics):
        def step(state, pair):
            state = rod.step(state, *pair, dynamics)
            return state, state.position

        return jax.lax.scan(step, rod.at_rest(pairs[0][0]), pairs)[1]

    shifts = np.array([(1, 0, 0), (2.5, 0, 0), (1, 6, 0), (1, 0, 0.2), (2, 3, 0.1)])
    found = np.asarray(jax.vmap(lambda s: path(Dynamics(*s)))(jnp.asarray(shifts, jnp.float32)))
    for each, shift in zip(found, shifts, strict=True):
        np.testing.assert_allclose(each, under(*shift, commands), atol=2e-6)
    assert (found[3][:5] == found[3][0]).all()  # held
    assert np.abs(found[1:] - found[0]).max((1, 2)).min() > 1e-3
