"""z chooses the component of a mixture-base reference: the start is the base, and ratios are those of densities."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.actors._components import SHARPNESS
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Batch, PolicySpec
from tests.toys.noise_policy import NoisePolicy

SPEC = PolicySpec(obs_dim=2, action_dim=2, chunk_len=2)
COUNT = 5


def reference_policy():
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=2))
    cfg = plugin("policy", "mixture_flow", num_components=COUNT, hidden=(8,), base_hidden=(8,))
    return registry.build("policy", cfg, SPEC, sampler=sampler)


def build(modes, policy, **fields):
    cfg = plugin("actor", "steer", hidden=(8,), components="commanded", **fields)
    return registry.build("actor", cfg, spec=SPEC, policy=policy, num_modes=modes)


@functools.cache
def make(modes):
    """(actor, reference variables with uneven weights, fresh parameters)."""
    actor, rng = build(modes, reference_policy()), np.random.default_rng(0)
    chunks = jnp.asarray(rng.uniform(-1, 1, (40, 2, 2)), jnp.float32)
    batch = Batch(jnp.asarray(rng.uniform(-1, 1, (40, 2)), jnp.float32), chunks, jnp.ones((40, 2)))
    reference = actor.policy.init(jax.random.key(0), batch)
    reference = jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, np.float32), reference)
    return actor, reference, jax.jit(actor.init)(jax.random.key(1), reference)


def observations(rows):
    return jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (rows, 2)), jnp.float32)


def weights(actor, reference, obs):
    return actor.policy.base_distribution(reference, obs).distributions["component"].probs


def drawn(modes, rows, seed=2):
    """(components [rows], z [rows], weights of the base [C]) at one observation."""
    actor, reference, params = make(modes)
    obs = jnp.broadcast_to(observations(1), (rows, 2))
    z = jnp.arange(rows) % modes
    _, info = jax.jit(actor.act)(params, reference, jax.random.key(seed), obs, z)
    return np.asarray(info["component"]), np.asarray(z), np.asarray(weights(actor, reference, obs[:1])[0])


def shares(components):
    return np.bincount(components, minlength=COUNT) / len(components)


def test_one_mode_is_the_base():
    components, _, base = drawn(1, 20000)
    # The standard error of a share is at most 1 / (2 sqrt(n)).
    np.testing.assert_allclose(shares(components), base, atol=5 / (2 * np.sqrt(20000)))


def test_modes_differ_and_their_mixture_is_about_the_base():
    components, z, base = drawn(2000, 40000)
    # Two thousand draws of preferences, each nearly a choice: the error of a share is that of 2,000 draws; what
    # SHARPNESS > 0 leaves to chance pulls the shares towards those of a softer choice, by less than .03 here.
    np.testing.assert_allclose(shares(components), base, atol=5 / (2 * np.sqrt(2000)) + 0.03)
    own = [shares(components[z == k]).max() for k in range(100)]
    assert np.mean(own) > 0.75 > 1.3 * base.max()  # a single z nearly always takes its own component


def test_log_probs_by_the_formula_and_ratios_of_densities():
    actor, reference, params = make(3)
    obs, z = observations(64), jnp.arange(64) % 3
    chunk, info = jax.jit(actor.act)(params, reference, jax.random.key(5), obs, z)
    assert chunk.shape == (64, 2, 2)
    p = np.asarray(weights(actor, reference, obs), np.float64)
    wanted = (np.log(p) + np.asarray(params["components"]["preference"])[np.asarray(z)]) / SHARPNESS
    wanted -= np.log(np.exp(wanted).sum(-1, keepdims=True))
    picked = wanted[np.arange(64), np.asarray(info["component"])]
    np.testing.assert_allclose(info["component_log_prob"], picked, atol=1e-4)
    log_ratio = jax.jit(actor.log_ratio)
    np.testing.assert_allclose(log_ratio(params, reference, obs, z, info), np.zeros((64, 2)), atol=1e-5)
    own = params["components"]
    changed = params | {"components": own | {"preference": own["preference"].at[:, 0].add(1.0)}}
    ratio = np.asarray(log_ratio(changed, reference, obs, z, info))
    np.testing.assert_allclose(ratio[:, 0], 0.0, atol=1e-5)  # the noise is another factor
    bumped = wanted + np.eye(COUNT)[0] / SHARPNESS
    bumped -= np.log(np.exp(bumped).sum(-1, keepdims=True))
    np.testing.assert_allclose(
        ratio[:, 1], bumped[np.arange(64), np.asarray(info["component"])] - picked, atol=1e-4
    )


def test_the_chosen_component_is_the_one_that_is_transported():
    actor, reference, params = make(3)
    obs, z = observations(16), jnp.zeros(16, jnp.int32)
    chunk, info = jax.jit(actor.act)(params, reference, jax.random.key(6), obs, z)
    w = {"x0": info["x0"].reshape(16, 2, 2), "component": info["component"]}
    np.testing.assert_allclose(chunk, actor.policy.transport(reference, obs, w), atol=1e-5)


def test_entropy_counts_the_component():
    actor, reference, params = make(3)
    obs, z = observations(8), jnp.arange(8) % 3
    plain = registry.build(
        "actor", plugin("actor", "steer", hidden=(8,)), spec=SPEC, policy=actor.policy, num_modes=3
    )
    noise = plain.entropy({k: v for k, v in params.items() if k != "components"}, reference, obs, z)
    p = np.asarray(weights(actor, reference, obs), np.float64)
    logits = (np.log(p) + np.asarray(params["components"]["preference"])[np.asarray(z)]) / SHARPNESS
    q = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        actor.entropy(params, reference, obs, z) - noise, -(q * np.log(q)).sum(-1), atol=1e-4
    )


def test_the_surrogate_moves_the_choice():
    """Climbing the ratio's objective for component 0 makes z choose it."""
    actor, reference, params = make(1)  # whose start is the base: what is never chosen has no gradient
    obs, z = observations(256), jnp.zeros(256, jnp.int32)

    @jax.jit
    def step(params, key):
        _, info = actor.act(params, reference, key, obs, z)
        paid = (info["component"] == 0).astype(jnp.float32)

        def objective(params):
            return (
                jnp.exp(actor.log_ratio(params, reference, obs, z, info)[:, 1]) * (paid - paid.mean())
            ).mean()

        return jax.tree.map(lambda p, g: p + 2.0 * g, params, jax.grad(objective)(params)), paid.mean()

    share = []
    for key in jax.random.split(jax.random.key(7), 60):
        params, paid = step(params, key)
        share.append(float(paid))
    assert np.mean(share[:3]) < 0.6
    assert np.mean(share[-3:]) > 0.9


def test_refuses_what_cannot_work():
    with pytest.raises(ConfigError, match=r"actor.components = 'commanded' .*no components"):
        build(3, NoisePolicy(SPEC))
    actor, reference, params = make(3)
    with pytest.raises(ConfigError, match=r"actor.components = 'commanded' .*differentiates"):
        actor.sample(params, reference, jax.random.key(0), observations(2), jnp.zeros(2, jnp.int32))
