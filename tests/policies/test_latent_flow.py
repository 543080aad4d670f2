from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import capabilities
from tests.toys.products import spared, sparing

from . import _latent_toy as toy
from ._toys import zeros

SMALL = {"flow_hidden": (32,)}


def test_loss_is_the_sum_of_its_terms():
    policy, data = toy.make("latent_flow", **SMALL), toy.random_batch()
    v = toy.moved(policy, data)
    traces = []
    loss = jax.jit(lambda hp: traces.append(hp) or policy.loss(v, jax.random.key(3), data, hp))
    off = loss(toy.hparams("latent_flow", flow_weight=0.0, geometry_weight=0.0))
    on = loss(toy.hparams("latent_flow", flow_weight=2.0, geometry_weight=3.0))
    np.testing.assert_allclose(off.per_example.mean(), off.metrics["latent/reconstruction"], rtol=1e-6)
    extra = (on.per_example - off.per_example).mean()
    np.testing.assert_allclose(extra, 2.0 * on.metrics["latent/flow_mse"], rtol=1e-4)
    np.testing.assert_allclose(on.batch, 3.0 * on.metrics["latent/geometry"], rtol=1e-5)
    assert len(traces) == 1


@pytest.mark.parametrize("detach", [False, True])
@spared("False")
def test_detach_keeps_the_flow_from_the_encoder(detach):
    policy, data = toy.make("latent_flow", detach=detach, **SMALL), toy.random_batch()
    v = toy.moved(policy, data)

    def total(params, hp):
        return policy.loss(v.replace(params=params), jax.random.key(4), data, hp).total()

    gradient = jax.jit(jax.grad(total))
    light, heavy = (
        gradient(v.params, toy.hparams("latent_flow", flow_weight=weight))["encoder"]
        for weight in (0.0, 10.0)
    )
    gap = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), light, heavy)
    assert (max(jax.tree.leaves(gap)) == 0) == detach


def test_prior_is_its_own_and_options_reach_it():
    policy = toy.make("latent_flow", flow_steps=3, flow_times=(2.0, 1.0), flow_hidden=(8,))
    own = policy.prior.options
    assert (own.steps, own.times, own.hidden) == (3, (2.0, 1.0), (8,))
    assert capabilities(policy) == {"posterior"}
    v = policy.init(jax.random.key(0), zeros(policy.spec))
    np.testing.assert_allclose(policy.posterior(v, jnp.zeros(2), jnp.zeros((3, 1))).stddev(), [0.075] * 2)


@pytest.mark.parametrize(
    "prior", sparing(["conditional", "spline", "vamp", "latent_flow"], ("spline", "vamp", "latent_flow"))
)
def test_any_trained_prior_may_take_the_flows_place(prior):
    policy, data = toy.make("latent_flow", prior), toy.random_batch()
    v = toy.moved(policy, data)

    @jax.jit
    def total(params):
        hp = toy.hparams("latent_flow", flow_weight=1.0)
        loss = policy.loss(v.replace(params=params), jax.random.key(4), data, hp)
        return loss.total(), loss.metrics

    gradient, metrics = jax.grad(total, has_aux=True)(v.params)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient["prior"])) > 0
    assert np.isfinite(toy.draw(policy, v)).all()
    assert np.isfinite([float(value) for value in metrics.values()]).all()


@pytest.mark.parametrize("prior", ["mixture", "categorical"])
def test_a_prior_that_cannot_follow_the_latents_is_refused(prior):
    with pytest.raises(
        ConfigError, match=f"config.prior.name = '{prior}' .*a trained prior over real vectors, or normal"
    ):
        toy.make("latent_flow", prior)


@pytest.mark.slow
def test_deployed_latents_keep_two_modes():
    policy, data = toy.make("latent_flow", **SMALL), toy.two_modes()
    hp = toy.hparams("latent_flow")
    v, metrics = toy.train(policy, data, hp, steps=400, rate=1e-2)
    chunk = toy.draw(policy, v)
    low, high = toy.mode_shares(chunk)
    assert min(low, high) > 0.2
    assert low + high > 0.7
    assert metrics["latent/active_units"] >= 1
    # the geometry holds the spread of the latents near one, though the flow would have them shrink
    assert 0.5 < np.std(policy.encode(v.params, data.obs, data.chunk), axis=0).max() < 2.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("flow_weight", -1.0),
        ("geometry_weight", -1.0),
        ("jitter", 0.0),
        ("flow_steps", 0),
        ("flow_times", (1.0,)),
        ("flow_times", (0.0, 1.0)),
        ("flow_hidden", ()),
        ("latent_dim", 0),
    ],
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"policy.{field}"):
        toy.make("latent_flow", **{field: value})
