"""The learners that replay with other critics than SAC's: DSRL-NA and the anchored critic of chunks."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Variables
from mmbc_jax.learners._collect import normalised
from mmbc_jax.learners._replayed_update import Step, Trained
from mmbc_jax.ops import ring
from tests.learners import _probed
from tests.learners._cloned import same
from tests.toys.probes import probe

ITERATIONS, GAMMA, BATCH = 150, 0.5, 64
SIZES = {"num_envs": 16, "decisions": 4, "updates": 16, "batch_size": BATCH, "capacity": 2048, "warmup": 128}
FIELDS = {**SIZES, "gamma": GAMMA, "critic_hidden": (32,), "critic_octaves": 0}
Q = plugin("discriminator", "categorical", input="state", hidden=(16,), noise=0.2)
STEER = plugin("actor", "steer", hidden=(16,), fourier_octaves=0, init_std=0.7, box=2.0)
RESIDUAL = plugin("actor", "residual", hidden=(16,), fourier_octaves=0, scale=1.0, sees_noise=True)
FIXED = {"temperature": 1e-4, "temperature_learning_rate": 0.0}
QUICK = {"learning_rate": 3e-3, "critic_learning_rate": 3e-3, "tau": 0.05}


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    """JAX takes a scan over keys under vmap for a reuse; test_start.py checks single runs instead."""
    with jax.debug_key_reuse(False):
        yield


@functools.cache
def trained(name, **changes):
    """(learner, first state, last state) on the probe that pays for the action x / 2."""
    learner = build(name, **changes)
    own = FIXED if name == "dsrl_na" else {"anchor_coef": 0.0, "learning_rate": 5e-4}
    hp = jax.tree.map(lambda x: x[0], _probed.hparams(name, 1, {}, **{**QUICK, **own}))

    @jax.jit
    def run(key):
        state = _probed.start(learner, hp, probe(aimed=1.0, slope=0.5), key, _probed.cloned())
        return state, jax.lax.scan(
            lambda s, _: (learner.train_step(s, ())[0], None), state, None, ITERATIONS
        )[0]

    return learner, *run(jax.random.key(0))


def build(name, **changes):
    actor = STEER if name == "dsrl_na" else RESIDUAL
    return _probed.build(plugin("learner", name, **{**FIELDS, **changes}), actor, Q)


def played(name, x, z):
    """500 actions of the trained actor at the start of an episode, clipped as the environment does."""
    learner, _, state = trained(name)
    obs = jnp.broadcast_to(jnp.array([x, 0.0, 0.0]), (500, 3))
    act = jax.jit(
        lambda key: learner.collector.act(state.params["actor"], Variables({}), key, obs, jnp.full(500, z))
    )
    return np.clip(act(jax.random.key(9))[0], -1.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("x", [-1.0, 1.0])
def test_steering_moves_the_action_to_where_the_reward_is(x):
    for z in (0, 1):
        assert played("dsrl_na", x, z).mean() == pytest.approx(0.5 * x, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("x", [-1.0, 1.0])
def test_a_contracting_correction_brings_every_noise_as_near_as_it_reaches(x):
    """From w ~ N(0, 1), by at most 1: |w - x / 2| - 1 is left where that is above 0, on average .23 of .92."""
    w = np.random.default_rng(0).standard_normal(100_000)
    clipped = np.clip(w, -1.0, 1.0)
    reach = np.maximum(np.abs(clipped - 0.5) - 1.0, 0.0).mean()
    for z in (0, 1):
        left = np.abs(played("q_chunk", x, z) - 0.5 * x).mean()
        assert left < 0.5 * (np.abs(clipped - 0.5).mean() + reach)


@pytest.mark.slow
def test_the_noise_critic_learns_what_the_chunk_critic_says():
    """The reference is the identity, so that both are functions of one number; the actor's noise stays near."""
    learner, _, state = trained("dsrl_na")
    obs = jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0]), (9, 3))
    noise, zero = jnp.linspace(-1.5, 1.5, 9)[:, None], jnp.zeros(9)
    apply = learner.update.critic.apply
    chunk, alias = (
        np.asarray(apply(state.params[part], obs, noise, zero.astype(jnp.int32), zero))
        for part in ("critic", "noise_critic")
    )
    expected = -np.square(np.clip(noise[:, 0], -1.0, 1.0) - 0.5)  # the environment clips
    np.testing.assert_allclose(alias, chunk, atol=0.3)
    np.testing.assert_allclose(alias, np.broadcast_to(expected, alias.shape), atol=0.5)


def test_distillation_moves_the_noise_critic_alone_and_towards_its_own_head():
    """Heads are distilled one to one: d loss / d Q^W_j = (Q^W_j - Q^A_j) / B in every head."""
    learner, state, later = trained("dsrl_na")
    buffer = later.env_state["buffer"]
    rows = ring.sample(buffer, jax.random.key(1), BATCH)
    batch = normalised(rows, later.stats["normalizer"])
    before = Trained(state.params, state.opt_state, state.ema["critic"])
    distil = jax.jit(lambda key: learner.update.distil(before, batch, Variables({}), state.hparams, key))
    after, metrics = distil(jax.random.key(2))
    for part in before.params:
        assert same(before.params[part], after.params[part]) == (part != "noise_critic")
    key_noise, _ = jax.random.split(jax.random.key(2))
    noise = jnp.clip(jax.random.normal(key_noise, (BATCH, 1)), -2.0, 2.0)
    heads = {
        part: np.asarray(learner.update.q(before.params[part], batch, noise), np.float64)
        for part in ("critic", "noise_critic")
    }
    each = 0.5 * np.square(heads["critic"] - heads["noise_critic"]).sum(0)
    weight = np.asarray(batch.valid)
    np.testing.assert_allclose(metrics["sac/distil_loss"], (each * weight).sum() / weight.sum(), rtol=1e-5)


def test_the_buffer_of_aliased_steering_holds_noise_and_chunk():
    _, _, state = trained("dsrl_na")
    info = state.env_state["buffer"].storage.info
    assert set(info) == {"action", "chunk"}
    np.testing.assert_array_equal(info["action"], info["chunk"])  # the reference is the identity


def anchored(filtered, normalise, beta):
    """(update, parameters, batch, hparams) with a critic that is linear in the chunk."""
    learner, state, later = trained("q_chunk")
    update = dataclasses.replace(learner.update, filtered=filtered, normalise=normalise)
    rows = ring.sample(later.env_state["buffer"], jax.random.key(3), BATCH)
    batch = normalised(rows, later.stats["normalizer"])
    rng = np.random.default_rng(0)
    actor = jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, np.float32), state.params["actor"])
    hp = {**state.hparams, "learner.anchor_coef": jnp.asarray(beta)}
    return update, {**later.params, "actor": actor}, batch, hp, state.opt_state


@pytest.mark.parametrize(
    ("filtered", "normalise", "draws"),
    [
        *((True, True, 1), (True, False, 1), (False, True, 1), (False, False, 1)),
        pytest.param(True, True, 3, marks=pytest.mark.slow),
    ],
)
def test_the_anchored_loss_in_numpy(filtered, normalise, draws):
    update, params, batch, hp, opt_state = anchored(filtered, normalise, 2.0)
    update, key = dataclasses.replace(update, draws=draws), jax.random.key(4)
    step = Step(dict(params), dict(opt_state), hp)
    logged = update.improve(step, batch, Variables({}), hp, key)
    keys = [key] if draws == 1 else list(jax.random.split(key, draws))

    def paired(actor):
        each = [
            update.actor.paired(actor, Variables({}), jax.random.clone(k), batch.obs, batch.z) for k in keys
        ]
        return map(jnp.stack, zip(*each, strict=True))

    def valued(actions):
        return jnp.stack([update.q(params["critic"], batch, action).min(0) for action in actions])

    action, anchor = paired(params["actor"])
    q, q_ref = np.asarray(valued(action)), np.asarray(valued(anchor))
    apart = np.square(np.asarray(action) - np.asarray(anchor)).mean(-1)
    held = (q_ref >= q).astype(np.float32) if filtered else np.ones_like(q)
    assert not filtered or 0 < held.mean() < 1
    np.testing.assert_allclose(logged["sac/apart"], apart.mean(), rtol=1e-5)
    np.testing.assert_allclose(logged["sac/held"], held.mean(), rtol=1e-6)

    def loss(actor):
        action, anchor = paired(actor)
        q = valued(action)
        scale = np.abs(np.asarray(q_now)).mean() if normalise else 1.0
        return (-q / scale + 2.0 * held * jnp.square(action - anchor).mean(-1)).mean()

    q_now = q
    expected = jax.grad(loss)(params["actor"])
    moments = {}
    jax.tree_util.tree_map_with_path(
        lambda path, leaf: moments.update({jax.tree_util.keystr(path): leaf}), step.opt_state["actor"]
    )
    norm = np.sqrt(sum(float(jnp.square(g).sum()) for g in jax.tree.leaves(expected)))
    shrink = min(1.0, 10.0 / norm)  # clip_norm
    for path, gradient in jax.tree_util.tree_flatten_with_path(expected)[0]:
        end = jax.tree_util.keystr(path)
        (moment,) = (m for name, m in moments.items() if name.endswith(".mu" + end))
        np.testing.assert_allclose(moment, 0.1 * shrink * gradient, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(("name", "wanted"), [("dsrl_na", "steer"), ("q_chunk", "residual")])
def test_a_learner_says_which_actor_it_wants(name, wanted):
    parts = _probed.parts(plugin("actor", "gaussian", hidden=(8,)), Q)
    with pytest.raises(ConfigError, match=f"actor.name.*{wanted}"):
        registry.build("learner", plugin("learner", name, **FIELDS), parts)
