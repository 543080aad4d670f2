"""Means of what counts: with zeros they are those of the rest, with ones those of plain arrays."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mmbc_jax.ops import weighted
from mmbc_jax.ops.gae import gae
from mmbc_jax.ops.policy_gradient import clipped_surrogate, explained_variance, normalise_advantage
from mmbc_jax.ops.running_moments import merge, moments_of

RNG = np.random.default_rng(0)
X, Y = (jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32) for _ in range(2))
KEPT = np.asarray(RNG.integers(0, 2, (6, 4)), bool)
WEIGHT, ONES = jnp.asarray(KEPT, jnp.float32), jnp.ones((6, 4))


def test_mean_and_variance():
    np.testing.assert_allclose(weighted.mean(X, WEIGHT), np.asarray(X)[KEPT].mean(), rtol=1e-5)
    np.testing.assert_allclose(weighted.variance(X, WEIGHT), np.asarray(X)[KEPT].var(), rtol=1e-5)
    np.testing.assert_allclose(weighted.mean(X, ONES), X.mean(), rtol=1e-6)
    assert weighted.mean(X, 0 * ONES) == weighted.variance(X, 0 * ONES) == 0.0


def test_one_advantage_that_is_not_finite_leaves_the_others_alone():
    found = normalise_advantage(jnp.zeros(512).at[3].set(jnp.nan))
    np.testing.assert_array_equal(found, np.zeros(512))
    spoilt = X.at[2, 1].set(jnp.inf)
    rest = np.delete(np.asarray(X).ravel(), 2 * 4 + 1)
    found = np.delete(np.asarray(normalise_advantage(spoilt)).ravel(), 2 * 4 + 1)
    np.testing.assert_allclose(found, (rest - rest.mean()) / rest.std(), rtol=1e-4, atol=1e-6)


def test_figures_of_ppo_are_those_of_what_counts():
    kept, far = np.asarray(X)[KEPT], jnp.where(WEIGHT > 0, X, 1e6)
    found = np.asarray(normalise_advantage(far, WEIGHT))
    np.testing.assert_allclose(found[KEPT], (kept - kept.mean()) / kept.std(), rtol=1e-4, atol=1e-6)
    assert not found[~KEPT].any()
    np.testing.assert_allclose(
        explained_variance(far, Y, WEIGHT), 1 - (Y - X)[KEPT].var() / Y[KEPT].var(), rtol=1e-4
    )
    ratio = far.reshape(-1, 1) * 0.3
    with_all = clipped_surrogate(ratio, Y.ravel(), 0.2, WEIGHT.ravel())
    alone = clipped_surrogate(ratio[KEPT.ravel()], Y.ravel()[KEPT.ravel()], 0.2)
    np.testing.assert_allclose(with_all[0][KEPT.ravel()], alone[0], rtol=1e-6)
    np.testing.assert_allclose(with_all[1:], alone[1:], rtol=1e-5)


def test_a_step_that_led_nowhere_is_bootstrapped_before():
    """Three steps, the last is not valid: A_1 = r_1 + d V(s_2) - V(s_1), A_0 follows, and A_2 = 0."""
    reward, value = jnp.array([[1.0], [2.0], [50.0]]), jnp.array([[0.5], [0.25], [4.0]])
    following = jnp.array([[0.25], [4.0], [70.0]])
    end = jnp.array([[0.0], [0.0], [1.0]])
    found, target = gae(reward, value, following, end, end, jnp.full((3, 1), 0.9), 0.5, 1.0 - end)
    second = 2.0 + 0.9 * 4.0 - 0.25
    first = 1.0 + 0.9 * 0.25 - 0.5 + 0.45 * second
    np.testing.assert_allclose(found[:, 0], [first, second, 0.0], rtol=1e-6)
    np.testing.assert_allclose(target, found + value, rtol=1e-6)


def test_moments_of_what_counts():
    rows = jnp.where(WEIGHT[..., None] > 0, jnp.stack([X, Y], -1), 1e6)
    found = moments_of(rows, WEIGHT)
    kept = np.stack([X, Y], -1)[KEPT]
    assert found.rows == KEPT.sum()
    np.testing.assert_allclose(found.mean, kept.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.variance, kept.var(0), rtol=1e-4)
    nothing = moments_of(rows, 0 * WEIGHT)
    for merged in (merge(found, nothing), merge(nothing, found)):
        np.testing.assert_allclose(merged.mean, found.mean, rtol=1e-6)
        np.testing.assert_allclose(merged.variance, found.variance, rtol=1e-6)
