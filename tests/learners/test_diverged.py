"""Learning beside instances that diverge, or whose episodes begin done: in no mean, and everything stays finite."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.config import plugin
from mmbc_jax.learners._collect import normalised
from mmbc_jax.learners._ppo_update import Update
from mmbc_jax.learners._replayed_update import Trained
from tests.learners import _probed
from tests.toys.fragile import LENGTH, Fragile, several

SIZES = {
    "ppo": {"num_envs": 8, "decisions": LENGTH, "epochs": 1, "minibatches": 2},
    "sac": {
        **{"num_envs": 8, "decisions": LENGTH, "updates": 2, "batch_size": 32},
        **{"capacity": 192, "warmup": 0},
    },
}
EACH = ({"when": 3}, {"over": 1.0}, *({},) * 6)
LEARNERS = tuple(SIZES)


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    with jax.debug_key_reuse(False):
        yield


def build(name, what="data"):
    cfg = plugin("learner", name, **SIZES[name], critic_hidden=(8,), critic_octaves=0)
    q = plugin("discriminator", "categorical", input="state", hidden=(8,))
    return _probed.build(cfg, plugin("actor", "gaussian", hidden=(8,)), q, env=Fragile(what))


def begin(name, learner):
    """The first state, with instances as `EACH` says."""
    stage = {"mi_coef": 1.0, "start_horizon": LENGTH}
    hp = jax.tree.map(lambda x: x[0], _probed.hparams(name, 1, stage))
    state = learner.init(jax.random.key(0), hp, None, ())
    loop = state.env_state["loop"] if name == "sac" else state.env_state
    env = learner.collector.env.reset(jax.random.split(jax.random.key(1), 8), several(*EACH), horizon=LENGTH)
    loop = loop.replace(env=env)
    return state.replace(env_state={**state.env_state, "loop": loop} if name == "sac" else loop)


@pytest.mark.parametrize(
    "what", ["data", *(pytest.param(one, marks=pytest.mark.slow) for one in ("obs", "reward"))]
)
@pytest.mark.parametrize("name", ["ppo", pytest.param("sac", marks=pytest.mark.slow)])
def test_two_iterations_beside_an_instance_that_breaks(name, what):
    """In six decisions the first instance breaks twice, the second is redrawn six times, and the others end once."""
    learner = build(name, what)
    step = jax.jit(lambda state: learner.train_step(state, ()))
    state = begin(name, learner)
    for _ in range(2):
        state, metrics = step(state)
        assert metrics["train/skipped_updates"] == 0
        assert metrics["rollout/diverged"] == 2
        assert metrics["rollout/episodes"] == 6 + 6
        assert metrics["rollout/success_rate"] == 1.0
        np.testing.assert_allclose(metrics["rollout/env_reward"], 6 * LENGTH / 12, rtol=1e-6)
        assert metrics["rollout/mi_reward"] <= np.log(2) + 1e-6
    leaves = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(bool(jnp.isfinite(x).all()) for x in leaves)
    # what observations look like was learned from the others: at most six steps, where the broken one had NaN
    assert (np.abs(state.stats["normalizer"].obs_high) <= 2 * LENGTH).all()


@pytest.mark.parametrize("name", LEARNERS)
def test_what_was_no_decision_is_marked(name):
    learner = build(name)
    state = begin(name, learner)
    loop = state.env_state["loop"] if name == "sac" else state.env_state
    seen = jax.jit(
        lambda loop: learner.collector.collect(
            *(loop, state.params["actor"], None, state.stats["normalizer"]),
            *(jax.random.key(2), LENGTH, jnp.asarray(LENGTH)),
        )[1]
    )(loop)
    np.testing.assert_array_equal(seen.valid[:, 0], [1, 1, 0, 1, 1, 0])
    np.testing.assert_array_equal(seen.diverged[:, 0], [0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(seen.valid[:, 1], np.zeros(LENGTH))
    np.testing.assert_array_equal(seen.done[:, 1], np.ones(LENGTH))
    np.testing.assert_array_equal(seen.success[:, 1], np.ones(LENGTH))
    np.testing.assert_array_equal(seen.reward[:, 1], np.zeros(LENGTH))
    np.testing.assert_array_equal(seen.valid[:, 2:], np.ones((LENGTH, 6)))


def spoilt(batch, valid, amount):
    """The batch with `amount` added to all floats of rows that do not count."""

    def change(x):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return jnp.where(valid.reshape(-1, *(1,) * (x.ndim - 1)) > 0, x, x + amount)

    return jax.tree.map(change, batch)


@pytest.mark.parametrize("name", LEARNERS)
def test_rows_that_do_not_count_change_nothing(name):
    """Whatever they hold, parameters and metrics after an update are the same, bit for bit."""
    learner = build(name)
    state = begin(name, learner)
    loop = state.env_state["loop"] if name == "sac" else state.env_state
    valid = jnp.asarray(np.random.default_rng(0).integers(0, 2, 8 * LENGTH), jnp.float32)

    def updated(amount):
        scale = state.stats["normalizer"]
        loop_after, visited = learner.collector.collect(
            *(loop, state.params["actor"], None, scale, jax.random.key(2), LENGTH, jnp.asarray(LENGTH))
        )
        seen = normalised(visited, scale)
        if name == "ppo":
            batch = learner.prepare(state, loop_after, seen, jax.random.key(3))[0]
            update = Update(1, 2, learner.actor, learner.critic, learner.reward)
            return update.run(state, {**spoilt(batch, valid, amount), "valid": valid}, jax.random.key(4))
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
        rows = spoilt(rows, valid, amount).replace(valid=valid)
        before = Trained(state.params, state.opt_state, state.ema["critic"])
        trained, metrics = learner.update.step(before, rows, None, state.hparams, jax.random.key(4))
        return trained.params, trained.opt_state, metrics

    plain, changed = (jax.jit(updated)(jnp.asarray(amount)) for amount in (0.0, 3.0))
    jax.tree.map(np.testing.assert_array_equal, plain, changed)
