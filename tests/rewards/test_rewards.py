"""Every intrinsic reward keeps its contract; what the MI reward pays, in numpy."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.programs import count
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Transitions
from mmbc_jax.core.observations import ObsSpec
from tests.toys.products import spared

MODES, HORIZON, T, B, D = 3, 5, 4, 6, 2
REWARDS = sorted(registry.available("reward"))
OBS = ObsSpec.vector(D)


@functools.cache
def discriminator(modes=MODES, noise=0.0):
    cfg = plugin("discriminator", "categorical", input="state", hidden=(8,), noise=noise)
    return registry.build("discriminator", cfg, OBS, modes, HORIZON)


def build(name, modes=MODES, noise=0.0, **fields):
    cfg = plugin("reward", name, **fields)
    return registry.build("reward", cfg, discriminator=discriminator(modes, noise), horizon=HORIZON)


def params_of(reward):
    rng = np.random.default_rng(0)
    fresh = jax.jit(reward.init)(jax.random.key(0))
    return jax.tree.map(lambda p: p + rng.standard_normal(p.shape, np.float32), fresh)


def transitions(reward, modes=MODES, shape=(T, B)):
    rng = np.random.default_rng(1)

    def path():
        obs = jnp.asarray(rng.uniform(-1, 1, (*shape, D)), jnp.float32)
        return obs, reward.features(reward.init_memory(obs))

    (obs, features), (final_obs, final_features) = path(), path()
    ended = jnp.asarray(rng.integers(0, 2, shape), jnp.float32)
    zeros = jnp.zeros(shape)
    return Transitions(
        obs=obs,
        final_obs=final_obs,
        z=jnp.asarray(rng.integers(0, modes, shape), jnp.int32),
        time=zeros,
        final_time=zeros,
        remaining=jnp.asarray(rng.integers(0, HORIZON, shape), jnp.int32),
        info={},
        features=features,
        final_features=final_features,
        reward=zeros,
        discount=zeros + 0.9,
        terminated=ended,
        final=ended,
        done=ended,
        success=ended * jnp.asarray(rng.integers(0, 2, shape), jnp.float32),
        diverged=zeros,
        valid=zeros + 1.0,
    )


@pytest.mark.parametrize("name", REWARDS)
@spared("diayn")
def test_shapes_of_any_number_of_axes(name):
    reward = build(name)
    params, seen = params_of(reward), transitions(reward)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
    pay = jax.jit(lambda seen, key: reward.pay(params, key, seen, 0.9))
    rollout, metrics = pay(seen, jax.random.key(2))
    rows, _ = pay(flat, jax.random.key(2))
    assert rollout.shape == (T, B)
    np.testing.assert_allclose(rollout.reshape(-1), rows, rtol=1e-5, atol=1e-6)
    loss, logged = reward.loss(params, jax.random.key(3), flat.features, flat.z)
    assert loss.shape == (T * B,)
    assert all("/" in key and value.shape == () for key, value in metrics.items())
    assert all("/" in key and value.shape == (T * B,) for key, value in logged.items())


@pytest.mark.parametrize("name", REWARDS)
@spared("diayn")
def test_what_does_not_train_has_a_loss_without_slope(name):
    reward = build(name)
    params, seen = params_of(reward), transitions(reward)
    gradient = jax.grad(lambda p: reward.loss(p, jax.random.key(4), seen.features, seen.z)[0].mean())(params)
    slopes = [float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient)]
    assert (max(slopes, default=0.0) > 0) == reward.trains


@pytest.mark.parametrize("name", REWARDS)
def test_nothing_waits_for_the_host_or_adds_in_an_arbitrary_order(name):
    """Neither to be paid nor to be trained: what is compiled has no branch, scatter or loop of unknown length."""
    reward = build(name)
    params, seen = params_of(reward), transitions(reward)

    def slope(params, key):
        return jax.grad(lambda p: reward.loss(p, key, seen.features, seen.z)[0].mean())(params)

    for program in (lambda params, key: reward.pay(params, key, seen, 0.9), slope):
        found = count(jax.jit(program).lower(params, jax.random.key(17)).compile().as_text())
        assert (found.conditionals, found.scatters, found.transfers, found.unbounded) == (0, 0, 0, 0)


@pytest.mark.parametrize("forfeit", [True, False])
@pytest.mark.parametrize("payment", ["absorbing", "potential"])
def test_the_mi_reward_in_numpy(payment, forfeit):
    """Without input noise phi = log q(z | s) + log Z; the payments are written out decision by decision."""
    reward = build("mi", payment=payment, forfeit=forfeit)
    params, seen = params_of(reward), transitions(reward)
    found, metrics = jax.jit(lambda key: reward.pay(params, key, seen, 0.9))(jax.random.key(5))

    def phi(obs):
        p = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
        h = np.asarray(obs, np.float64) @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
        logits = (h * np.tanh(np.log1p(np.exp(h)))) @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"]
        log_q = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return np.take_along_axis(log_q, np.asarray(seen.z)[..., None], -1)[..., 0] + math.log(MODES)

    before, after = phi(seen.obs), phi(seen.final_obs)
    for t in range(T):
        for b in range(B):
            ended, won = bool(seen.terminated[t, b]), bool(seen.success[t, b])
            kept = 0.0 if ended and not won and forfeit else 1.0
            if payment == "absorbing":
                stands_for = sum(0.9**i for i in range(int(seen.remaining[t, b]) + 1)) if ended else 1.0
                expected = kept * after[t, b] * stands_for / HORIZON
            else:
                expected = kept * after[t, b] - before[t, b]
            assert found[t, b] == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert metrics["mode/mi_prefix"] == pytest.approx(after.mean(), rel=1e-4)
    assert metrics["mode/mi"] == pytest.approx(after[np.asarray(seen.done) > 0].mean(), rel=1e-4)


def test_diayn_pays_every_decision_the_same_whatever_ends():
    """log q(z | s') + log Z; what the potential of the mi reward pays lacks what was told before the decision."""
    reward, other = build("diayn"), build("mi", payment="potential", forfeit=False)
    params, seen = params_of(reward), transitions(reward)
    found, metrics = jax.jit(lambda key: reward.pay(params, key, seen, 0.9))(jax.random.key(11))
    log_q = reward.discriminator.log_prob(params, jax.random.key(12), seen.final_features)
    expected = np.take_along_axis(np.asarray(log_q), np.asarray(seen.z)[..., None], -1)[..., 0] + math.log(
        MODES
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert metrics["mode/mi_prefix"] == pytest.approx(expected.mean(), rel=1e-4)
    before = reward.phi(params, jax.random.key(13), seen.features, seen.z)
    potential = other.pay(params, jax.random.key(14), seen, 0.9)[0]
    np.testing.assert_allclose(potential, found - before, rtol=1e-4, atol=1e-5)


def final_q():
    cfg = plugin("discriminator", "categorical", input="final", hidden=(8,), noise=0.0)
    return registry.build("discriminator", cfg, OBS, MODES, HORIZON)


@pytest.mark.parametrize(
    ("name", "fields"), [("diayn", {}), ("mi", {"payment": "potential", "forfeit": False})]
)
def test_with_a_q_of_final_states_an_episode_is_paid_once(name, fields):
    """Variational intrinsic control: nothing on the way, log q - log p at the end, by either payment."""
    reward = registry.build(
        "reward", plugin("reward", name, **fields), discriminator=final_q(), horizon=HORIZON
    )
    params, seen = params_of(reward), transitions(reward)
    states = jnp.asarray(np.random.default_rng(2).normal(size=(T, B, D)), jnp.float32)
    seen = seen.replace(
        features=jnp.concatenate([states, jnp.zeros((T, B, 1))], -1),
        final_features=jnp.concatenate([states, seen.done[..., None]], -1),
    )
    found = np.asarray(reward.pay(params, jax.random.key(15), seen, 0.9)[0])
    log_q = reward.discriminator.log_prob(params, jax.random.key(16), seen.final_features)
    at_end = np.take_along_axis(np.asarray(log_q), np.asarray(seen.z)[..., None], -1)[..., 0] + math.log(
        MODES
    )
    np.testing.assert_allclose(found, np.where(np.asarray(seen.done) > 0, at_end, 0.0), atol=1e-5)


def test_a_mean_over_the_horizon_needs_a_q_that_speaks_along_the_way():
    with pytest.raises(ConfigError) as info:
        registry.build("reward", plugin("reward", "mi"), discriminator=final_q(), horizon=HORIZON)
    assert info.value.field == "discriminator.input"


def test_without_an_end_there_is_no_information_of_a_whole_path():
    reward = build("mi")
    seen = transitions(reward)
    running = seen.replace(done=jnp.zeros((T, B)), terminated=jnp.zeros((T, B)))
    metrics = reward.pay(params_of(reward), jax.random.key(10), running, 0.9)[1]
    assert np.isnan(metrics["mode/mi"])
    assert np.isfinite(metrics["mode/mi_prefix"])
    assert reward.logs["mode/mi"] == "known"


def test_input_noise_is_drawn_anew_for_every_payment():
    reward = build("mi", noise=0.5)
    params, seen = params_of(reward), transitions(reward)
    first, second = (reward.pay(params, jax.random.key(i), seen, 0.9)[0] for i in (6, 7))
    assert not np.allclose(first, second)


@pytest.mark.parametrize("name", REWARDS)
def test_one_mode_earns_nothing_and_trains_nothing(name):
    reward = build(name, modes=1)
    assert (reward.trains, reward.num_modes) == (False, 1)
    seen = transitions(reward, modes=1)
    found, _ = reward.pay(params_of(reward), jax.random.key(8), seen, 0.9)
    np.testing.assert_array_equal(found, 0.0)


def test_without_a_discriminator():
    with pytest.raises(ConfigError) as info:
        registry.build("reward", plugin("reward", "mi"), discriminator=None, horizon=HORIZON)
    assert info.value.field == "discriminator.name"
    none = registry.build("reward", plugin("reward", "none"), discriminator=None, horizon=HORIZON)
    assert (none.num_modes, none.discriminator, none.init(jax.random.key(9))) == (1, None, {})


def test_an_unknown_payment_is_refused():
    with pytest.raises(ConfigError) as info:
        build("mi", payment="cash")
    assert info.value.field == "reward.payment"
