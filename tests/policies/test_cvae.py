from __future__ import annotations

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import capabilities
from mmbc_jax.policies._latent import active_units, diagonal_gaussian
from mmbc_jax.policies.cvae import kl_divergence
from tests.toys.products import spared, sparing

from . import _latent_toy as toy


def gaussians():
    q = diagonal_gaussian(jnp.array([0.5, -1.0]), jnp.array([0.3, 2.0]))
    p = diagonal_gaussian(jnp.array([0.0, 1.0]), jnp.array([1.0, 0.5]))
    return q, p


def test_kl_in_closed_form_against_distrax_and_by_hand():
    q, p = gaussians()
    kl = kl_divergence(q, p, jnp.zeros(2))
    # log(1/.3) + (.09 + .25)/2 - 1/2 = .8740;  log(.5/2) + (4 + 4)/(2 * .25) - 1/2 = 14.1137
    np.testing.assert_allclose(kl, 14.9877, rtol=1e-5)
    np.testing.assert_allclose(kl, q.kl_divergence(p), rtol=1e-5)
    np.testing.assert_allclose(kl_divergence(q, q, jnp.zeros(2)), 0.0, atol=1e-6)


def test_monte_carlo_kl_agrees_with_the_closed_form():
    q, p = gaussians()
    hidden = distrax.MixtureSameFamily(  # one component: the same density, but no Gaussian to the eye
        distrax.Categorical(logits=jnp.zeros(1)),
        distrax.Independent(distrax.Normal(p.distribution.loc[None], p.distribution.scale[None]), 1),
    )
    z = q.sample(seed=jax.random.key(0), sample_shape=(20_000,))
    estimates = np.asarray(kl_divergence(q, hidden, z))
    exact = float(kl_divergence(q, p, jnp.zeros(2)))
    assert abs(estimates.mean() - exact) < 5 * estimates.std() / np.sqrt(20_000)


def test_loss_is_error_plus_beta_kl():
    policy, data = toy.make("cvae"), toy.random_batch()
    v, key = toy.moved(policy, data), jax.random.key(3)
    loss = jax.jit(lambda beta: policy.loss(v, jax.random.clone(key), data, {"beta": beta}))
    low, high = loss(jnp.asarray(0.0)), loss(jnp.asarray(2.0))
    q = policy.posterior(v, data.obs, data.chunk)
    decoded = policy.transport(v, data.obs, q.sample(seed=key))
    np.testing.assert_allclose(low.per_example, jnp.abs(decoded - data.chunk).mean((1, 2)), rtol=1e-5)
    mean, std = np.asarray(q.distribution.loc, np.float64), np.asarray(q.distribution.scale, np.float64)
    kl = 0.5 * (std**2 + mean**2 - 1 - 2 * np.log(std)).sum(-1)
    np.testing.assert_allclose(high.per_example - low.per_example, 2 * kl, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(high.metrics["latent/kl"], kl.mean(), rtol=1e-4)
    assert high.batch == 0


def test_log_variance_has_a_floor_with_a_gradient():
    policy, data = toy.make("cvae"), toy.random_batch()
    v = toy.moved(policy, data)

    def log_variance(shift):
        trunk = v.params["encoder"]["trunk"]
        last = sorted(trunk)[-1]
        bias = trunk[last]["bias"].at[2:].add(shift)
        params = {**v.params, "encoder": {"trunk": {**trunk, last: {**trunk[last], "bias": bias}}}}
        q = policy.posterior(v.replace(params=params), data.obs[0], data.chunk[0])
        return 2 * jnp.log(q.distribution.scale).min()

    assert -10 - 1e-4 <= log_variance(-100.0) < -9.9
    assert jax.grad(log_variance)(-12.0) > 0.01


PRIORS = ("normal", "conditional", "vamp", "spline", "latent_flow", "mixture")


@pytest.mark.parametrize("prior", sparing(PRIORS, slow=("conditional", "spline", "mixture")))
@spared("latent_flow")
def test_any_continuous_prior_is_trained_by_the_kl(prior):
    policy, data = toy.make("cvae", prior), toy.random_batch()
    v = toy.moved(policy, data)

    def total(params):
        loss = policy.loss(v.replace(params=params), jax.random.key(4), data, {"beta": jnp.asarray(0.1)})
        return loss.total()

    value, gradient = jax.jit(jax.value_and_grad(total))(v.params)
    assert np.isfinite(value)
    leaves = jax.tree.leaves(gradient["prior"])
    assert bool(leaves) == policy.prior.trainable
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert not leaves or max(np.abs(leaf).max() for leaf in leaves) > 0


def test_small_beta_keeps_two_modes_and_large_beta_collapses_them():
    policy, data = toy.make("cvae"), toy.two_modes()
    v, metrics = toy.train(policy, data, toy.hparams("cvae"))
    low, high = toy.mode_shares(toy.draw(policy, v))
    assert min(low, high) > 0.2
    assert metrics["latent/active_units"] >= 1
    assert metrics["latent/kl"] > np.log(2) / 2  # an exact bit needs log 2
    # C = .36, so beta = 10 is far above what a bit is worth; in L1 all between the modes would be equally good
    policy = toy.make("cvae", reconstruction="mse")
    v, metrics = toy.train(policy, data, toy.hparams("cvae", beta=10.0))
    assert metrics["latent/kl"] < 1e-3
    assert metrics["latent/active_units"] == 0
    w = jax.random.normal(jax.random.key(6), (50, 2))
    one_state = policy.transport(v, jnp.zeros((50, 2)), w)
    assert one_state.std(0).max() < 0.05


def test_zero_latent_ignores_the_base_but_keeps_it():
    policy, data = toy.make("cvae", zero_latent=True), toy.random_batch()
    v = toy.moved(policy, data)
    base = policy.base_distribution(v, data.obs)
    w = base.sample(seed=jax.random.key(5))
    assert np.isfinite(base.log_prob(w)).all()
    np.testing.assert_array_equal(policy.transport(v, data.obs, w), policy.transport(v, data.obs, 2 * w))
    free = toy.make("cvae")
    np.testing.assert_array_equal(
        policy.transport(v, data.obs, w), free.transport(v, data.obs, jnp.zeros_like(w))
    )


def test_posterior_is_that_of_the_protocol():
    policy, data = toy.make("cvae", latent_dim=3), toy.random_batch()
    assert capabilities(policy) == {"posterior"}
    q = policy.posterior(toy.moved(policy, data), data.obs, data.chunk)
    assert q.batch_shape == (8,)
    assert q.event_shape == (3,)


def test_active_units_golden():
    # variances over the batch: 1, .0025 and .04
    mean = jnp.array([[1.0, 0.05, 0.2], [-1.0, -0.05, -0.2]])
    assert active_units(mean) == 2


@pytest.mark.parametrize(
    ("field", "value"), [("latent_dim", 0), ("beta", -1.0), ("reconstruction", "l3"), ("hidden", (0,))]
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"policy.{field}"):
        toy.make("cvae", **{field: value})


@pytest.mark.parametrize("name", ["cvae", "wae"])
def test_a_prior_over_codes_is_refused(name):
    with pytest.raises(ConfigError, match="config.prior.name = 'categorical' .*vq"):
        toy.make(name, "categorical")
