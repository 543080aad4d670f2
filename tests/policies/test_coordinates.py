from __future__ import annotations

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.protocols import Policy, capabilities
from mmbc_jax.core.types import Batch, PolicySpec
from mmbc_jax.policies._common import FieldPolicy
from mmbc_jax.policies.wrappers.coordinates import in_coordinates, path_map, whitening_map
from tests.toys.products import spared

SPEC = PolicySpec(obs_dim=3, action_dim=2, chunk_len=4)


def inner(name, **fields):
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=SPEC)
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=2))
    cfg = plugin("policy", name, hidden=(8,), **fields)
    return registry.build("policy", cfg, SPEC, prior=prior, sampler=sampler)


def batch(size=6):
    rng = np.random.default_rng(0)
    chunk = rng.uniform(-0.5, 0.5, (size, 4, 2)).astype(np.float32)
    return Batch(
        jnp.asarray(rng.uniform(-1, 1, (size, 3)), jnp.float32), jnp.asarray(chunk), jnp.ones((size, 4))
    )


def moved(policy, data=None):
    v = jax.jit(policy.init)(jax.random.key(0), batch() if data is None else data)
    rng = np.random.default_rng(1)
    return v.replace(
        params=jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, np.float32), v.params)
    )


def test_actions_leave_the_policy_alone():
    policy = inner("flow")
    assert in_coordinates(policy, "actions") is policy


@dataclasses.dataclass(frozen=True)
class Stepping:
    """Euler's method step by step."""

    steps: int = 3
    stochastic: bool = False

    def noise_shape(self, event_shape):
        return (0,)

    def trace(self, field, x0, noise):
        points = [x0]
        for i in range(self.steps):
            points.append(points[-1] + field.velocity(points[-1], jnp.asarray(i / self.steps)) / self.steps)
        return jnp.stack(points)

    def integrate(self, field, x0, noise):
        return self.trace(field, x0, noise)[-1]


@pytest.mark.parametrize("name", sorted(registry.available("policy")))
def test_capabilities_are_kept(name):
    plain = inner(name)
    if isinstance(plain, FieldPolicy):
        assert "chain" in capabilities(dataclasses.replace(plain, sampler=Stepping()))
        bare = dataclasses.replace(plain, sampler=SimpleNamespace(stochastic=False))
        assert capabilities(bare) == {"field"}  # a sampler from elsewhere may not say where it went
    policy = in_coordinates(plain, "path")
    assert isinstance(policy, Policy)
    assert capabilities(policy) == capabilities(plain) | {"modelled"}
    hash(policy)


def test_a_posterior_does_not_hide_a_density():
    both = SimpleNamespace(posterior=lambda: None, log_prob=lambda: None, spec=SPEC)
    assert capabilities(in_coordinates(both, "path")) == {"posterior", "log_prob", "modelled"}


def test_path_coordinates_are_scaled_running_sums():
    chunk = np.asarray(batch().chunk)
    matrix, inverse, offset = path_map(jnp.asarray(chunk))
    path = np.cumsum(chunk, axis=1)
    found = ((chunk.reshape(6, -1) - offset) @ matrix).reshape(chunk.shape)
    np.testing.assert_allclose(found, path / np.abs(path).max(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(matrix @ inverse, np.eye(8), atol=1e-5)


def test_whitened_coordinates_are_uncorrelated_with_equal_spread_down_to_the_floor():
    # paths with spreads 1, .5, .2 and .05 .. of orthogonal directions: the last ones lie under the floor of .1
    rng = np.random.default_rng(4)
    spreads = np.array([1.0, 0.5, 0.2] + 5 * [0.05])
    draws = rng.standard_normal((500, 8))
    draws = np.linalg.qr(draws - draws.mean(0))[0] * np.sqrt(500)  # exactly uncorrelated, of variance 1
    paths = (draws * spreads) @ np.linalg.qr(rng.standard_normal((8, 8)))[0]
    chunk = np.diff(paths.reshape(500, 4, 2), axis=1, prepend=0.0) + 3.0
    matrix, inverse, offset = whitening_map(jnp.asarray(chunk, jnp.float32))
    y = (chunk.reshape(500, -1) - np.asarray(offset)) @ np.asarray(matrix)
    assert np.abs(y).max() == pytest.approx(1.0, rel=1e-3)
    covariance = np.cov(y.T, bias=True)
    expected = np.sort(np.minimum(spreads / 0.1, 1.0) ** 2)
    np.testing.assert_allclose(np.diag(covariance) / covariance[-1, -1], expected, atol=0.01)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 2e-3 * covariance[-1, -1]
    np.testing.assert_allclose(matrix @ inverse, np.eye(8), atol=1e-4)


def test_a_constant_direction_is_whitened_to_nothing():
    chunk = (
        jnp.asarray(np.random.default_rng(0).standard_normal((50, 2, 2)), jnp.float32).at[:, 1, 1].set(0.5)
    )
    matrix, inverse, offset = whitening_map(chunk)
    y = (chunk.reshape(50, -1) - offset) @ matrix
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y @ inverse + offset, chunk.reshape(50, -1), atol=1e-5)


@pytest.mark.parametrize("coordinates", ["path", "whitened"])
@spared("whitened")
def test_loss_and_transport_are_those_of_the_inner_policy_on_mapped_chunks(coordinates):
    policy, data = in_coordinates(inner("flow"), coordinates), batch(40)
    v = moved(policy, data)
    own = v.replace(stats=v.stats["inner"])
    y = (np.asarray(data.chunk).reshape(40, -1) - v.stats["offset"]) @ v.stats["matrix"]
    mapped = data.replace(chunk=jnp.asarray(y).reshape(40, 4, 2))
    expected = policy.inner.loss(own, jax.random.key(3), mapped, {})
    found = policy.loss(v, jax.random.key(3), data, {})
    np.testing.assert_allclose(found.per_example, expected.per_example, rtol=1e-3)
    assert jax.tree.structure(found.stats) == jax.tree.structure(v.stats)
    w = policy.base_distribution(v, data.obs).sample(seed=jax.random.key(2))
    y = np.asarray(policy.inner.transport(own, data.obs, w)).reshape(40, -1)
    chunk = (y @ np.asarray(v.stats["inverse"]) + v.stats["offset"]).reshape(40, 4, 2)
    np.testing.assert_allclose(policy.transport(v, data.obs, w), chunk, rtol=1e-3, atol=1e-4)


def test_density_counts_the_change_of_volume():
    spec = PolicySpec(obs_dim=1, action_dim=1, chunk_len=2)
    cfg = plugin("policy", "gaussian", hidden=(4,))
    policy = in_coordinates(registry.build("policy", cfg, spec, prior=None, sampler=None), "path")
    data = Batch(jnp.zeros((4, 1)), jnp.asarray([[[0.5], [0.5]]] * 4), jnp.ones((4, 2)))
    v = jax.jit(policy.init)(jax.random.key(0), data)
    grid = np.linspace(-8, 8, 321, dtype=np.float32)
    chunks = jnp.asarray(np.stack(np.meshgrid(grid, grid, indexing="ij"), -1))[..., None]
    log_prob = jax.jit(lambda c: policy.log_prob(v, jnp.zeros((*c.shape[:-2], 1)), c))(chunks)
    assert np.exp(np.asarray(log_prob, np.float64)).sum() * (grid[1] - grid[0]) ** 2 == pytest.approx(
        1, abs=1e-3
    )


def test_posterior_is_that_of_the_path():
    policy = in_coordinates(inner("cvae"), "path")
    v, data = moved(policy), batch()
    path = np.cumsum(np.asarray(data.chunk), axis=1)
    path = jnp.asarray(path / np.abs(path).max())
    expected = policy.inner.posterior(v.replace(stats=v.stats["inner"]), data.obs, path).mean()
    np.testing.assert_allclose(
        policy.posterior(v, data.obs, data.chunk).mean(), expected, rtol=1e-4, atol=1e-5
    )


def placed(v, x):
    """Points of the inner policy's coordinates in outer ones, by numpy."""
    x = np.asarray(x)
    flat = x.reshape(*x.shape[:-2], -1) @ np.asarray(v.stats["inverse"]) + np.asarray(v.stats["offset"])
    return flat.reshape(x.shape)


@pytest.mark.parametrize(
    ("name", "sampler"), [("flow", "euler"), ("flow", "heun"), ("flow", "ddim"), ("diffusion", "euler")]
)
@spared("diffusion-euler", "flow-euler")
def test_integrating_the_field_here_is_integrating_it_there(name, sampler):
    data = batch(40)
    integrator = registry.build("sampler", plugin("sampler", sampler, steps=3))
    policy = in_coordinates(dataclasses.replace(inner(name), sampler=integrator), "whitened")
    v = moved(policy, data)
    assert np.abs(v.stats["offset"]).max() > 0.01
    w = policy.base_distribution(v, data.obs).sample(seed=jax.random.key(2))
    x0 = jnp.asarray(placed(v, w))
    found = jax.jit(lambda x: integrator.integrate(policy.field(v, data.obs), x, None))(x0)
    np.testing.assert_allclose(found, jax.jit(policy.transport)(v, data.obs, w), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_estimates_of_the_field_recombine(name):
    data = batch(40)
    policy = in_coordinates(inner(name), "whitened")
    v, t = moved(policy, data), jnp.asarray(0.3)
    field = policy.field(v, data.obs)
    (data_end, noise), (alpha, sigma) = field.denoise(data.chunk, t), field.path(t)
    np.testing.assert_allclose(alpha * data_end + sigma * noise, data.chunk, atol=1e-4)
    own = policy.inner.field(v.replace(stats=v.stats["inner"]), data.obs)
    y = (np.asarray(data.chunk).reshape(40, -1) - v.stats["offset"]) @ v.stats["matrix"]
    expected = placed(v, own.denoise(jnp.asarray(y).reshape(40, 4, 2), t)[0])
    np.testing.assert_allclose(data_end, expected, rtol=1e-3, atol=1e-3)
    assert all(np.isfinite(estimate).all() for estimate in field.denoise(data.chunk, jnp.asarray(1.0)))


def test_a_chain_goes_from_the_noise_to_the_chunk():
    data = batch(40)
    plain = dataclasses.replace(inner("flow"), sampler=Stepping())
    policy = in_coordinates(plain, "whitened")
    v = moved(policy, data)
    w = policy.base_distribution(v, data.obs).sample(seed=jax.random.key(2))
    chain = jax.jit(policy.chain)(v, data.obs, w)
    assert chain.shape == (4, 40, 4, 2)
    np.testing.assert_allclose(chain[0], placed(v, w), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(chain[-1], policy.transport(v, data.obs, w), rtol=1e-3, atol=1e-4)
    own = plain.chain(v.replace(stats=v.stats["inner"]), data.obs, w)
    np.testing.assert_array_equal(own[0], w)
    np.testing.assert_allclose(chain, placed(v, own), rtol=1e-3, atol=1e-3)
