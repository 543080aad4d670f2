from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import capabilities
from mmbc_jax.ops.divergences import imq_mmd, joint_points, sinkhorn
from mmbc_jax.policies._latent import geometry_penalty
from tests.toys.products import spared

from . import _latent_toy as toy


def gradients(policy, v, data, *many):
    """Gradients of the total loss for each of several traced scalars."""

    def total(params, hp):
        return policy.loss(v.replace(params=params), jax.random.key(4), data, hp).total()

    gradient = jax.jit(jax.grad(total))
    return [gradient(v.params, hp) for hp in many]


def test_geometry_penalty_golden():
    z = jnp.array([[4.0, 1.0], [-2.0, -1.0], [4.0, -1.0], [-2.0, 1.0]])
    # means (1, 0), deviations (3, 1), covariance 0: .01 * 1/2 + .05 * 4/2 + .1 * 1/2 = .155
    np.testing.assert_allclose(geometry_penalty(z), 0.155, rtol=1e-5)
    line = jnp.array([[1.0, 1.0], [-1.0, -1.0]])
    np.testing.assert_allclose(geometry_penalty(line), 0.01, rtol=1e-5)  # covariance 1 off the diagonal
    assert np.isfinite(jax.grad(geometry_penalty)(jnp.ones((4, 1)))).all()


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("regulariser", ["mmd", "sinkhorn"])
@spared("sinkhorn-False")
def test_divergence_is_that_of_the_points(regulariser, conditional):
    policy = toy.make("wae", regulariser=regulariser, conditional=conditional, state_weight=9.0)
    rng = np.random.default_rng(0)
    obs, z, drawn = (jnp.asarray(rng.standard_normal((20, 2)), jnp.float32) for _ in range(3))
    result = policy.divergence(obs, z, drawn)
    if conditional:
        z, drawn = jnp.concatenate([3 * obs, z], -1), jnp.concatenate([3 * obs, drawn], -1)
        np.testing.assert_allclose(z, joint_points(obs, z[:, 2:], 9.0), rtol=1e-6)
    expected = imq_mmd(z, drawn, paired=conditional) if regulariser == "mmd" else sinkhorn(z, drawn, blur=0.2)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_weights_are_traced_and_multiply_the_batch_terms():
    policy, data = toy.make("wae"), toy.random_batch()
    v = toy.moved(policy, data)
    traces = []
    loss = jax.jit(lambda hp: traces.append(hp) or policy.loss(v, jax.random.key(3), data, hp))
    result = loss(toy.hparams("wae", match_weight=3.0, geometry_weight=0.5))
    expected = 3.0 * result.metrics["latent/divergence"] + 0.5 * result.metrics["latent/geometry"]
    np.testing.assert_allclose(result.batch, expected, rtol=1e-5)
    off = loss(toy.hparams("wae", match_weight=0.0, geometry_weight=0.0))
    assert off.batch == 0
    np.testing.assert_array_equal(off.per_example, result.per_example)
    assert len(traces) == 1


def test_posterior_is_the_mean_with_the_jitter():
    policy, data = toy.make("wae", jitter=0.2), toy.random_batch()
    assert capabilities(policy) == {"posterior"}
    v = toy.moved(policy, data)
    q = policy.posterior(v, data.obs, data.chunk)
    np.testing.assert_allclose(q.distribution.scale, np.full((8, 2), 0.2))
    np.testing.assert_array_equal(q.mean(), policy.encode(v.params, data.obs, data.chunk))


@pytest.mark.parametrize(
    ("prior", "conditional"),
    [
        ("conditional", True),
        pytest.param("spline", True, marks=pytest.mark.slow),
        ("vamp", True),
        pytest.param("vamp", False, marks=pytest.mark.slow),
        ("latent_flow", False),
    ],
)
@spared("latent_flow-False")
def test_learned_priors_are_trained(prior, conditional):
    policy, data = toy.make("wae", prior, conditional=conditional), toy.random_batch()
    v = toy.moved(policy, data)
    matched, unmatched = gradients(policy, v, data, toy.hparams("wae"), toy.hparams("wae", match_weight=0.0))
    leaves = jax.tree.leaves(matched["prior"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(matched))
    assert max(np.abs(leaf).max() for leaf in leaves) > 0
    # where the divergence trains the prior, it stops with the divergence's weight; its own loss does not
    reached = max(np.abs(leaf).max() for leaf in jax.tree.leaves(unmatched["prior"]))
    assert (reached == 0) == conditional


def test_a_priors_own_loss_leaves_the_encoder_alone():
    data = toy.random_batch()
    hp = toy.hparams("wae", match_weight=0.0)
    found = []
    for prior in ("normal", "vamp"):
        policy = toy.make("wae", prior)
        found += gradients(policy, toy.moved(policy, data), data, hp)
    plain, vamp = (gradient["encoder"] for gradient in found)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), plain, vamp)


@pytest.mark.parametrize(
    ("regulariser", "weight"), [("mmd", 1.0), pytest.param("sinkhorn", 0.01, marks=pytest.mark.slow)]
)
def test_keeps_two_modes(regulariser, weight):
    policy, data = toy.make("wae", regulariser=regulariser), toy.two_modes()
    steps = 300 if regulariser == "mmd" else 60
    v, metrics = toy.train(policy, data, toy.hparams("wae", match_weight=weight), steps=steps, rate=1e-2)
    low, high = toy.mode_shares(toy.draw(policy, v))
    assert min(low, high) > 0.2
    assert metrics["latent/active_units"] >= 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("regulariser", "mdm"),
        ("match_weight", -1.0),
        ("geometry_weight", -1.0),
        ("jitter", 0.0),
        ("state_weight", -1.0),
        ("latent_dim", 0),
    ],
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"policy.{field}"):
        toy.make("wae", **{field: value})


@pytest.mark.parametrize(("size", "dim"), [(64, 2), (32, 6)])
def test_clouds_that_share_their_states_and_match_have_no_divergence(size, dim):
    """q = p = N(0, I) at states of a batch: 0 on average; within 5 SE, and as without pairs it would not be."""
    policy = toy.make("wae", conditional=True, latent_dim=dim)
    keys = jax.random.split(jax.random.key(8), 300)

    @jax.jit
    @jax.vmap
    def both(key):
        key_obs, key_z, key_drawn = jax.random.split(key, 3)
        obs = jax.random.uniform(key_obs, (size, policy.spec.obs_dim), minval=-1.0)
        z, drawn = (jax.random.normal(one, (size, dim)) for one in (key_z, key_drawn))
        states = policy.options.state_weight, obs
        every = imq_mmd(*(joint_points(states[1], points, states[0]) for points in (z, drawn)))
        return policy.divergence(obs, z, drawn), every

    found, every = (np.asarray(values) for values in both(keys))
    assert abs(found.mean()) < 5 * found.std() / np.sqrt(len(keys))
    assert every.mean() < -10 * every.std() / np.sqrt(len(keys))


def test_a_prior_whose_weights_have_no_gradient_through_samples_is_refused():
    with pytest.raises(ConfigError, match="False with prior.name = conditional_mixture") as info:
        toy.make("wae", "conditional_mixture", conditional=True)
    assert info.value.field == "policy.conditional"
    toy.make("wae", "conditional_mixture")
