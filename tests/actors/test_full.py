"""Whole policies of known density: a mixture's against numpy, and z's shift of it."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Batch, PolicySpec, Variables
from tests.actors._chains import moved, observations
from tests.toys.gaussian_flow import GaussianFlow
from tests.toys.products import spared

SPEC = PolicySpec(obs_dim=2, action_dim=2, chunk_len=2)
ROWS, MODES = 200, 3


@functools.cache
def make(modes=MODES):
    """(actor on a mixture of four components, reference)."""
    cfg = plugin("policy", "mdn", hidden=(8,), num_components=4, fourier_octaves=1)
    policy = registry.build("policy", cfg, SPEC, prior=None, sampler=None)
    rng = np.random.default_rng(0)
    chunk = jnp.asarray(rng.uniform(-1, 1, (64, 2, 2)), jnp.float32)
    reference = jax.jit(policy.init)(jax.random.key(0), Batch(observations(64), chunk, jnp.ones((64, 2))))
    reference = reference.replace(params=moved(reference.params))
    actor = registry.build(
        "actor", plugin("actor", "full", hidden=(8,)), spec=SPEC, policy=policy, num_modes=modes
    )
    return actor, reference


def fresh(modes=MODES):
    actor, reference = make(modes)
    return jax.jit(actor.init)(jax.random.key(1), reference)


def density(actor, params, reference, obs, z, chunk):
    """[B] log p in float64: log sum_k pi_k N(chunk - b; mu_k, sigma_k), b the network's answer and z's offset."""
    variables = reference.replace(params=params["policy"])
    weights = np.asarray(actor.policy.log_weights(variables, obs), np.float64)
    mean, log_std = (np.asarray(m, np.float64) for m in actor.policy.components(variables, obs))
    own = np.asarray(chunk, np.float64)
    if "network" in params:
        own = own - shift(actor, params, obs, z)
    each = stats.norm.logpdf(own[:, None], mean, np.exp(log_std)).sum((2, 3))
    return special.logsumexp(weights + each, axis=1)


def shift(actor, params, obs, z):
    one_hot = jax.nn.one_hot(z, MODES)
    flat = np.asarray(actor.network.apply(params["network"], obs, one_hot), np.float64)
    return (flat + np.asarray(params["offset"], np.float64)[np.asarray(z)]).reshape(-1, 2, 2)


@pytest.mark.parametrize("modes", [1, MODES])
@spared("1")
def test_density_and_ratios_against_numpy(modes):
    actor, reference = make(modes)
    old, obs = fresh(modes), observations(ROWS)
    z = jnp.arange(ROWS) % modes
    chunk, info = jax.jit(actor.act)(old, reference, jax.random.key(2), obs, z)
    before = density(actor, old, reference, obs, z, chunk)
    np.testing.assert_allclose(info["log_prob"], before, rtol=1e-3, atol=2e-3)
    new = moved(old, 1, by=0.05)
    found = jax.jit(actor.log_ratio)(new, reference, obs, z, info)
    expected = density(actor, new, reference, obs, z, chunk) - before
    np.testing.assert_allclose(found[:, 0], expected, rtol=2e-3, atol=5e-3)
    assert np.abs(expected).max() > 0.5


def test_a_chunk_is_the_copys_chunk_and_the_shift():
    """Each z shifts the same draw, keyed alike, by its own amount; at first by its constant part alone."""
    actor, reference = make()
    params, obs = fresh(), observations(ROWS)
    act = jax.jit(actor.act)
    chunks = [
        np.asarray(
            act(params, reference, jax.random.clone(jax.random.key(3)), obs, jnp.full(ROWS, z))[0], np.float64
        )
        for z in range(MODES)
    ]
    offset = np.asarray(params["offset"], np.float64).reshape(MODES, 2, 2)
    for z in range(1, MODES):
        wanted = np.broadcast_to(offset[z] - offset[0], chunks[0].shape)
        np.testing.assert_allclose(chunks[z] - chunks[0], wanted, atol=1e-5)
    assert np.abs(offset[1] - offset[0]).max() > 0.01


def test_with_one_mode_it_starts_as_the_reference():
    actor, reference = make(1)
    params, obs, z = fresh(1), observations(ROWS), jnp.zeros(ROWS, jnp.int32)
    key = jax.random.key(4)
    chunk, info = jax.jit(actor.act)(params, reference, key, obs, z)
    w = actor.policy.base_distribution(reference, obs).sample(seed=jax.random.clone(key))
    np.testing.assert_allclose(chunk, actor.policy.transport(reference, obs, w), atol=1e-5)
    np.testing.assert_allclose(actor.divergence(params, reference, obs, z, info), 0.0, atol=1e-5)
    assert params.keys() == {"policy"}


def test_imitation_is_the_density_of_the_references_chunks():
    """By the policy's own density of what the same key draws of the reference; z's own part counts for nothing."""
    actor, reference = make()
    params, obs = moved(fresh(), by=0.02), observations(ROWS)
    key = jax.random.key(6)
    w = actor.policy.base_distribution(reference, obs).sample(seed=jax.random.clone(key))
    chunk = actor.policy.transport(reference, obs, w)
    tuned = Variables(params["policy"], reference.stats)
    expected = -np.asarray(actor.policy.log_prob(tuned, obs, chunk))
    for z in (0, 1):
        found = jax.jit(actor.imitation)(params, reference, jax.random.clone(key), obs, jnp.full(ROWS, z))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_divergence_estimates_the_kl():
    """(rho - 1) - log rho of the drawn chunks: by numpy each; its mean that of log p - log p_ref within 5 SE."""
    rows = 4000
    actor, reference = make()
    params = moved(fresh(), by=0.02)
    obs, z = observations(rows), jnp.arange(rows) % MODES
    chunk, info = jax.jit(actor.act)(params, reference, jax.random.key(5), obs, z)
    found = np.asarray(jax.jit(actor.divergence)(params, reference, obs, z, info), np.float64)
    own = density(actor, params, reference, obs, z, chunk)
    theirs = density(actor, {"policy": reference.params}, reference, obs, z, chunk)
    log_rho = theirs - own
    np.testing.assert_allclose(found, np.expm1(np.minimum(log_rho, 20.0)) - log_rho, rtol=0.02, atol=0.02)
    assert (found >= -1e-5).all()
    gap = found + log_rho  # its mean is E[rho] - 1 = 0
    assert abs(gap.mean()) < 5 * gap.std() / math.sqrt(rows)
    assert found.mean() > 0.02


@pytest.mark.parametrize(
    ("mean", "std", "drawn"),
    [(1.0, 1.0, (1.0, 1.0)), (0.0, 0.8, (0.0, 0.8)), (0.5, 1.2, (0.4, 1.3)), (9.0, 1.0, (9.0, 1.0))],
)
def test_its_gradient_is_that_of_the_kl_and_not_of_the_reverse(mean, std, drawn):
    """pi = N(mean, std), reference N(0, 1): d KL(pi || ref) = mean, and std^2 - 1 by log std; within 5 SE.

    Chunks are N(*drawn), in all but one case pi's own. At a mean of 9 log rho is past the cap of its exponential.
    """
    rows = 200_000
    policy = GaussianFlow(PolicySpec(2, 1, 1), 0.0, 1.0)
    actor = registry.build("actor", plugin("actor", "full"), spec=policy.spec, policy=policy, num_modes=1)
    reference = policy.variables()
    x = (drawn[0] + drawn[1] * np.random.default_rng(0).standard_normal((rows, 1, 1))).astype(np.float32)
    seen = (reference, jnp.zeros((rows, 2)), jnp.zeros(rows, jnp.int32))
    info = {"chunk": jnp.asarray(x), "log_prob": jnp.asarray(stats.norm.logpdf(x[:, 0, 0], *drawn))}
    at = {**reference.params, "bias": jnp.full((1, 1), mean), "log_std": jnp.full((1, 1), math.log(std))}

    @jax.jit
    @jax.grad
    def slope(policy):
        return actor.divergence({"policy": policy}, *seen, info).mean()

    x = x[:, 0, 0].astype(np.float64)
    log_rho = stats.norm.logpdf(x) - stats.norm.logpdf(x, mean, std)
    each = -log_rho * np.exp(stats.norm.logpdf(x, mean, std) - stats.norm.logpdf(x, *drawn))
    scores = {"bias": (x - mean) / std**2, "log_std": ((x - mean) / std) ** 2 - 1}
    found = slope(at)
    for name, expected in (("bias", mean), ("log_std", std**2 - 1)):
        of_each = each * scores[name]
        error = of_each.std() / math.sqrt(rows)
        assert float(found[name][0, 0]) == pytest.approx(of_each.mean(), abs=0.02 * error + 1e-4)
        assert abs(of_each.mean() - expected) < 5 * error


def test_refuses_a_policy_without_a_density():
    policy = registry.build("policy", plugin("policy", "mse"), SPEC)
    with pytest.raises(ConfigError, match="density is known") as info:
        registry.build("actor", plugin("actor", "full"), spec=SPEC, policy=policy, num_modes=1)
    assert info.value.field == "actor.name"
