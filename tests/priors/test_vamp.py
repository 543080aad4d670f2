from __future__ import annotations

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import PolicySpec


def make(**fields):
    return registry.build("prior", plugin("prior", "vamp", **fields), (2,), spec=PolicySpec(3, 2, 4))


def posterior(obs, chunk):
    """Mean (mean of the first action entry, observation 0), standard deviation .5."""
    mean = jnp.stack([chunk[..., 0].mean(-1), obs[..., 0]], -1)
    return distrax.Independent(distrax.Normal(mean, jnp.full_like(mean, 0.5)), 1)


def test_density_is_that_of_the_mixture_of_posteriors():
    prior = make(num_components=3)
    params = prior.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    obs, z = rng.uniform(-1, 1, (7, 3)).astype(np.float32), rng.standard_normal((7, 2)).astype(np.float32)
    pseudo = np.tanh(np.asarray(params["raw"]))[..., 0].mean(-1)
    rows = [stats.norm.logpdf(z[:, 0], u, 0.5) + stats.norm.logpdf(z[:, 1], obs[:, 0], 0.5) for u in pseudo]
    expected = special.logsumexp(rows, axis=0) - np.log(3)
    np.testing.assert_allclose(prior.distribution(params, obs, posterior).log_prob(z), expected, rtol=1e-4)
    loss = prior.loss(params, jax.random.key(1), obs, z, posterior)
    np.testing.assert_allclose(loss, -expected, rtol=1e-4)


def test_pseudo_chunks_start_apart_inside_the_range_of_actions():
    prior = make(num_components=64)
    raw = np.asarray(prior.init(jax.random.key(0))["raw"])
    assert raw.shape == (64, 4, 2)
    # held actions of deviation .7 with noise .05 on top; 5 sigma of a deviation of 128 and 512 numbers
    assert abs(raw.mean(1).std() - 0.7) < 5 * 0.7 / np.sqrt(2 * 128)
    assert abs((raw - raw.mean(1, keepdims=True)).std() - 0.05 * np.sqrt(3 / 4)) < 5 * 0.05 / np.sqrt(2 * 384)


def test_gradient_reaches_the_pseudo_chunks():
    prior = make(num_components=4)
    params = prior.init(jax.random.key(0))
    z = jnp.full((5, 2), 0.5)

    def total(p):
        return prior.loss(p, jax.random.key(1), jnp.zeros((5, 3)), z, posterior).sum()

    gradient = jax.jit(jax.grad(total))(params)
    # the posterior of this test looks at the first action entry alone
    assert (np.abs(gradient["raw"][..., 0]) > 0).all()
    np.testing.assert_array_equal(gradient["raw"][..., 1], np.zeros((4, 4)))


def test_without_a_posterior_it_says_what_is_missing():
    prior = make()
    assert prior.needs_posterior
    with pytest.raises(ValueError, match="pass `posterior`"):
        prior.distribution(prior.init(jax.random.key(0)), jnp.zeros(3))


def test_impossible_values_are_refused():
    with pytest.raises(ConfigError, match="prior.num_components"):
        make(num_components=0)
