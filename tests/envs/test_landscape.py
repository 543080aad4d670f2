from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError

HALF = np.sqrt(0.5)
CENTRES = HALF * np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])


@functools.cache
def build(**fields):
    return registry.build("env", config.plugin("env", "landscape", **fields))


@functools.cache
def compiled(env):
    return jax.jit(env.step)


def finish_at(env, point):
    """The state after a last step from `point` with a zero action."""
    state = env.reset(jax.random.key(0))
    data = {"step": jnp.asarray(15, jnp.int32), "position": jnp.asarray(point, jnp.float32)}
    return compiled(env)(state.replace(data=data), jnp.zeros(2))


@pytest.mark.parametrize(
    ("reward", "heights"), [("balanced", [1, 1, 1, 1]), ("unbalanced", [1, 0.8, 0.8, 0.8])]
)
def test_terminal_reward_closed_form(reward, heights):
    env = build(reward=reward)
    for i, centre in enumerate(CENTRES):
        assert float(finish_at(env, centre).reward) == pytest.approx(heights[i], rel=1e-5)
        # 0.1 away: exp(-0.01 / (2 * 0.04)) = exp(-1/8) = 0.882497
        off = finish_at(env, centre + [0.1, 0.0])
        assert float(off.reward) == pytest.approx(0.882497 * heights[i], rel=1e-4)
        assert (float(off.metrics["success"]), int(off.info["mode"]), float(off.done)) == (1.0, i, 1.0)
        # 0.3 away: exp(-0.09 / 0.08) = 0.324652, but no success
        far = finish_at(env, centre * 1.3)
        assert float(far.reward) == pytest.approx(0.324652 * heights[i], rel=1e-4)
        assert (float(far.metrics["success"]), int(far.info["mode"]), float(far.done)) == (0.0, -1, 1.0)


def test_rotated_peaks_leave_the_demonstrated_ones():
    env = build(reward="rotated")
    turned = np.deg2rad(45 + 20)
    at_peak = finish_at(env, [np.cos(turned), np.sin(turned)])
    assert float(at_peak.reward) == pytest.approx(1.0, rel=1e-5)
    assert int(at_peak.info["mode"]) == 0
    # the distance to the unturned centre is 2 sin(10 deg) = 0.3473 > 0.2: exp(-0.3473^2 / 0.08) = 0.2215
    at_demo = finish_at(env, CENTRES[0])
    assert float(at_demo.reward) == pytest.approx(0.2215, abs=2e-4)
    assert float(at_demo.metrics["success"]) == 0.0


def test_sixteen_steps_then_termination():
    env = build()
    state = env.reset(jax.random.key(0))
    _, (done, reward) = jax.lax.scan(
        lambda s, a: (n := env.step(s, a), (n.done, n.reward)), state, jnp.full((16, 2), 0.3)
    )
    np.testing.assert_array_equal(done, [0] * 15 + [1])
    assert (np.asarray(reward[:15]) == 0).all()
    assert float(reward[15]) > 0


def test_displacement_is_clipped():
    env = build()
    state = env.reset(jax.random.key(0))
    moved = env.step(state, jnp.array([5.0, -0.5]))
    np.testing.assert_allclose(moved.obs - state.obs, [0.15, -0.075], rtol=1e-5)


def test_start_distribution():
    starts = jax.vmap(lambda k: build().reset(k).obs)(jax.random.split(jax.random.key(0), 4000))
    # standard error of a standard deviation: 0.05 / sqrt(2 * 8000) = 0.0004; 5 sigma
    assert float(starts.std()) == pytest.approx(0.05, abs=0.002)
    wide = build().default_params() | {"start_std": jnp.asarray(0.5)}
    assert float(jnp.abs(build().reset(jax.random.key(0), wide).obs).max()) > 0.05


@pytest.mark.parametrize("reward", ["balanced", "unbalanced", "rotated"])
def test_expert_goes_to_the_unturned_centres(reward):
    env, modes = build(reward=reward), jnp.tile(jnp.arange(4), 50)

    def body(state, key):
        actions = jax.vmap(env.expert)(state, modes, jax.random.split(key, len(modes)))
        return jax.vmap(env.step)(state, actions), None

    state = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), len(modes)))
    state, _ = jax.jit(lambda s: jax.lax.scan(body, s, jax.random.split(jax.random.key(1), 16)))(state)
    assert np.linalg.norm(np.asarray(state.obs) - CENTRES[modes], axis=-1).max() < 0.2
    if reward == "rotated":
        assert float(state.metrics["success"].mean()) < 0.05
    else:
        np.testing.assert_array_equal(state.info["mode"], modes)


@pytest.mark.parametrize("fields", [{"reward": "flat"}, {"start_std": -0.1}, {"peak_width": 0.0}])
def test_bad_config_is_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        registry.build("env", config.plugin("env", "landscape", **fields))
