from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.config import plugin
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.learners._values import follow_targets, no_targets, scale_of, taken_over, values_of
from mmbc_jax.nn.critic import Critic
from tests.learners import _probed
from tests.toys.probes import probe


def critic():
    """A value network with a last layer that says something, and inputs for it."""
    network = Critic(ObsSpec.vector(3), (8, 8), 2, 1)
    rng = np.random.default_rng(0)
    inputs = (
        jnp.asarray(rng.normal(size=(16, 3)), jnp.float32),
        jnp.asarray(rng.integers(0, 2, 16)),
        jnp.asarray(rng.uniform(size=16), jnp.float32),
    )
    params = network.init(jax.random.key(0), *inputs)
    params = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32), params)
    return network, params, inputs


def said(network, params, inputs, moments):
    mean, std = scale_of(moments)
    return mean + std * network.apply(params, *inputs)


def test_no_value_changes_when_its_unit_does():
    """Targets of 1e4 +- 300, then of -20 +- 1: the unit moves by four orders of magnitude, no value does."""
    network, params, inputs = critic()
    rng = np.random.default_rng(1)
    first = jnp.asarray(rng.normal(0.0, 2.0, 32), jnp.float32)
    params, moments, _ = follow_targets(params, no_targets(), first, jnp.ones(32))
    before = said(network, params, inputs, moments)
    for mean, std in ((1e4, 300.0), (-20.0, 1.0)):
        target = jnp.asarray(rng.normal(mean, std, (4, 32)), jnp.float32)
        params, moments, _ = follow_targets(params, moments, target, jnp.ones((4, 32)))
        # the rounding of sums with numbers of the size of the mean
        np.testing.assert_allclose(said(network, params, inputs, moments), before, atol=4e-3)


def test_targets_come_out_in_units_of_all_that_are_remembered():
    """Two batches of as many rows: mean and variance of both together, by numpy."""
    _, params, _ = critic()
    rng = np.random.default_rng(2)
    first, second = rng.normal(5.0, 2.0, 64), rng.normal(9.0, 1.0, 64)
    params, moments, normed = follow_targets(
        params, no_targets(), jnp.asarray(first, jnp.float32), jnp.ones(64)
    )
    np.testing.assert_allclose(normed, (first - first.mean()) / first.std(), rtol=1e-4, atol=1e-5)
    _, moments, normed = follow_targets(params, moments, jnp.asarray(second, jnp.float32), jnp.ones(64))
    both = np.concatenate([first, second])
    np.testing.assert_allclose(scale_of(moments), (both.mean(), both.std()), rtol=1e-5)
    np.testing.assert_allclose(normed, (second - both.mean()) / both.std(), rtol=1e-4, atol=1e-5)


def test_what_does_not_count_and_what_is_constant():
    _, params, _ = critic()
    target = jnp.array([1.0, 3.0, 1e6])
    _, moments, _ = follow_targets(params, no_targets(), target, jnp.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(scale_of(moments), (2.0, 1.0), rtol=1e-6)
    _, moments, normed = follow_targets(params, no_targets(), jnp.full(3, 7.0), jnp.ones(3))
    np.testing.assert_allclose(normed, 0.0)
    assert float(scale_of(moments)[1]) == 1.0


@pytest.mark.parametrize("normalised", [True, False])
def test_rewards_of_any_size_are_learned(normalised):
    """The probe `constant`, V = 1, with rewards of 10,000: a network without units has not moved in 40 iterations."""
    own = {"num_envs": 64, "decisions": 4, "epochs": 4, "minibatches": 2, "gamma": _probed.GAMMA}
    learner = _probed.build(
        plugin("learner", "ppo", **own, critic_hidden=(32,), critic_octaves=0, normalise_values=normalised),
        plugin("actor", "steer", hidden=(8,), fourier_octaves=0),
        plugin("discriminator", "categorical", input="state", hidden=(8,)),
    )
    rates = {"learning_rate": 1e-3, "critic_learning_rate": 1e-2, "target_kl": 1e9}
    hp = _probed.hparams("ppo", 1, {"env_coef": 1e4}, **rates)
    hp = jax.tree.map(lambda x: x[0], hp)
    with jax.debug_key_reuse(False):
        state = _probed.start(learner, hp, probe(constant=1.0), jax.random.key(0), _probed.cloned())
        state = jax.jit(lambda s: jax.lax.fori_loop(0, 40, lambda _, s: learner.train_step(s, ())[0], s))(
            state
        )
    obs, time = jnp.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]), jnp.zeros(2)
    said = learner.critic.apply(state.params["critic"], obs, jnp.zeros(2, jnp.int32), time)
    value = values_of(said, state.stats) / 1e4
    if normalised:
        np.testing.assert_allclose(value, 1.0, atol=0.05)
    else:
        assert np.abs(value).max() < 0.2


def test_the_next_stage_takes_values_over_in_its_own_unit():
    """A parent's critic says the same in a stage with the unit, in one without it, and in one that begins one."""
    network, params, inputs = critic()
    rng = np.random.default_rng(4)
    _, unit, _ = follow_targets(params, no_targets(), jnp.asarray(50 + 7 * rng.normal(size=64)), jnp.ones(64))
    before = np.asarray(said(network, params, inputs, unit))
    measured = _probed.cloned().replace(params={"critic": params}, stats={"values": unit})
    physical = measured.replace(stats={})
    for parent, expected in ((measured, before), (physical, np.asarray(network.apply(params, *inputs)))):
        same, none = taken_over(params, parent, False)
        assert none == {}
        np.testing.assert_allclose(network.apply(same, *inputs), expected, rtol=1e-5)
        own, stats = taken_over(params, parent, True)
        moved, unit, _ = follow_targets(own, stats["values"], jnp.full(64, 3.0), jnp.ones(64))
        np.testing.assert_allclose(said(network, moved, inputs, unit), expected, rtol=1e-4)


@pytest.mark.parametrize("parent", [None, _probed.cloned()])
def test_a_fresh_critic_has_no_unit_yet(parent):
    _, params, _ = critic()
    same, stats = taken_over(params, parent, True)
    assert same is params
    assert float(stats["values"].rows) == 0
    assert taken_over(params, parent, False) == (params, {})
