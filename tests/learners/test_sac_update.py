"""A whole training step of SAC against float64 NumPy, with gradients by hand.

Without hidden layers everything is linear, so that gradients can be written down: Q_j = k_j . (s, w, z, t) + b_j, a
mean m = K (s, z) + b, and q a softmax of a linear map. The random numbers are taken from the step's own keys.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.config import plugin
from mmbc_jax.learners._collect import normalised
from mmbc_jax.learners._replayed_update import Trained
from mmbc_jax.ops import ring
from tests.learners import _probed
from tests.toys.probes import LENGTH, probe

GAMMA, MODES, BATCH = 0.9, 2, 16
TEMPERATURE, TARGET_ENTROPY, TAU, ENV, MI = 0.2, -0.5, 0.1, 0.7, 0.4
RATES = {"actor": 1e-2, "critic": 2e-2, "reward": 3e-2, "temperature": 4e-2}


def build(reduce):
    cfg = plugin(
        "learner",
        "sac",
        **{"num_envs": 8, "decisions": 4, "updates": 1, "batch_size": BATCH, "capacity": 64, "warmup": 0},
        **{"gamma": GAMMA, "critic_hidden": (), "critic_octaves": 0, "reduce": reduce},
    )
    q = plugin("discriminator", "categorical", input="state", hidden=(), noise=0.0)
    return _probed.build(cfg, plugin("actor", "gaussian", hidden=(), fourier_octaves=0), q)


def begin(learner):
    """A first state with parameters that are not zero, on a probe whose episodes of 2 steps terminate."""
    changes = {"learning_rate": RATES["actor"], "critic_learning_rate": RATES["critic"]}
    changes |= {"discriminator_learning_rate": RATES["reward"]}
    changes |= {"temperature_learning_rate": RATES["temperature"], "clip_norm": 1e9}
    changes |= {"temperature": TEMPERATURE, "target_entropy": TARGET_ENTROPY, "tau": TAU}
    stage = {"env_coef": ENV, "mi_coef": MI}
    hp = jax.tree.map(lambda x: x[0], _probed.hparams("sac", 1, stage, **changes))
    state = _probed.start(learner, hp, probe(aimed=1.0, slope=0.3, steps=2.0), jax.random.key(0), None)
    rng = np.random.default_rng(0)
    moved = jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape).astype(np.float32), state.params)
    target = jax.tree.map(
        lambda p: p + 0.3 * rng.standard_normal(p.shape).astype(np.float32), moved["critic"]
    )
    params = {**moved, "temperature": state.params["temperature"]}
    return state.replace(params=params, ema={"critic": target})


def linear(params):
    """(kernel, bias) of the only layer below, in float64."""
    while "kernel" not in params:
        (params,) = params.values()
    return np.asarray(params["kernel"], np.float64), np.asarray(params["bias"], np.float64)


def adam(rate, gradient):
    """AdamW's first step without decay: m / (1 - b1) = g, v / (1 - b2) = g^2."""
    return -rate * gradient / (np.abs(gradient) + 1e-8)


class NumPy:
    """One gradient step on a batch, part by part."""

    def __init__(self, state, batch, keys, reduce):
        def f64(x):
            return np.asarray(x, np.float64)

        self.reduce, self.log_std = reduce, f64(state.params["actor"]["log_std"])
        self.actor = linear(state.params["actor"]["network"])
        self.critic, self.target = linear(state.params["critic"]), linear(state.ema["critic"])
        self.q = linear(state.params["reward"])
        self.s, self.s2 = f64(batch.obs), f64(batch.final_obs)
        self.seen = f64(batch.final_features)  # final_obs in the units of its time
        self.t, self.t2, self.w = f64(batch.time), f64(batch.final_time), f64(batch.info["action"])
        self.z, self.one_hot = np.asarray(batch.z), np.eye(MODES)[np.asarray(batch.z)]
        self.batch, self.keys = batch, keys

    def sample(self, s, key):
        """(w, log density, eps)."""
        eps = np.asarray(jax.random.normal(key, (BATCH, 1)), np.float64)
        kernel, bias = self.actor
        log_std = self.log_std[self.z]
        w = np.concatenate([s, self.one_hot], -1) @ kernel + bias + np.exp(log_std) * eps
        return w, (-0.5 * eps**2 - log_std - 0.5 * np.log(2 * np.pi)).sum(-1), eps

    def values(self, params, s, w, t):
        """(inputs [B, I], Q [N, B])."""
        x = np.concatenate([s, w, self.one_hot, t[:, None]], -1)
        kernel, bias = params
        return x, np.einsum("bi,nio->nb", x, kernel) + bias

    def log_q(self, s):
        kernel, bias = self.q
        logits = s @ kernel + bias
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    def reduced(self, q):
        return q.min(0) if self.reduce == "min" else q.mean(0)

    def critic_gradient(self):
        b, horizon = self.batch, LENGTH
        terminated, success = np.asarray(b.terminated), np.asarray(b.success)
        phi = self.log_q(self.seen)[np.arange(BATCH), self.z] + np.log(MODES)
        count = np.asarray(b.remaining) + 1.0
        weight = np.where(terminated > 0, (1 - GAMMA**count) / (1 - GAMMA), 1.0)
        intrinsic = phi * weight * (1 - terminated * (1 - success)) / horizon
        w2, log_prob, _ = self.sample(self.s2, self.keys[1])
        _, q2 = self.values(self.target, self.s2, w2, self.t2)
        soft = self.reduced(q2) - TEMPERATURE * log_prob
        y = ENV * np.asarray(b.reward) + MI * intrinsic + np.asarray(b.discount) * (1 - terminated) * soft
        x, q = self.values(self.critic, self.s, self.w, self.t)
        error = (q - y) / BATCH
        return np.einsum("nb,bi->ni", error, x)[..., None], error.sum(-1, keepdims=True)

    def actor_gradient(self, critic):
        """d/d(kernel, bias, log_std) of mean(alpha log pi - reduced Q), with the critic after its step."""
        w, log_prob, eps = self.sample(self.s, self.keys[2])
        _, q = self.values(critic, self.s, w, self.t)
        slopes = np.repeat(critic[0][:, self.s.shape[1]], BATCH, 1)  # [N, B] of Q in w
        slope = slopes[q.argmin(0), np.arange(BATCH)] if self.reduce == "min" else slopes.mean(0)
        mean = (-slope / BATCH)[:, None]
        inputs = np.concatenate([self.s, self.one_hot], -1)
        spread = (-TEMPERATURE - slope * np.exp(self.log_std[self.z][:, 0]) * eps[:, 0]) / BATCH
        log_std = np.zeros_like(self.log_std)
        np.add.at(log_std[:, 0], self.z, spread)
        return (inputs.T @ mean, mean.sum(0)), log_std, log_prob

    def reward_gradient(self):
        error = (np.exp(self.log_q(self.seen)) - self.one_hot) / BATCH
        return self.seen.T @ error, error.sum(0)


@pytest.mark.parametrize("reduce", ["min", pytest.param("mean", marks=pytest.mark.slow)])
def test_a_training_step_in_numpy(reduce):
    learner = build(reduce)
    state = jax.jit(lambda: begin(learner))()
    key = jax.random.clone(state.key)
    after, _ = jax.jit(learner.train_step)(state, ())
    _, _, _, key_update = jax.random.split(key, 4)
    (key_one,) = jax.random.split(key_update, 1)
    key_rows, key_step = jax.random.split(key_one)
    rows = ring.sample(after.env_state["buffer"], key_rows, BATCH)
    batch = normalised(rows, after.stats["normalizer"])
    assert 0 < batch.terminated.sum() < BATCH
    assert set(np.asarray(batch.z)) == {0, 1}
    plain = NumPy(state, batch, jax.random.split(key_step, 4), reduce)

    slopes = plain.critic_gradient()
    critic = tuple(p + adam(RATES["critic"], g) for p, g in zip(plain.critic, slopes, strict=True))
    for found, expected in zip(linear(after.params["critic"]), critic, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for found, old, new in zip(linear(after.ema["critic"]), plain.target, critic, strict=True):
        np.testing.assert_allclose(found, (1 - TAU) * old + TAU * new, rtol=1e-4, atol=1e-5)

    weights, log_std, log_prob = plain.actor_gradient(critic)
    for found, old, g in zip(linear(after.params["actor"]["network"]), plain.actor, weights, strict=True):
        np.testing.assert_allclose(found, old + adam(RATES["actor"], g), rtol=1e-4, atol=1e-5)
    expected = plain.log_std + adam(RATES["actor"], log_std)
    np.testing.assert_allclose(after.params["actor"]["log_std"], expected, rtol=1e-4, atol=1e-5)

    for found, old, g in zip(linear(after.params["reward"]), plain.q, plain.reward_gradient(), strict=True):
        np.testing.assert_allclose(found, old + adam(RATES["reward"], g), rtol=1e-4, atol=1e-5)

    slope = -(log_prob + TARGET_ENTROPY).mean()  # W = 1
    expected = np.log(TEMPERATURE) + adam(RATES["temperature"], slope)
    np.testing.assert_allclose(after.params["temperature"], expected, rtol=1e-4)

    # Adam's first step forgets the size of a gradient; its moment, a tenth of it, does not
    moments = moment_of(after.opt_state)
    expected = {
        "critic": slopes[0],
        "actor": weights[0],
        "reward": plain.reward_gradient()[0],
        "temperature": slope,
    }
    for part, gradient in expected.items():
        np.testing.assert_allclose(moments[part], np.ravel(gradient) / 10, rtol=2e-3, atol=1e-5)


def moment_of(opt_states):
    """First moments of each part's kernel (or only number), flat."""

    def kernel(opt_state):
        found = []

        def note(path, leaf):
            name = jax.tree_util.keystr(path)
            if ".mu" in name and ("kernel" in name or name.endswith(".mu")):
                found.append(np.ravel(leaf))

        jax.tree_util.tree_map_with_path(note, opt_state)
        (only,) = found
        return only

    return {part: kernel(opt_state) for part, opt_state in opt_states.items()}


def test_every_gradient_step_draws_rows_and_noise_of_its_own():
    """Three updates are three single ones in turn, with the keys of one split."""
    learner = build("min")
    state = jax.jit(lambda: begin(learner))()
    buffer = jax.jit(learner.train_step)(state, ())[0].env_state["buffer"]
    update = dataclasses.replace(learner.update, updates=3)
    whole, _ = jax.jit(lambda key: update.run(state, buffer, jnp.ones((), bool), key))(jax.random.key(5))
    one = jax.jit(lambda trained, rows, key: update.step(trained, rows, None, state.hparams, key)[0])
    trained, drawn = Trained(state.params, state.opt_state, state.ema["critic"]), []
    for key in jax.random.split(jax.random.key(5), 3):
        key_rows, key_step = jax.random.split(key)
        drawn.append(ring.sample(buffer, key_rows, BATCH))
        trained = one(trained, normalised(drawn[-1], state.stats["normalizer"]), key_step)
    for found, expected in zip(jax.tree.leaves(whole), jax.tree.leaves(trained), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert not np.array_equal(drawn[0].obs, drawn[1].obs)
