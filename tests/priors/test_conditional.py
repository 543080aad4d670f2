from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import PolicySpec

from ._fit import fit


def make(event_shape=(2,), **fields):
    cfg = plugin("prior", "conditional", **{"hidden": (16,), "fourier_octaves": 1, **fields})
    return registry.build("prior", cfg, event_shape, spec=PolicySpec(1, 2, 4))


def with_constant_output(prior, values):
    """Parameters at which the network's output is `values` whatever the observation."""
    params = jax.jit(prior.init)(jax.random.key(0))
    return {**params, "Dense_1": {**params["Dense_1"], "bias": jnp.asarray(values)}}


def test_starts_at_the_standard_normal():
    prior = make((3, 2))
    base = prior.distribution(prior.init(jax.random.key(0)), jnp.ones((5, 1)))
    np.testing.assert_array_equal(base.distribution.loc, np.zeros((5, 3, 2)))
    np.testing.assert_array_equal(base.distribution.scale, np.ones((5, 3, 2)))


def test_log_prob_against_scipy():
    prior = make()
    # first half mean, second half raw log-variance; 8 tanh(2 / 8) = 1.959, 8 tanh(-1 / 8) = -.9948
    params = with_constant_output(prior, [0.5, -1.0, 2.0, -1.0])
    x = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)
    variance = np.exp(8 * np.tanh(np.array([2.0, -1.0]) / 8))
    expected = stats.multivariate_normal([0.5, -1.0], np.diag(variance)).logpdf(x)
    result = prior.distribution(params, jnp.zeros((6, 1))).log_prob(x)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    loss = prior.loss(params, jax.random.key(1), jnp.zeros((6, 1)), x)
    np.testing.assert_allclose(loss, -expected, rtol=1e-5)


@pytest.mark.parametrize("raw", [-1e6, 1e6])
def test_variance_is_bounded(raw):
    prior = make()
    scale = prior.distribution(with_constant_output(prior, [0.0, 0.0, raw, raw]), jnp.zeros(1)).distribution
    # exp(8 / 2) = 54.6 and its inverse
    np.testing.assert_allclose(scale.scale, np.exp(np.sign(raw) * 4.0), rtol=1e-5)


def test_learns_the_mean_and_spread_of_each_state():
    prior, n = make(), 512
    key_obs, key_noise = jax.random.split(jax.random.key(2))
    obs = jnp.where(jax.random.bernoulli(key_obs, 0.5, (n, 1)), 0.5, -0.5)
    noise = jax.random.normal(key_noise, (n, 2))
    z = 4.0 * obs + jnp.where(obs > 0, 0.3, 1.0) * noise
    params = fit(prior, obs, z, steps=400, rate=3e-2, key=3)
    learned = prior.distribution(params, jnp.array([[0.5], [-0.5]])).distribution
    group = [np.asarray(z)[np.asarray(obs[:, 0]) > 0], np.asarray(z)[np.asarray(obs[:, 0]) < 0]]
    # the maximum of the likelihood is the sample mean and deviation of each state
    np.testing.assert_allclose(learned.loc, [g.mean(0) for g in group], atol=0.03)
    np.testing.assert_allclose(learned.scale, [g.std(0) for g in group], rtol=0.05)


@pytest.mark.parametrize(("field", "value"), [("hidden", (0,)), ("hidden", ()), ("fourier_octaves", -1)])
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"prior.{field}"):
        make(**{field: value})
