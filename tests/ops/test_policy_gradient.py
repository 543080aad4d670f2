"""The clipped surrogate against arithmetic by hand and against closed forms for Gaussians."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.ops.policy_gradient import clipped_surrogate, explained_variance, normalise_advantage


def surrogate(ratio, advantage, clip=0.2):
    return clipped_surrogate(jnp.log(jnp.asarray(ratio)), jnp.asarray(advantage), clip)


# clip .2: the objective is min(rho A, clip(rho, .8, 1.2) A)
@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),  # inside: rho A
        (1.1, -2.0, 2.2, 2.2),
        (1.5, 2.0, -2.4, 0.0),  # good and already far likelier: held at 1.2 * 2, no gradient
        (0.5, 2.0, -1.0, -1.0),  # good but far less likely: .5 * 2, free to come back
        (1.5, -2.0, 3.0, 3.0),  # bad and far likelier: 1.5 * 2, free to come back
        (0.5, -2.0, 1.6, 0.0),  # bad and already far less likely: held at .8 * 2, no gradient
    ],
)
def test_each_branch(ratio, advantage, loss, slope):
    found, _, _ = surrogate([[ratio]], [advantage])
    np.testing.assert_allclose(found, [loss], rtol=1e-6)
    gradient = jax.grad(lambda x: clipped_surrogate(x, jnp.array([advantage]), 0.2)[0].sum())
    # d(-rho A)/d log rho = -rho A
    np.testing.assert_allclose(gradient(jnp.log(jnp.array([[ratio]]))), [[slope]], rtol=1e-5)


def test_factors_share_the_advantage_and_are_averaged():
    """R = 2, A = (1, -1): row 0 min(1.5, 1.2) + 1 = 2.2 -> -1.1; row 1 max(.5, .8) + 1.1 = 1.9 -> .95.

    Outside .8..1.2 are 1.5 and .5: 2 of 4. KL: ((.5 - log 1.5) + 0 + (-.5 - log .5) + (.1 - log 1.1)) / 2.
    """
    loss, clipped, kl = surrogate([[1.5, 1.0], [0.5, 1.1]], [1.0, -1.0])
    np.testing.assert_allclose(loss, [-1.1, 0.95], rtol=1e-6)
    assert clipped == 0.5
    expected = (0.5 - np.log(1.5) - 0.5 - np.log(0.5) + 0.1 - np.log(1.1)) / 2
    np.testing.assert_allclose(kl, expected, rtol=1e-5)


def test_unchanged_parameters():
    advantage = jnp.array([1.0, -3.0])
    loss, clipped, kl = clipped_surrogate(jnp.zeros((2, 3)), advantage, 0.2)
    np.testing.assert_array_equal(loss, -advantage)
    assert clipped == 0.0
    assert kl == 0.0


def test_a_small_kl_does_not_drown_in_rounding():
    """log rho = 1e-4: e^x - 1 - x = x^2 / 2 + x^3 / 6 = 5.0002e-9; exp(x) - 1 would be off by up to 6e-8."""
    kl = clipped_surrogate(jnp.full((4, 1), 1e-4), jnp.zeros(4), 0.2)[2]
    np.testing.assert_allclose(kl, 5.0002e-9, rtol=3e-3)


def test_kl_is_never_negative():
    log_ratio = jax.random.normal(jax.random.key(0), (200, 4))
    kl = jax.vmap(lambda row: clipped_surrogate(row[None], jnp.zeros(1), 0.2)[2])(log_ratio)
    assert (kl >= 0).all()


def test_approximate_kl_matches_the_closed_form_for_gaussians():
    """Old N(0, 1), new N(.2, 1.1^2): KL(old || new) = log 1.1 + (1 + .2^2) / (2 1.1^2) - 1/2.

    The bound is 5 standard errors of the mean, from the samples' own spread.
    """
    x = jax.random.normal(jax.random.key(1), (40_000,))
    log_ratio = -0.5 * ((x - 0.2) / 1.1) ** 2 - jnp.log(1.1) + 0.5 * x**2
    kl = clipped_surrogate(log_ratio[:, None], jnp.zeros_like(x), 0.2)[2]
    spread = float(jnp.std(jnp.exp(log_ratio) - 1 - log_ratio))
    expected = np.log(1.1) + (1 + 0.2**2) / (2 * 1.1**2) - 0.5
    assert abs(float(kl) - expected) < 5 * spread / np.sqrt(x.size)
    assert 5 * spread / np.sqrt(x.size) < 0.1 * expected  # the bound can fail


def test_factors_add_up_in_the_kl():
    log_ratio = jax.random.normal(jax.random.key(2), (50, 3)) * 0.1
    total = clipped_surrogate(log_ratio, jnp.zeros(50), 0.2)[2]
    single = [clipped_surrogate(log_ratio[:, i : i + 1], jnp.zeros(50), 0.2)[2] for i in range(3)]
    np.testing.assert_allclose(total, sum(single), rtol=1e-5)


def test_normalised_advantage():
    """(1, 2, 3, 6): mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5."""
    found = normalise_advantage(jnp.array([[1.0, 2.0], [3.0, 6.0]]))
    np.testing.assert_allclose(found, np.array([[-2, -1], [0, 3]]) / np.sqrt(3.5), rtol=1e-6)
    np.testing.assert_array_equal(normalise_advantage(jnp.full((4,), 7.0)), np.zeros(4))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1.0, 2.0, 3.0), 1.0),  # exact
        ((4.0, 5.0, 6.0), 1.0),  # a constant offset is no unexplained variance
        ((2.0, 2.0, 2.0), 0.0),  # the mean
        ((3.0, 2.0, 1.0), -3.0),  # errors -2, 0, 2: variance 8/3 against 2/3, 1 - 4
    ],
)
def test_explained_variance(value, expected):
    found = explained_variance(jnp.array(value), jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_explained_variance_of_a_constant_target_is_zero():
    assert explained_variance(jnp.array([1.0, 2.0]), jnp.array([3.0, 3.0])) == 0.0
