"""The density of SAC's policy against scipy: change of variables, its integral, its draws, its tails."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmbc_jax.ops import soft_policy as sac


def scipy_log_density(w, mean, std, box):
    """log N(atanh(w / b)) + log |dx / dw|, with dx/dw = 1 / (b (1 - (w / b)^2)), float64."""
    w = np.asarray(w, np.float64)
    if not box:
        return stats.norm.logpdf(w, mean, std)
    return stats.norm.logpdf(np.arctanh(w / box), mean, std) - np.log(box * (1 - (w / box) ** 2))


@pytest.mark.parametrize("box", [0.0, 1.0, 1.5])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.8, 0.3), (-1.5, 0.5)])
def test_density_against_scipy(mean, std, box):
    w = np.linspace(-0.97, 0.97, 41, dtype=np.float32) * (box or 1.0)
    given = jnp.full((41, 1), mean), jnp.full((41, 1), np.log(std))
    found = sac.log_prob(jnp.asarray(w)[:, None], *given, box)
    np.testing.assert_allclose(found, scipy_log_density(w, mean, std, box), rtol=2e-4, atol=2e-4)
    drawn, log_prob = sac.sample(jax.random.key(6), *given, box)
    expected = scipy_log_density(drawn[:, 0], mean, std, box)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("mean", "std", "box"), [(0.0, 1.0, 1.5), (1.0, 0.5, 1.5), (-0.5, 0.2, 3.0)])
def test_the_density_integrates_to_one(mean, std, box):
    """Gauss-Legendre with 400 nodes over the box; the density vanishes at the walls."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    log_prob = sac.log_prob(
        jnp.asarray(box * nodes, jnp.float32)[:, None], jnp.array([mean]), jnp.log(jnp.array([std])), box
    )
    density = np.exp(np.asarray(log_prob, np.float64))
    np.testing.assert_allclose(box * weights @ density, 1.0, atol=1e-4)


@pytest.mark.parametrize("box", [0.0, 1.5])
def test_draws_follow_the_density(box):
    """Kolmogorov-Smirnov against Phi((x - m) / s) on 4000 draws; sqrt(n) D exceeds 2.5 with p = 2 e^-12.5 = 7e-6."""
    w, _ = sac.sample(jax.random.key(7), jnp.full((4000, 1), 0.4), jnp.full(1, np.log(0.7)), box)
    w = np.sort(np.asarray(w[:, 0], np.float64))
    cdf = stats.norm.cdf(np.arctanh(w / box) if box else w, 0.4, 0.7)
    distance = max((np.arange(1, 4001) / 4000 - cdf).max(), (cdf - np.arange(4000) / 4000).max())
    assert np.sqrt(4000) * distance < 2.5


def test_far_out_the_density_stays_exact():
    """At |x| = 60, 1 - tanh^2 x = 4 e^-120 is 0 in float32: log pi = log N - log 4b + 120, of slope 2 tanh x."""
    mean = jnp.array([[60.0], [-60.0]])
    log_std = jnp.full(1, -3.0)
    w, log_prob = sac.sample(jax.random.key(8), mean, log_std, 1.5)
    np.testing.assert_array_equal(w, [[1.5], [-1.5]])
    x = np.asarray(sac.sample(jax.random.key(8), mean, log_std)[0], np.float64)
    expected = stats.norm.logpdf(x, mean, np.exp(-3.0)) - np.log(1.5) - np.log(4) + 2 * np.abs(x)
    np.testing.assert_allclose(log_prob, expected[:, 0], rtol=1e-5)
    slope = jax.grad(lambda m: sac.sample(jax.random.key(8), m, log_std, 1.5)[1].sum())(mean)
    np.testing.assert_allclose(slope, [[2.0], [-2.0]], rtol=1e-6)


def test_walls_and_beyond_have_a_finite_density():
    at = jnp.array([[-2.0], [-1.5], [1.5], [2.0]])
    found = sac.log_prob(at, jnp.zeros(1), jnp.zeros(1), 1.5)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], found[1])


def test_event_axes_are_summed_and_others_kept():
    mean = 0.1 * jax.random.normal(jax.random.key(9), (3, 2, 4, 5))
    log_std = jnp.linspace(-1.0, 0.5, 5)
    w, log_prob = sac.sample(jax.random.key(10), mean, log_std, 1.5, event_dims=2)
    assert w.shape == mean.shape
    assert log_prob.shape == (3, 2)
    expected = scipy_log_density(w, np.asarray(mean), np.exp(np.asarray(log_std)), 1.5).sum((-1, -2))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-3)
    np.testing.assert_allclose(sac.log_prob(w, mean, log_std, 1.5, event_dims=2), expected, rtol=1e-3)


def test_greedy_action():
    x = jnp.array([-50.0, 0.0, 0.5])
    np.testing.assert_allclose(sac.squash(x, 1.5), [-1.5, 0.0, 1.5 * np.tanh(0.5)], rtol=1e-6)
    np.testing.assert_array_equal(sac.squash(x, 0.0), x)


def test_units_of_the_entropy():
    """The same draw in a box of 1.5 and of 1: log pi differs by size log 1.5 = 3 * .405465 = 1.216395."""
    mean, log_std = jnp.array([0.2, -0.4, 0.0]), jnp.zeros(3)
    _, narrow = sac.sample(jax.random.key(11), mean, log_std, 1.0)
    _, wide = sac.sample(jax.random.key(11), mean, log_std, 1.5)
    np.testing.assert_allclose(sac.box_log_scale(1.5, 3), 1.216395, rtol=1e-6)
    np.testing.assert_allclose(narrow, wide + sac.box_log_scale(1.5, 3), rtol=1e-5)
    assert sac.box_log_scale(0.0, 3) == 0.0
