from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from . import _path_tools as tools


@pytest.mark.parametrize("k", [1, 2, 3, 8, 16, 64])
def test_own_sector_is_enough(k):
    """The square of the point's sector, against all K squares."""
    env = tools.build("radial", num_modes=k)
    params, points = env.default_params(), jax.random.uniform(jax.random.key(0), (5000, 2))
    centres, halves = (np.asarray(x)[:k] for x in env.boxes(params))
    expected = (np.abs(np.asarray(points)[:, None] - centres) <= halves).all(-1).any(-1)
    np.testing.assert_array_equal(env.collides(params, points), expected)
    # half size (.2 sin(pi / K) - .018) / sqrt(2): positive up to K = 34
    assert expected.any() == (1 < k <= 34)


def test_size_of_the_squares():
    # K = 8: (.2 * .382683 - .018) / 1.414214 = .041392
    _, halves = tools.build("radial").boxes(tools.build("radial").default_params())
    np.testing.assert_allclose(halves, 0.041392, rtol=1e-4)


@pytest.mark.parametrize("k", [2, 8, 16])
def test_separation_in_closed_form(k):
    """Neighbours at radius R s, s uniform on [0, 1], are 2 R s sin(pi / K) apart: R sin(pi / K) in the mean."""
    env = tools.build("radial", num_modes=k)
    assert float(env.separation(env.default_params())) == pytest.approx(0.4 * np.sin(np.pi / k), rel=1e-5)


def half_way(env):
    """The end of a straight line half way between modes 0 and 1."""
    angle = np.pi / env.spec.num_modes
    targets = 0.5 + np.linspace(0, 0.4, 60)[:, None] * [np.cos(angle), np.sin(angle)]
    return jax.tree.map(lambda x: x[-1], tools.drive(env, np.concatenate([targets[1:], targets[-1:]])))


def test_half_way_between_distant_modes_is_a_collision_and_a_bridge():
    last = half_way(tools.build("radial"))
    # 2 R s sin(pi / 16) from both at radius R s: .4 * .19509 = .07804 in the mean; tube .15307 / 4 = .03827
    assert float(last.metrics["path_distance"]) == pytest.approx(0.07804, abs=4e-4)
    assert (float(last.metrics["collision"]), float(last.metrics["bridge"])) == (1.0, 1.0)
    assert int(last.info["mode"]) == -1


def test_half_way_between_modes_closer_than_the_noise_is_none():
    """K = 64 and sigma = .012 leave no room for obstacles, and modes within each other's tube."""
    last = half_way(tools.build("radial", num_modes=64, noise=0.012))
    # .4 sin(pi / 128) = .009817; tube .012 (1.25331 + 5 * .65514 / 7.74597) = .020115; |start error| / 60 < .0008
    assert float(last.metrics["path_distance"]) == pytest.approx(0.009817, abs=8e-4)
    assert float(last.data["tube"]) == pytest.approx(0.020115, rel=1e-4)
    assert (float(last.metrics["collision"]), float(last.metrics["bridge"])) == (0.0, 0.0)
    assert int(last.metrics["nearest_mode"]) in (0, 1)
    # a line without noise, .4, is less than half the experts' length: steps of mean sqrt(pi) sigma make 1.3
    assert (float(last.metrics["success"]), int(last.info["mode"])) == (0.0, -1)


def test_half_way_in_the_tube_of_two_modes():
    """The middle half between two close modes is a bridge: 16 modes, weights .2 and .3 of the next one."""
    env = tools.build("radial", num_modes=16, noise=0.0005)
    paths = np.asarray(env.mean_paths(env.default_params()))
    for weight, bridge in ((0.2, 0.0), (0.3, 1.0), (0.7, 1.0), (0.8, 0.0)):
        mixed = (1 - weight) * paths[0] + weight * paths[1]
        trace = tools.drive(env, np.concatenate([mixed[1:], mixed[-1:]]))
        assert float(trace.metrics["bridge"][-1]) == bridge, weight
        assert int(trace.metrics["nearest_mode"][-1]) == (weight > 0.5)


@pytest.mark.parametrize("part", [0.0, 0.4])
def test_a_short_way_is_no_success(part):
    """Standing still, or going .16 of .4: far from every end, and shorter than half the experts' .72."""
    env = tools.build("radial")
    last = jax.tree.map(lambda x: x[-1], tools.drive(env, np.tile([0.5 + 0.4 * part, 0.5], (60, 1))))
    assert float(last.metrics["success"]) == 0.0
    assert int(last.info["mode"]) == -1
    assert float(last.done) == 1.0


def test_labels_are_angles():
    assert tools.build("radial").spec.mode_names[:3] == ("0 deg", "45 deg", "90 deg")
    assert jnp.asarray(tools.build("radial").default_params()["num_modes"]).dtype == jnp.int32
