"""Distances to nearest neighbours of each class, against scipy's trees."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree

from mmbc_jax.ops.nearest import neighbour_distances

CLASSES = 3


@pytest.mark.parametrize(("n", "m", "k"), [(700, 333, 3), (256, 40, 1), (5, 300, 50)])
def test_agrees_with_a_tree_of_each_class(n, m, k):
    """Distances of order 1 in 6 dimensions, within 1e-4; 700 rows are two whole blocks of 256 and a part of one."""
    rng = np.random.default_rng(n)
    points, others = rng.normal(size=(n, 6)) + 3.0, rng.normal(size=(m, 6)) + 3.0
    label, counts = rng.integers(0, CLASSES, m), rng.integers(0, 2, m).astype(float)
    run = jax.jit(neighbour_distances, static_argnums=(4, 5))
    found = run(*map(jnp.asarray, (points, others, label, counts)), CLASSES, k)
    for one in range(CLASSES):
        may = (label == one) & (counts > 0)
        nearest = cKDTree(others[may]).query(points, range(1, min(k, may.sum()) + 1))[0]
        np.testing.assert_allclose(found[:, one], nearest.mean(1), atol=1e-4)


def test_fewer_neighbours_than_asked_for():
    """From 0: class 0 has one at 1, class 1 two at 3 and 4 along one axis, class 2 none."""
    others, label = jnp.array([[1.0], [3.0], [4.0]]), jnp.array([0, 1, 1])
    found = neighbour_distances(jnp.zeros((2, 1)), others, label, jnp.ones(3), CLASSES, 5)
    np.testing.assert_allclose(found, [[1.0, 3.5, 0.0]] * 2, atol=1e-6)
    none = neighbour_distances(jnp.zeros((2, 1)), others, label, jnp.array([1.0, 0, 0]), CLASSES, 5)
    np.testing.assert_allclose(none, [[1.0, 0.0, 0.0]] * 2, atol=1e-6)
