from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.protocols import HasLogProb, HasPosterior, Policy
from mmbc_jax.core.types import Batch, PolicySpec
from mmbc_jax.training.coordinates import PathPolicy, in_coordinates

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


def moved(policy):
    v = jax.jit(policy.init)(jax.random.key(0), batch())
    rng = np.random.default_rng(1)
    return v.replace(
        params=jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, np.float32), v.params)
    )


def test_actions_leave_the_policy_alone():
    policy = inner("flow")
    assert in_coordinates(policy, "actions") is policy


@pytest.mark.parametrize(
    ("name", "posterior", "density"), [("flow", 0, 0), ("cvae", 1, 0), ("gaussian", 0, 1)]
)
def test_capabilities_are_kept(name, posterior, density):
    policy = in_coordinates(inner(name), "path")
    assert isinstance(policy, Policy)
    assert isinstance(policy, HasPosterior) == bool(posterior)
    assert isinstance(policy, HasLogProb) == bool(density)
    hash(policy)


def test_the_chunk_is_the_difference_of_the_inner_path():
    policy = in_coordinates(inner("flow"), "path")
    v, obs = moved(policy), batch().obs
    w = policy.base_distribution(v, obs).sample(seed=jax.random.key(2))
    chunk = np.asarray(policy.transport(v, obs, w))
    scale = float(v.stats["scale"])
    expected = np.abs(np.cumsum(np.asarray(batch().chunk), axis=1)).max()
    assert scale == pytest.approx(expected, rel=1e-5)
    path = policy.inner.transport(v.replace(stats=v.stats["inner"]), obs, w)
    np.testing.assert_allclose(np.cumsum(chunk, axis=1) / scale, path, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_inner_loss_of_the_path():
    policy, data = in_coordinates(inner("flow"), "path"), batch()
    v = moved(policy)
    path = np.cumsum(np.asarray(data.chunk), axis=1) / float(v.stats["scale"])
    expected = policy.inner.loss(
        v.replace(stats=v.stats["inner"]), jax.random.key(3), data.replace(chunk=jnp.asarray(path)), {}
    )
    found = policy.loss(v, jax.random.key(3), data, {})
    np.testing.assert_allclose(found.per_example, expected.per_example, rtol=1e-4)
    assert jax.tree.structure(found.stats) == jax.tree.structure(v.stats)


def test_density_counts_the_change_of_volume():
    spec = PolicySpec(obs_dim=1, action_dim=1, chunk_len=2)
    cfg = plugin("policy", "gaussian", hidden=(4,))
    policy = PathPolicy(registry.build("policy", cfg, spec, prior=None, sampler=None))
    policy = in_coordinates(policy.inner, "path")
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
    path = jnp.asarray(np.cumsum(np.asarray(data.chunk), axis=1) / float(v.stats["scale"]))
    expected = policy.inner.posterior(v.replace(stats=v.stats["inner"]), data.obs, path).mean()
    np.testing.assert_allclose(
        policy.posterior(v, data.obs, data.chunk).mean(), expected, rtol=1e-4, atol=1e-5
    )
