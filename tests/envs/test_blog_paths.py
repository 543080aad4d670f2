"""The closed-loop path tasks: the expert's feedback, the deviation and the switches of side."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin

from . import _path_tools as tools


@pytest.mark.parametrize("name", ["smooth_path", "high_low"])
def test_the_expert_closes_three_tenths_of_its_error_per_step(name):
    env = tools.build(name)
    start = jnp.asarray([0.09, 0.53])

    def body(state, key):
        nstate = env.step(state, env.expert(state, jnp.asarray(0), key))
        return nstate, nstate.data["position"]

    state = jax.jit(env.reset)(jax.random.key(0))
    state = state.replace(data=state.data | {"position": start})
    _, path = jax.jit(lambda s: jax.lax.scan(body, s, jax.random.split(jax.random.key(1), 99)))(state)
    mean = tools.mean_paths(name, env.spec.num_modes)[0]
    error = (np.asarray(start) - mean[0]) * 0.7 ** np.arange(1, 100)[:, None]
    np.testing.assert_allclose(np.asarray(path) - mean[1:], error, atol=3e-6)


@pytest.mark.parametrize("name", ["smooth_path", "high_low"])
def test_errors_scatter_as_derived(name):
    """Var e_t = .49^t s^2 + sigma^2 (1 - .49^t) / .51 with s = .02, sigma = .002."""
    trace, env, n = tools.rollouts(name), tools.case(name), tools.EXPERTS
    mean = tools.mean_paths(name, env.spec.num_modes)[trace.modes[:n]]
    error = trace.position[:n, :100] - mean
    t = np.arange(100)
    std = np.sqrt(0.49**t * 0.02**2 + 0.002**2 * (1 - 0.49**t) / 0.51)
    # 1280 numbers per time: the standard error of a deviation is 1 / sqrt(2560) = .0198 of it; 5 sigma
    np.testing.assert_allclose(error.std((0, 2)) / std, 1.0, atol=0.099)
    spread = env.spread(env.default_params())
    assert float(spread.end) == pytest.approx(std[-1], rel=1e-4)
    # a step is d - .3 e_t + sigma n
    np.testing.assert_allclose(spread.step, np.sqrt(0.09 * std[:-1] ** 2 + 0.002**2), rtol=1e-4)
    assert np.linalg.norm(error, axis=-1).mean(-1).max() < float(spread.distance)


@pytest.mark.parametrize("name", ["smooth_path", "high_low"])
def test_deviation_is_from_the_nearest_mode_so_far(name):
    trace, env = tools.rollouts(name), tools.case(name)
    paths = tools.mean_paths(name, env.spec.num_modes)
    paths = np.concatenate([paths, paths[:, -1:]], axis=1)
    distance = np.linalg.norm(trace.position[:, None] - paths, axis=-1)  # [B, K, 101]
    sums = np.cumsum(distance[..., :100], axis=-1)
    sums = np.concatenate([sums, sums[..., -1:]], axis=-1)
    expected = np.take_along_axis(distance, sums.argmin(1)[:, None], 1)[:, 0]
    ordered = np.sort(sums, axis=1)
    clear = ordered[:, 1] - ordered[:, 0] > 1e-5 if len(paths) > 1 else np.ones(sums[:, 0].shape, bool)
    assert clear[:, 20:].mean() > 0.99
    deviation = trace.metrics["deviation"]
    np.testing.assert_allclose(deviation[clear[:, 1:]], expected[:, 1:][clear[:, 1:]], atol=1e-6)
    np.testing.assert_allclose(trace.first.metrics["deviation"], expected[:, 0], atol=1e-6)


def test_switches_count_committed_sides():
    env = tools.build("high_low")
    # up, into the dead band (|y - .5| <= .03), up again, down, dead band, down, up: two switches
    heights = [0.54, 0.52, 0.54, 0.50, 0.46, 0.48, 0.46, 0.50, 0.54]
    expected = [0, 0, 0, 0, 1, 1, 1, 1, 2]
    state = jax.jit(env.reset)(jax.random.key(0))
    state = state.replace(data=state.data | {"position": jnp.asarray([0.1, 0.5]), "side": jnp.zeros(())})
    step, counted = jax.jit(env.step), []
    for height in heights:
        action = (jnp.asarray([0.1, height]) - state.data["position"]) / env.scale
        state = step(state, action)
        counted.append(float(state.metrics["switches"]))
    assert counted == expected


def test_experts_do_not_switch_and_the_middle_collides():
    trace = tools.rollouts("high_low")
    reached = trace.metrics["switches"][: tools.EXPERTS, -1]
    # a start beyond .03 on the other side (1.5 sigma of .02: 6.7 %) switches once
    start = trace.position[: tools.EXPERTS, 0, 1] - 0.5
    wrong = np.where(trace.modes[: tools.EXPERTS] == 1, start < -0.03, start > 0.03)
    np.testing.assert_array_equal(reached, wrong)
    env = tools.build("high_low")
    middle = np.stack([np.linspace(0.05, 0.95, 100), np.full(100, 0.5)], -1)
    last = jax.tree.map(lambda x: x[-1], tools.drive(env, middle))
    assert (float(last.metrics["collision"]), float(last.metrics["success"])) == (1.0, 0.0)


def test_the_smooth_path_never_turns_back():
    """x grows by .9 / 99 per step, so a position says where on the path it is."""
    env = tools.build("smooth_path")
    (path,) = np.asarray(env.mean_paths(env.default_params()))
    np.testing.assert_allclose(np.diff(path[:, 0]), 0.9 / 99, rtol=1e-3)
    assert path.min() > 0
    assert path.max() < 1


def test_the_clock_is_observed_where_asked():
    env = registry.build("env", plugin("env", "high_low", clock=True))
    assert env.spec.obs_dim == 3
    state = jax.jit(env.reset)(jax.random.key(0))
    np.testing.assert_allclose(state.obs, [*state.data["position"], 0.0])
    for _ in range(2):
        state = jax.jit(env.step)(state, jnp.array([0.5, 0.5]))
    np.testing.assert_allclose(state.obs, [*state.data["position"], 2 / 99], rtol=1e-6)
    assert tools.build("high_low").spec.obs_dim == 2
