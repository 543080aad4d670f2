from __future__ import annotations

import jax
import numpy as np
import pytest

from . import _path_tools as tools


@pytest.mark.parametrize("k", [2, 8, 16, 64])
def test_nearest_gap_is_enough(k):
    """The closed form against the K + 1 pieces of the wall."""
    env = tools.build("corridor", num_modes=k)
    params, points = env.default_params(), jax.random.uniform(jax.random.key(0), (20000, 2))
    centres, halves = (np.asarray(x)[: k + 1] for x in env.boxes(params))
    expected = (np.abs(np.asarray(points)[:, None] - centres) <= halves).all(-1).any(-1)
    np.testing.assert_array_equal(env.collides(params, points), expected)
    # the wall is .04 wide; K of K + 1 pitches are half open
    area = 0.04 * (1 - 0.5 * k / (k + 1))
    assert expected.mean() == pytest.approx(area, abs=5 * np.sqrt(area / 20000))


def test_gaps_are_half_a_pitch_high():
    # K = 8: gap 3 at 4 / 9 = .44444, height 1 / 18: open in (.41667, .47222)
    env = tools.build("corridor")
    y = np.array([0.4160, 0.4173, 0.4444, 0.4716, 0.4729, 0.0, 1.0])
    points = np.stack([np.full(7, 0.5), y], -1).astype(np.float32)
    np.testing.assert_array_equal(env.collides(env.default_params(), points), [1, 0, 0, 0, 1, 1, 1])
    assert not env.collides(env.default_params(), points - np.float32([0.021, 0])).any()


def test_wider_gaps_are_traced():
    env = tools.build("corridor")
    point = np.float32([0.5, 0.4160])
    wide = env.default_params() | {"gap": 0.6}
    assert bool(env.collides(env.default_params(), point))
    assert not bool(env.collides(wide, point))


def test_the_mean_over_modes_runs_into_the_wall():
    env = tools.build("corridor")
    trace = tools.drive(env, np.stack([np.linspace(0.05, 0.95, 60), np.full(60, 0.5)], -1))
    assert float(trace.metrics["collision"][-1]) == 1.0
    assert float(trace.metrics["success"][-1]) == 0.0
    assert np.linalg.norm(np.asarray(trace.obs[-1]) - [0.95, 0.5]) < 1e-5  # it arrives all the same
    assert float(trace.done[:-1].max()) == 0.0  # and the collision did not end the episode


def test_separation_in_closed_form():
    # neighbours are f(x) / (K + 1) apart, f the ramp up to the wall and down again
    x = 0.05 + 0.9 * np.arange(60) / 59
    mean = np.interp(x, [0.05, 0.48, 0.52, 0.95], [0, 1, 1, 0]).mean()
    for k in (2, 8, 16):
        env = tools.build("corridor", num_modes=k)
        assert float(env.separation(env.default_params())) == pytest.approx(mean / (k + 1), rel=1e-5)


def test_experts_never_touch_the_wall_even_with_tight_gaps():
    """K = 16 leaves 2.9 sigma to either side; only drawing again keeps 640 x 3 positions free."""
    trace = tools.rollouts("corridor")
    position = trace.position[: tools.EXPERTS].reshape(-1, 2)
    in_wall = position[np.abs(position[:, 0] - 0.5) <= 0.02]
    centre = (np.round(in_wall[:, 1] * 17)) / 17
    assert len(in_wall) > 1000
    assert np.abs(in_wall[:, 1] - centre).max() < 0.25 / 17
