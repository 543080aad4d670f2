"""Aligning: the rod over and on the walls, success, labels, and an expert that presses from both sides."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.envs.planar._reposing import _gain
from mmbc_jax.envs.planar._sliders import Surfaces, pushed
from mmbc_jax.envs.planar.aligning import HOLD, RADIUS, TIP, TOP, WALLS
from tests.envs._played import reached

TARGET = (0.5, 0.25, 0.4)
HIGH, LOW = 0.25, TIP + 0.05


def key():
    """One that nothing has used; nothing is drawn from it where a state is set."""
    return jax.random.key(0)


def build(**fields):
    return registry.build("env", config.plugin("env", "aligning", **fields))


@functools.cache
def programs():
    env = build()
    return env, jax.jit(env.step), jax.jit(env.reset_to)


def at(rod, box, target=TARGET):
    return jnp.asarray([*rod, *rod, *box, *target])


def led(rod, box, action, steps):
    _, step, reset_to = programs()
    state = reset_to(at(rod, box), key())
    for _ in range(steps):
        state = step(state, jnp.asarray(action))
    return state


def test_a_rod_above_the_walls_pushes_nothing():
    box = (0.5, 0.0, 0.3)
    state = led((0.5, -0.08, HIGH), box, (0.0, 1.0, 0.0), 12)
    assert float(state.data["rod"][1]) > 0.0
    np.testing.assert_allclose(state.data["box"], box, atol=1e-6)
    assert float(led((0.5, -0.08, LOW), box, (0.0, 1.0, 0.0), 12).data["box"][1]) > 0.02


def test_a_rod_within_takes_the_box_along():
    state = led((0.5, 0.0, LOW), (0.5, 0.0, 0.0), (0.0, 1.0, 0.0), 12)
    box, rod = state.data["box"], state.data["rod"]
    # It presses the middle of a wall, whose inner side is .045 m from the box's middle.
    np.testing.assert_allclose(rod[1] + RADIUS - box[1], 0.045, atol=1e-5)
    np.testing.assert_allclose(box[jnp.asarray([0, 2])], [0.5, 0.0], atol=1e-5)


def test_a_rod_that_comes_down_on_a_wall_rests_on_it():
    state = led((0.55, 0.0, HIGH), (0.5, 0.0, 0.0), (0.0, 0.0, -1.0), 20)
    assert float(state.data["rod"][2]) == pytest.approx(TIP + TOP, abs=1e-6)
    np.testing.assert_allclose(state.data["box"], (0.5, 0.0, 0.0), atol=1e-6)
    assert float(
        led((0.5, 0.0, HIGH), (0.5, 0.0, 0.0), (0.0, 0.0, -1.0), 20).data["rod"][2]
    ) == pytest.approx(TIP + 0.01, abs=1e-6)


@pytest.mark.parametrize(
    ("shift", "turn", "rod", "mode"),
    [
        ((0.017, 0.0), 0.14, (0.0, 0.0), 0),
        ((0.017, 0.0), 0.14, (0.0, 0.1), 1),
        ((0.019, 0.0), 0.0, (0.0, 0.0), -1),
        ((0.0, 0.0), 0.16, (0.0, 0.0), -1),
        ((0.0, 0.0), 2 * np.pi - 0.14, (0.0, 0.1), 1),
    ],
)
def test_success_and_mode(shift, turn, rod, mode):
    x, y, angle = TARGET
    box = (x + shift[0], y + shift[1], angle + turn)
    state = led((box[0] + rod[0], box[1] + rod[1], HIGH), box, (0.0, 0.0, 0.0), 1)
    assert int(state.info["mode"]) == mode
    assert float(state.reward) == float(state.done) == float(state.metrics["success"]) == float(mode >= 0)


def test_quaternions_tell_the_pose():
    env = build(yaw="quaternion", reward="d3il")
    box = (0.5, 0.0, 2.0)
    half = [np.cos(1.0), 0.0, 0.0, np.sin(1.0)]
    obs = jnp.asarray([0.4, 0.0, HIGH] * 2 + [*box[:2], 0.0, *half, *TARGET[:2], 0.0, 1.0, 0.0, 0.0, 0.0])
    state = env.reset_to(obs, key())
    np.testing.assert_allclose(state.data["box"], box, rtol=1e-6)
    np.testing.assert_allclose(state.obs, obs, atol=1e-6)
    reward = float(env.step(state, jnp.zeros(3)).reward)
    assert reward == pytest.approx(-3.5 * 0.25 - 2.0 / np.pi, abs=1e-5)


def test_what_the_expert_expects_of_a_push_happens():
    """Its gain is that of a short push under high friction, at a wall's inner side, turned or not."""
    point, normal = np.array([[0.045, 0.02]]), np.array([[1.0, 0.0]])
    error = jnp.asarray([0.3, -0.2, 0.8])
    gain, length = _gain(error, point, normal, HOLD)
    ends = jnp.asarray([[0.045 - RADIUS, 0.02], [0.045 - RADIUS + 5e-4, 0.02]])
    moved = (
        pushed((WALLS,), jnp.zeros((1, 3)), *ends, RADIUS, Surfaces(5.0, 0.0, HOLD), substeps=5)[0][0] / 5e-4
    )
    weights = np.array([1.0, 1.0, 0.16**2])
    np.testing.assert_allclose(gain[0], (weights * error * moved).sum(), rtol=0.03)
    np.testing.assert_allclose(length[0], gain[0] / (weights * moved * moved).sum(), rtol=0.03)


def test_parameters_and_options():
    env = build()
    assert set(env.perturbed().default_params()) - set(env.default_params()) == {"friction", "radius"}
    with pytest.raises(ConfigError, match="box_high"):
        build(box_high=-0.5)


@pytest.mark.slow
def test_the_expert_reaches_both_modes():
    """From 200 starts each, under the noise with which it is recorded."""
    assert min(reached(build(), 200, 0.3)) >= 0.95
