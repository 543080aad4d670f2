from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from . import _path_tools as tools


def area(path):
    """Signed area of a closed polygon, positive counter-clockwise."""
    x, y = np.asarray(path).T
    return 0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))


def test_full_clockwise_loops():
    env = tools.build("circle")
    bottom, top = np.asarray(env.mean_paths(env.default_params()))
    for path, centre in ((bottom, 0.3), (top, 0.7)):
        # 59-sided polygon: -59 / 2 * .04 * sin(2 pi / 59) = -.125427
        assert area(path[:-1]) == pytest.approx(-0.125427, rel=1e-4)
        np.testing.assert_allclose(path[[0, -1]], 0.5, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(path - [0.5, centre], axis=-1), 0.2, atol=1e-6)
    assert bottom[1, 0] > 0.5 > top[1, 0]


def test_standing_at_the_common_end_is_no_success():
    """Start and end are one point: only the length tells that nothing was done."""
    env = tools.build("circle")
    last = jax.tree.map(lambda x: x[-1], tools.drive(env, np.full((60, 2), 0.5)))
    assert float(jnp.linalg.norm(last.obs - 0.5)) < 1e-5
    assert float(last.metrics["collision"]) == 0.0
    assert float(last.metrics["success"]) == 0.0


def test_the_other_way_round_succeeds_and_is_a_bridge():
    """Counter-clockwise reaches the end without collision but lies in the tube of neither mode."""
    env = tools.build("circle")
    path = np.asarray(env.mean_paths(env.default_params()))[0, ::-1]
    last = jax.tree.map(lambda x: x[-1], tools.drive(env, np.concatenate([path[1:], path[-1:]])))
    # mean over the turn of 2 R |sin| = .4 * 2 / pi = .2546, tube Delta / 4 = .5007 / 4 = .1252
    assert float(last.metrics["path_distance"]) == pytest.approx(0.4 * 2 / np.pi, rel=0.03)
    assert (float(last.metrics["bridge"]), float(last.metrics["success"])) == (1.0, 1.0)


def test_radius_is_traced_and_moves_the_obstacles():
    env = tools.build("circle")
    small = env.default_params() | {"radius": jnp.asarray(0.1)}
    assert float(env.separation(small)) == pytest.approx(float(env.separation(env.default_params())) / 2)
    centres, halves = env.boxes(small)
    np.testing.assert_allclose(centres, [[0.5, 0.4], [0.5, 0.6]], atol=1e-6)
    np.testing.assert_allclose(halves[0], [0.04, 0.025], rtol=1e-6)


def test_context_is_observed_and_decides():
    env = tools.build("conditional_circle")
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 1000))
    context = np.asarray(states.data["context"])
    # 1000 fair draws: 5 sigma is .079
    assert context.mean() == pytest.approx(0.5, abs=0.079)
    np.testing.assert_array_equal(states.obs[:, 2:], np.eye(2)[context])
    np.testing.assert_array_equal(states.obs[:, :2], states.data["position"])
    trace = tools.rollouts("conditional_circle")
    wrong = np.asarray(trace.last.data["context"]) != trace.metrics["nearest_mode"][:, -1]
    assert wrong[: tools.EXPERTS].any()
    assert not trace.metrics["success"][wrong].any()
    assert (np.asarray(trace.last.info["mode"])[wrong] == -1).all()
