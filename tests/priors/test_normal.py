from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.priors.normal import gaussian_noise


def test_log_prob_against_scipy():
    prior = registry.build("prior", plugin("prior", "normal"), (4, 2), spec=PolicySpec(3, 2, 4))
    assert prior.gaussian
    assert prior.init(jax.random.key(0)) == {}
    x = np.random.default_rng(0).standard_normal((6, 4, 2)).astype(np.float32)
    result = prior.distribution({}, jnp.zeros((6, 3))).log_prob(x)
    expected = stats.multivariate_normal(np.zeros(8)).logpdf(x.reshape(6, 8))
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_moments():
    prior = registry.build("prior", plugin("prior", "normal"), (4, 2), spec=PolicySpec(3, 2, 4))
    n = 20_000
    w = np.asarray(prior.distribution({}, jnp.zeros((n, 3))).sample(seed=jax.random.key(1))).reshape(n, 8)
    # mean has std 1/sqrt(n); an entry of the covariance 1/sqrt(n) off the diagonal, sqrt(2/n) on it
    assert np.abs(w.mean(0)).max() < 5 / np.sqrt(n)
    assert np.abs(np.cov(w.T) - np.eye(8)).max() < 5 * np.sqrt(2 / n)


def test_noise_of_any_shape_and_width():
    x = np.random.default_rng(1).standard_normal((2, 5, 3)).astype(np.float32)
    noise = gaussian_noise((2,), (5, 3), 0.5)
    assert (noise.batch_shape, noise.event_shape) == ((2,), (5, 3))
    expected = stats.multivariate_normal(np.zeros(15), 0.25 * np.eye(15)).logpdf(x.reshape(2, 15))
    np.testing.assert_allclose(noise.log_prob(x), expected, rtol=1e-5)
