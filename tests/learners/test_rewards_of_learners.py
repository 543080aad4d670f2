"""Every intrinsic reward drives two commands apart under both learners, and those that cannot are refused.

On the probe that pays nothing, where an observation holds the last action: two commands are apart when their actions
are. An episode is one decision.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Variables
from tests.learners import _probed
from tests.learners._probed import GAMMA
from tests.toys.probes import probe

STEER = plugin("actor", "steer", hidden=(16,), fourier_octaves=0, init_std=0.7, box=2.0)
NETWORK = {"gamma": GAMMA, "critic_hidden": (32,), "critic_octaves": 0}
LEARNERS = {
    "ppo": (plugin("learner", "ppo", num_envs=64, decisions=4, epochs=4, minibatches=2, **NETWORK), 40),
    "sac": (
        plugin(
            "learner", "sac", num_envs=16, decisions=4, updates=16, batch_size=128, capacity=2048, warmup=128,
            **NETWORK,
        ),
        60,
    ),
}  # fmt: skip
REWARDS = {
    "diayn": (plugin("reward", "diayn"), "state"),
    "vic": (plugin("reward", "diayn"), "final"),
    "by action": (plugin("reward", "mi"), "action"),
    "final": (plugin("reward", "mi", payment="potential"), "final"),
    "metra": (plugin("reward", "metra", hidden=(16,)), "state"),
    "metra by decisions": (plugin("reward", "metra", hidden=(16,), metric="decisions"), "state"),
    "spread": (plugin("reward", "spread"), "state"),
}
QUICK = {
    ("ppo", "vic"),
    ("ppo", "by action"),
    ("ppo", "spread"),
}


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    """Environments reset by a vmapped split, which JAX takes for a reuse; single runs are checked in training."""
    with jax.debug_key_reuse(False):
        yield


def build(learner, name):
    reward, seen = REWARDS[name]
    q = plugin("discriminator", "categorical", input=seen, hidden=(16,), noise=0.2)
    return _probed.build(LEARNERS[learner][0], STEER, q, reward=reward)


@functools.cache
def learned(learner, name):
    """(learner, states before and after, metrics of every iteration)."""
    made, (_, iterations) = build(learner, name), LEARNERS[learner]
    quick = {"learning_rate": 3e-3, "critic_learning_rate": 3e-3, "discriminator_learning_rate": 3e-3}
    if learner == "ppo":
        quick |= {"target_kl": 1e9}
    else:
        quick |= {"temperature": 1e-4, "temperature_learning_rate": 0.0, "tau": 0.05}
    stage = {"mi_coef": 1.0, "iterations": float(iterations)}
    hp = jax.tree.map(lambda x: x[0], _probed.hparams(learner, 1, stage, **quick))

    @jax.jit
    def run(key):
        state = _probed.start(made, hp, probe(), key, _probed.cloned())
        return state, *jax.lax.scan(lambda s, _: made.train_step(s, ()), state, None, iterations)

    return made, *run(jax.random.key(0))


CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow, id="-".join(case))
    for case in itertools.product(LEARNERS, REWARDS)
    if case != ("sac", "spread")
]


@pytest.mark.parametrize(("learner", "name"), CASES)
def test_commands_are_driven_apart(learner, name):
    """Actions lie in [-1, 1]; mean actions of the commands are less than 1 apart at first, and more than 1 then."""
    made, first, last, metrics = learned(learner, name)
    obs = jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0]), (500, 3))

    def apart(state):
        means = []
        for z in (0, 1):
            key, modes = jax.random.key(9), jnp.full(500, z)
            chunk, _ = made.actor.act(state.params["actor"], Variables({}), key, obs, modes)
            means.append(float(jnp.clip(chunk, -1, 1).mean()))
        return abs(means[0] - means[1])

    assert apart(first) < 1.0 < apart(last)
    assert all(np.isfinite(value).all() for key, value in metrics.items() if not key.startswith("rollout/"))


def test_a_reward_that_compares_a_rollout_is_nothing_for_replayed_decisions():
    with pytest.raises(ConfigError) as info:
        build("sac", "spread")
    assert info.value.field == "reward.name"
    assert "rollout" in info.value.allowed


def test_what_is_told_of_a_decision_is_what_was_played_and_whether_it_ended():
    """Through the collector: chunks as the actor answered, marked ended exactly where the episode is."""
    for name, kind in (("by action", "chunk"), ("vic", "ended")):
        made, _, state, _ = learned("ppo", name)
        stats, horizon = state.stats, jnp.asarray(4, jnp.int32)
        collect = jax.jit(made.collector.collect, static_argnums=5)
        loop, actor, scale = state.env_state, state.params["actor"], stats["normalizer"]
        _, rows = collect(loop, actor, stats["reference"], scale, jax.random.key(1), 3, horizon)
        if kind == "chunk":
            np.testing.assert_array_equal(rows.final_features[..., -1], 1.0)
            played = np.clip(
                np.asarray(rows.final_features[..., 3]), -1, 1
            )  # the probe observes what it was given
            np.testing.assert_allclose(played, np.asarray(rows.final_obs[..., 1]), atol=1e-6)
            np.testing.assert_array_equal(rows.final_features[..., :3], rows.obs)
        else:
            np.testing.assert_array_equal(rows.final_features[..., -1], rows.done)
            np.testing.assert_array_equal(rows.features[..., -1], 0.0)
