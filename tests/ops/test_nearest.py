"""Distances to nearest neighbours of another class, against scipy's trees."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree

from mmbc_jax.ops.nearest import neighbour_distance


def by_trees(points, label, others, other_label, counts, k):
    found = np.zeros(len(points))
    for one in np.unique(label):
        rows, may = label == one, (other_label != one) & (counts > 0)
        nearest = cKDTree(others[may]).query(points[rows], range(1, min(k, may.sum()) + 1))[0]
        found[rows] = nearest.mean(1)
    return found


@pytest.mark.parametrize(("n", "m", "k"), [(700, 333, 3), (256, 40, 1), (5, 300, 50)])
def test_agrees_with_a_tree_for_each_class(n, m, k):
    """Distances of order 1 in 6 dimensions, within 1e-4; 700 rows are two whole blocks of 256 and a part of one."""
    rng = np.random.default_rng(n)
    points, others = rng.normal(size=(n, 6)) + 3.0, rng.normal(size=(m, 6)) + 3.0
    label, other_label = rng.integers(0, 3, n), rng.integers(0, 3, m)
    counts = rng.integers(0, 2, m).astype(float)
    given = (points, label, others, other_label, counts)
    found = jax.jit(neighbour_distance, static_argnums=5)(*map(jnp.asarray, given), k)
    np.testing.assert_allclose(found, by_trees(*given, k), atol=1e-4)


def test_fewer_neighbours_than_asked_for():
    """Class 0 has two others, at 3 and 4 along one axis; class 1 has one; class 2 has all three."""
    others, other_label = jnp.array([[0.0], [3.0], [4.0]]), jnp.array([0, 1, 1])
    points, label = jnp.zeros((3, 1)), jnp.array([0, 1, 2])
    ones = jnp.ones(3)
    found = neighbour_distance(points, label, others, other_label, ones, 5)
    np.testing.assert_allclose(found, [3.5, 0.0, 7 / 3], atol=1e-6)
    none = neighbour_distance(points, label, others, other_label, jnp.zeros(3), 5)
    np.testing.assert_array_equal(none, 0.0)
