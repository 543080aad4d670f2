"""Boxes that a disc pushes over a table, against C MuJoCo and closed forms."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.envs.planar._sliders import Surfaces, pushed
from tests.envs._planar_scenes import driven, on_a_table, planar

HALF, ROD = 0.03, 0.01
CORNERS = float(np.sqrt(2.0)) * HALF
CASES = {  # poses, way of the rod
    "beside the middle": ([(0.0, 0.0, 0.0)], [(-0.0405, 0.015), (0.01, 0.015)]),
    "slipping along a side": ([(0.0, 0.0, 0.3)], [(-0.05, -0.01), (-0.01, 0.03)]),
    "corner on side": ([(0.0, 0.0, 0.2), (0.075, 0.02, -0.4)], [(-0.047, 0.005), (0.015, 0.01)]),
    "side on corner": ([(0.0, 0.0, 0.0), (0.07, 0.01, 0.7)], [(-0.0405, 0.005), (0.01, 0.01)]),
}


@functools.cache
def program(bodies):
    shapes = ((((0.0, 0.0), (HALF, HALF)),),) * bodies
    return jax.jit(lambda b, x, y, s: pushed(shapes, b, x, y, ROD, s, substeps=1)[0])


def moved(poses, way, friction, longest, radius=CORNERS):
    """[K, 3] poses after the way, in substeps of at most `longest` m."""
    blocks, way = jnp.asarray(poses, jnp.float32), np.asarray(way)
    surfaces = Surfaces(*(jnp.asarray(x) for x in (friction, friction, radius)))
    for a, b in zip(way[:-1], way[1:], strict=True):
        points = np.linspace(a, b, int(np.ceil(np.linalg.norm(b - a) / longest)) + 1).astype(np.float32)
        for start, end in zip(points[:-1], points[1:], strict=True):
            blocks = program(len(poses))(blocks, start, end, surfaces)
    return np.asarray(blocks)


@pytest.mark.parametrize("friction", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("case", list(CASES))
def test_it_moves_as_mujoco_in_the_plane(case, friction):
    """Over 5 cm .3 mm and .015 rad in substeps of 2 mm, which the tasks have, and half and a third of it in .5 mm."""
    poses, way = (np.asarray(x) for x in CASES[case])
    expected = driven(planar(HALF, CORNERS, ROD, friction, poses, way[0]), way, poses[:, 2], speed=0.1)
    assert np.abs(expected - poses)[:, :2].max() > 0.025  # it was pushed
    for longest, metres, angle in ((2e-3, 3e-4, 0.015), (5e-4, 1.5e-4, 0.005)):
        error = np.abs(moved(poses, way, friction, longest) - expected)
        assert error[:, :2].max() < metres
        assert error[:, 2].max() < angle


@pytest.mark.parametrize("friction", [0.3, 1.0])
@pytest.mark.parametrize("case", list(CASES))
def test_a_table_with_dry_friction(case, friction):
    """A cube in space ends 3.1 mm and .08 rad from ours after 5 cm; two that push each other 10 mm and .3 rad."""
    poses, way = (np.asarray(x) for x in CASES[case])
    expected = driven(on_a_table(HALF, ROD, friction, poses, way[0]), way, poses[:, 2], speed=0.05)
    error = np.abs(moved(poses, way, friction, 1e-3) - expected)
    metres, angle = (0.0031, 0.08) if len(poses) == 1 else (0.01, 0.3)
    assert error[:, :2].max() < metres
    assert error[:, 2].max() < angle
    if len(poses) == 1:  # a cube that lay evenly on the table would turn at least .1 rad more
        even = np.abs(moved(poses, way, friction, 1e-3, 0.77 * HALF) - expected)
        assert even[:, 2].max() > angle + 0.1


def test_a_push_through_the_middle_turns_nothing():
    found = moved([(0.0, 0.0, 0.0)], [(-0.05, 0.0), (0.02, 0.0)], 1.0, 2e-3)
    np.testing.assert_allclose(found, [[0.02 + ROD + HALF, 0.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize("radius", [CORNERS, 0.02])
def test_the_turn_of_a_short_push(radius):
    """Without friction d = (n, (r x n) / R^2) / (1 + (r x n)^2 / R^2) a metre of push: here r x n = -y along x."""
    push, y = 4e-4, 0.02
    found = moved([(0.0, 0.0, 0.0)], [(-HALF - ROD, y), (-HALF - ROD + push, y)], 0.0, 1e-4, radius)[0]
    share = 1.0 / (1.0 + (y / radius) ** 2)
    np.testing.assert_allclose(found[0] / push, share, rtol=0.03)
    np.testing.assert_allclose(found[2] / push, -share * y / radius**2, rtol=0.03)


def test_a_mirrored_push_is_mirrored():
    poses, way = (np.asarray(x) for x in CASES["corner on side"])
    there = moved(poses, way, 0.5, 2e-3)
    back = moved(poses * [1, -1, -1], way * [1, -1], 0.5, 2e-3)
    np.testing.assert_allclose(back, there * [1, -1, -1], atol=1e-5)


def test_the_speed_does_not_matter():
    """Only the way does, so a push and its two halves are one."""
    poses, way = CASES["beside the middle"]
    middle = np.mean(way, 0)
    once, twice = moved(poses, way, 0.5, 1e-3), moved(poses, [way[0], middle, way[1]], 0.5, 1e-3)
    np.testing.assert_allclose(once, twice, atol=1e-4)


def test_cubes_that_overlap_are_parted():
    found = moved([(0.0, 0.0, 0.0), (0.05, 0.01, 0.0)], [(-1.0, -1.0), (-1.0, -0.999)], 1.0, 1e-3)
    # To first order of the turn that they take together, .04 rad.
    assert found[1, 0] - found[0, 0] == pytest.approx(2 * HALF, abs=2e-4)


def test_what_is_lifted_pushes_nothing():
    shapes = ((((0.0, 0.0), (HALF, HALF)),),)
    block, surfaces = jnp.zeros((1, 3)), Surfaces(1.0, 0.0, CORNERS)
    ends = jnp.asarray([[-0.05, 0.0], [-0.03, 0.0]])
    found, touched = pushed(shapes, block, *ends, ROD, surfaces, acts=False, substeps=2)
    np.testing.assert_array_equal(found, block)
    assert not bool(touched[0])
