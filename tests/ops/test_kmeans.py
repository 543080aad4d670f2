from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.cluster import KMeans

from mmbc_jax.ops.kmeans import kmeans, lloyd, nearest, seed_centres


def blobs(n=200, k=5, d=3, spread=0.3, seed=0):
    rng = np.random.default_rng(seed)
    owner = np.arange(n) % k
    middles = rng.uniform(-3, 3, (k, d))
    return (middles[owner] + spread * rng.standard_normal((n, d))).astype(np.float32), owner


def inertia(x, centres):
    return np.square(x[:, None] - np.asarray(centres)[None]).sum(-1).min(1).sum()


@pytest.mark.parametrize("iterations", [1, 3, 20])
def test_lloyd_is_sklearns_from_the_same_start(iterations):
    x, _ = blobs(spread=1.5)
    start = x[:6]
    centres, assignment = lloyd(jnp.asarray(x), jnp.asarray(start), iterations)
    reference = KMeans(6, init=start, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd").fit(x)
    np.testing.assert_allclose(centres, reference.cluster_centers_, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(assignment, reference.labels_)


def test_inertia_is_that_of_sklearn():
    # sklearn's best of ten seedings, against a single one of ours with each of eight keys
    x, _ = blobs(n=300, k=8)
    best = KMeans(8, n_init=10, random_state=0).fit(x).inertia_
    run = jax.jit(functools.partial(kmeans, k=8, iterations=20))
    ratios = np.array([inertia(x, run(jax.random.key(i), jnp.asarray(x))[0]) / best for i in range(8)])
    assert (ratios > 1 - 1e-4).all()
    assert (ratios < 1.001).all()


@pytest.mark.heavy
def test_separated_blobs_are_found():
    x, owner = blobs(n=100, k=4, spread=0.01)
    _, assignment = kmeans(jax.random.key(1), jnp.asarray(x), 4, 5)
    pairs = {(int(a), int(b)) for a, b in zip(assignment, owner, strict=True)}
    assert len(pairs) == 4
    assert {a for a, _ in pairs} == set(range(4))


def test_seeds_are_drawn_by_squared_distance_and_the_better_of_two_is_kept():
    # points 0, 1, 3. First 0: a draw is 1 or 3 with odds 1:9; 1 leaves inertia 4 and 3 leaves 1, so 1 is kept
    # only where both draws are 1, .1^2. First 1: 0 or 3 with odds 1:4, 0 leaves 4, 3 leaves 1: .2^2.
    # First 3: 0 or 1 with odds 9:4, both leave 1, so the first draw is kept.
    # Pearson's statistic over six cells that sum to n; bound: chi-squared with 5 degrees at 5.7e-7, 5 sigma.
    x, n = jnp.array([[0.0], [1.0], [3.0]]), 6000
    draws = jax.jit(jax.vmap(lambda key: seed_centres(key, x, 2)[:, 0]))(
        jax.random.split(jax.random.key(2), n)
    )
    odds = {(0, 1): 0.01, (0, 3): 0.99, (1, 0): 0.04, (1, 3): 0.96, (3, 0): 9 / 13, (3, 1): 4 / 13}
    draws = np.asarray(draws).round().astype(int)
    seen = np.array([(draws == pair).all(1).sum() for pair in odds])
    assert seen.sum() == n
    expected = n / 3 * np.array(list(odds.values()))
    assert ((seen - expected) ** 2 / expected).sum() < stats.chi2.isf(5.7e-7, 5)


def test_a_centre_without_points_stays():
    centres, assignment = lloyd(jnp.array([[0.0], [2.0]]), jnp.array([[0.5], [50.0]]), 3)
    np.testing.assert_allclose(centres, [[1.0], [50.0]])
    np.testing.assert_array_equal(assignment, [0, 0])


@pytest.mark.parametrize("points", [1, 3])
def test_more_centres_than_distinct_points(points):
    x = jnp.repeat(jnp.arange(float(points))[:, None], 2, 0)
    centres, assignment = jax.jit(lambda key: kmeans(key, x, 8, 4))(jax.random.key(3))
    assert np.isfinite(centres).all()
    np.testing.assert_allclose(centres[assignment], x, atol=1e-6)


def test_one_centre_is_the_mean_and_far_data_keeps_its_digits():
    x = 1000.0 + jnp.array([[0.0], [0.5], [1.0]])
    centres, _ = kmeans(jax.random.key(4), x, 1, 2)
    np.testing.assert_allclose(centres, [[1000.5]], rtol=1e-6)
    np.testing.assert_array_equal(nearest(x, jnp.array([[1000.1], [1000.8]])), [0, 1, 1])


@pytest.mark.heavy
@pytest.mark.slow
def test_vmap_over_keys_and_data():
    x = jnp.stack([jnp.asarray(blobs(40, 3, 2, seed=i)[0]) for i in range(2)])
    keys = jax.random.split(jax.random.key(5), 2)
    together, _ = jax.vmap(lambda key, x: kmeans(key, x, 3, 4))(jax.random.clone(keys), x)
    for i, key in enumerate(keys):
        np.testing.assert_allclose(together[i], kmeans(key, x[i], 3, 4)[0], rtol=1e-5, atol=1e-5)
