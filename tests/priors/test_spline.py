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
from tests.toys.products import spared

from ._fit import fit


def make(event_shape=(2,), **fields):
    cfg = plugin("prior", "spline", **{"hidden": (16,), "fourier_octaves": 1, **fields})
    return registry.build("prior", cfg, event_shape, spec=PolicySpec(1, 2, 4))


def moved(prior, scale):
    rng = np.random.default_rng(0)
    fresh = jax.jit(prior.init)(jax.random.key(0))
    return jax.tree.map(lambda p: p + scale * rng.standard_normal(p.shape, np.float32), fresh)


def test_starts_at_the_standard_normal():
    prior = make((2, 2))
    params = prior.init(jax.random.key(0))
    x = np.random.default_rng(0).uniform(-6, 6, (50, 2, 2)).astype(np.float32)
    result = jax.jit(lambda x: prior.distribution(params, jnp.ones((50, 1))).log_prob(x))(x)
    np.testing.assert_allclose(result, stats.norm.logpdf(x).sum((1, 2)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("event_shape", [(1,), (4,)])
@pytest.mark.parametrize("scale", [0.3, 1.0])
@spared("1.0-*")
def test_round_trip(event_shape, scale):
    prior = make(event_shape)
    params = moved(prior, scale)
    key_obs, key_eps = jax.random.split(jax.random.key(1))
    obs = jax.random.uniform(key_obs, (2000, 1), minval=-1, maxval=1)
    eps = 2.0 * jax.random.normal(key_eps, (2000, *event_shape))  # some in the tails beyond 4

    @jax.jit
    def there_and_back(eps):
        flow = prior.distribution(params, obs)
        z = flow.from_noise(eps)
        return z, *flow.to_noise(z)

    z, back, _ = there_and_back(eps)
    assert np.abs(z - eps).max() > 0.3  # the map is not the identity
    assert np.abs(back - eps).max() < 1e-4


def test_jacobian_against_differentiation():
    prior = make((3,))
    params, obs = moved(prior, 0.5), jnp.full(1, 0.2)
    z = jnp.array([0.3, -1.1, 2.0])
    forward = jax.jit(lambda x: prior.distribution(params, obs).to_noise(x))
    jacobian = np.asarray(jax.jit(jax.jacfwd(lambda x: forward(x)[0]))(z), np.float64)
    np.testing.assert_array_equal(np.triu(jacobian, 1), np.zeros((3, 3)))
    np.testing.assert_allclose(forward(z)[1], np.log(np.diag(jacobian)).sum(), rtol=1e-4, atol=1e-4)


def test_tails_are_the_identity():
    prior = make((1,), bound=2.0)
    x = jnp.array([[-5.0], [-2.5], [2.5], [7.0]])
    params = moved(prior, 1.0)
    eps, log_slope = jax.jit(lambda x: prior.distribution(params, jnp.zeros((4, 1))).to_noise(x))(x)
    np.testing.assert_allclose(eps, x, rtol=1e-6)
    np.testing.assert_allclose(log_slope, np.zeros(4), atol=1e-6)


def test_learns_two_clusters_that_depend_on_each_other():
    # z = +-(1, 1) + .3 noise: the second entry follows the sign of the first
    prior, n = make(), 512
    key_sign, key_noise = jax.random.split(jax.random.key(3))
    sign = jnp.where(jax.random.bernoulli(key_sign, 0.5, (n, 1)), 1.0, -1.0)
    z, obs = sign + 0.3 * jax.random.normal(key_noise, (n, 2)), jnp.zeros((n, 1))
    params = fit(prior, obs, z, steps=200, rate=2e-2)
    drawn = jax.jit(lambda p: prior.distribution(p, obs).sample(seed=jax.random.key(4)))(params)
    own = jnp.sign(drawn[:, :1])
    assert np.mean(np.abs(drawn - own).max(-1) < 1.2) > 0.95  # four standard deviations of either cluster
    assert 0.35 < np.mean(own > 0) < 0.65


@pytest.mark.parametrize(
    ("field", "value"), [("num_bins", 0), ("num_bins", 401), ("bound", 0.0), ("hidden", ())]
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"prior.{field}"):
        make(**{field: value})
