"""Every prior in the folder: shapes, normalisation, and samples against the density."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin

NAMES = sorted(registry.available("prior"))


def make(name: str, event_shape: tuple[int, ...]):
    prior = registry.build("prior", plugin("prior", name), event_shape=event_shape, obs_dim=3)
    return prior, prior.init(jax.random.key(0))


def on_grid(prior, params, grid):
    obs = jnp.zeros((grid.size, 3))
    return jax.jit(lambda x: prior.distribution(params, obs).log_prob(x))(jnp.asarray(grid)[:, None, None])


@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_shapes(name, batch):
    prior, params = make(name, (5, 2))
    assert isinstance(prior.gaussian, bool)
    hash(prior)
    obs = jnp.zeros((*batch, 3))

    @jax.jit
    def both(key):
        base = prior.distribution(params, obs)
        w = base.sample(seed=key)
        return w, base.log_prob(w)

    w, log_prob = both(jax.random.key(1))
    assert w.shape == (*batch, 5, 2)
    assert log_prob.shape == batch
    assert np.isfinite(log_prob).all()
    np.testing.assert_array_equal(w, both(jax.random.key(1))[0])
    assert not np.array_equal(w, both(jax.random.key(2))[0])


@pytest.mark.parametrize("name", NAMES)
def test_density_integrates_to_one(name):
    prior, params = make(name, (1, 1))
    grid = np.linspace(-12, 12, 4801, dtype=np.float32)
    density = np.exp(np.asarray(on_grid(prior, params, grid), np.float64))
    assert abs(np.trapezoid(density, grid.astype(np.float64)) - 1) < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_samples_follow_the_density(name):
    # Kolmogorov-Smirnov, n = 20000: P(sqrt(n) D > 2.65) = 2 exp(-2 * 2.65^2) = 1.6e-6,
    # which is 5 sigma two-sided up to a factor 3; the grid adds less than 1e-3
    prior, params = make(name, (1, 1))
    n = 20_000
    draw = jax.jit(lambda key: prior.distribution(params, jnp.zeros((n, 3))).sample(seed=key))
    samples = np.sort(np.asarray(draw(jax.random.key(3))).ravel())
    grid = np.linspace(-12, 12, 4801, dtype=np.float32)
    density = np.exp(np.asarray(on_grid(prior, params, grid), np.float64))
    cdf = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2) * (24 / 4800)])
    model = np.interp(samples, grid, cdf)
    statistic = np.abs(model - (np.arange(n) + 0.5) / n).max()
    assert statistic < 2.65 / np.sqrt(n) + 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_gaussian_flag_is_true_exactly_for_the_standard_normal(name):
    prior, params = make(name, (1, 1))
    grid = np.linspace(-3, 3, 61, dtype=np.float32)
    standard = -0.5 * grid**2 - 0.5 * np.log(2 * np.pi)
    same = np.allclose(on_grid(prior, params, grid), standard, atol=1e-4)
    assert same == prior.gaussian


@pytest.mark.parametrize("name", NAMES)
def test_density_is_differentiable(name):
    prior, params = make(name, (2, 2))
    base_score = jax.grad(lambda x: prior.distribution(params, jnp.zeros(3)).log_prob(x))
    assert np.isfinite(base_score(jnp.full((2, 2), 0.3))).all()
