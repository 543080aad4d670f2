"""What reinforcement starts from: a clone, an earlier stage, or nothing but a random walk."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.core.types import EnvSpec
from mmbc_jax.learners._start import alike, follow, stats_from
from tests.learners import _probed
from tests.learners._cloned import same
from tests.toys.probes import probe

SMALL = {"num_envs": 4, "decisions": 2, "critic_hidden": (4,)}
LEARNERS = {
    "ppo": plugin("learner", "ppo", **SMALL, epochs=1, minibatches=1),
    "sac": plugin("learner", "sac", **SMALL, updates=2, batch_size=8, capacity=32, warmup=0),
}
SLOW = [name if name == "ppo" else pytest.param(name, marks=pytest.mark.slow) for name in LEARNERS]
"""The replaying learner compiles for ten seconds: in the quick half where it differs from the other alone."""
Q = plugin("discriminator", "categorical", input="state", hidden=(4,))


def build(name, actor="steer", **fields):
    return _probed.build(LEARNERS[name], plugin("actor", actor, hidden=(4,), **fields), Q)


def scalars(name):
    return {key: x[0] for key, x in _probed.hparams(name, 1, {"mi_coef": 1.0}).items()}


@functools.cache
def trained(name, actor="steer", of=None):
    """(first state, state after one iteration) from the clone, or from one iteration of the learner `of`."""
    learner = build(name, actor)
    parent = trained(of, actor)[1] if of else _probed.cloned()

    @jax.jit
    def run(key, parent):
        state = learner.init(key, scalars(name), parent, ())
        return state, learner.train_step(state, ())[0]

    return run(jax.random.key(1), parent)


@pytest.mark.parametrize("name", SLOW)
def test_from_a_clone(name):
    state, after = trained(name)
    assert same(state.stats["normalizer"], _probed.IDENTITY)
    assert same(state.stats["reference"].params, {})
    assert same(after.stats, state.stats)


@pytest.mark.parametrize("name", SLOW)
def test_from_an_earlier_stage_of_the_same_kind(name):
    """Parameters and what is known of observations stay; optimisers and environments are fresh."""
    parent = trained(name)[1]
    state, _ = trained(name, of=name)
    assert same(state.params, parent.params)
    assert same(state.stats, parent.stats)
    assert int(state.step) == 0
    assert not same(state.opt_state, parent.opt_state)
    assert same(state.opt_state["actor"], trained(name)[0].opt_state["actor"])


@pytest.mark.slow
def test_a_buffer_and_the_target_critic_are_taken_over():
    parent = trained("sac")[1]
    state, after = trained("sac", of="sac")
    assert same(state.env_state["buffer"], parent.env_state["buffer"])
    assert same(state.ema, parent.ema)
    assert int(state.env_state["buffer"].filled) == 8
    assert int(after.env_state["buffer"].filled) == 16


@pytest.mark.slow
def test_from_an_earlier_stage_with_another_learner():
    """Actor and reward are kept, the critic of another kind is not."""
    parent = trained("ppo")[1]
    state, _ = trained("sac", of="ppo")
    for part in ("actor", "reward"):
        assert same(state.params[part], parent.params[part])
    assert not alike(state.params["critic"], parent.params["critic"])
    assert same(state.ema["critic"], state.params["critic"])
    assert int(state.env_state["buffer"].filled) == 0


def test_another_actor_than_the_earlier_stages_is_refused():
    parent = trained("ppo")[1]
    with pytest.raises(ConfigError) as info:
        build("ppo", "gaussian").init(jax.random.key(2), scalars("ppo"), parent, ())
    assert info.value.field == "actor.name"


@pytest.mark.parametrize("name", SLOW)
def test_from_nothing(name):
    """No reference, and a normaliser whose bounds are mean -+ std of all that was visited: walk and iteration."""
    learner = build(name, "gaussian")

    @jax.jit
    def run(key):
        state = learner.init(key, scalars(name), None, ())
        return state, learner.train_step(state, ())[0]

    state, after = run(jax.random.key(3))
    assert state.stats["reference"] is None
    assert learner.subject(state, jax.random.key(4)).reference is None
    (first,), (later,) = (list(s.stats["moments"].values()) for s in (state, after))
    assert first.rows == 16 * 4
    assert later.rows == 16 * 4 + 2 * 4
    normalizer = after.stats["normalizer"]
    changing = np.asarray(later.variance) > 0
    assert changing.any()
    np.testing.assert_allclose(normalizer.normalize_obs(later.mean), 0.0, atol=1e-5)
    spread = np.asarray(normalizer.normalize_obs(later.mean + jnp.sqrt(later.variance)))
    np.testing.assert_allclose(spread[changing], 1.0, atol=1e-5)
    np.testing.assert_allclose(normalizer.denormalize_action(jnp.ones(1)), 1.0)
    assert not same(after.stats["normalizer"], state.stats["normalizer"])


ENTRIES = ObsSpec.of(
    {
        "arm": ObsEntry((3,), angles=(1,)),
        "object": ObsEntry((6,), quaternions=(2,)),
    }
)
ENV = EnvSpec("none", 9, 1, 4, 0, (-2.0,), (2.0,), obs=ENTRIES)


class Walk:
    """A collector that wandered through given observations."""

    class env:  # noqa: N801
        """Its environment."""

        spec = ENV

    def __init__(self, visited):
        self.visited = visited

    def wander(self, key, decisions, chunk_shape):
        named = jax.tree.leaves(self.visited)
        return self.visited, jnp.ones(named[0].shape[:-1])


def visits(seed, shape=(5, 4)):
    rng = np.random.default_rng(seed)
    arm = rng.normal(10.0, 3.0, (*shape, 3))
    arm[..., 2] = 7.0  # never changes
    return {
        "arm": jnp.asarray(arm, jnp.float32),
        "object": jnp.asarray(rng.normal(-1.0, 0.2, (*shape, 6)), jnp.float32),
    }


def test_every_entry_has_its_scale_but_what_is_no_quantity():
    """Angles and quaternions stay, a constant is centred, the rest is (x - mean) / std over both batches."""
    first, second = visits(0), visits(1, (7, 4))
    stats = stats_from(None, jax.random.key(0), Walk(first), ENTRIES, (1, 1))
    stats = follow(stats, second, ENTRIES, ENV)
    low, high = stats["normalizer"].obs_low, stats["normalizer"].obs_high
    for name, kept in (("arm", [1]), ("object", [2, 3, 4, 5])):
        rows = np.concatenate(
            [np.asarray(v[name], np.float64).reshape(-1, v[name].shape[-1]) for v in (first, second)]
        )
        mean, std = rows.mean(0), rows.std(0)
        std[std < 1e-6] = 1.0
        mean[kept], std[kept] = 0.0, 1.0
        np.testing.assert_allclose(low[name], mean - std, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(high[name], mean + std, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(stats["normalizer"].action_high, [2.0])


def test_with_a_clone_nothing_follows():
    stats = {"reference": None, "normalizer": _probed.IDENTITY}
    assert follow(stats, jnp.zeros((2, 3)), _probed.SPEC.obs, ENV) is stats


@pytest.mark.slow
def test_probes_can_be_told_apart():
    """What `_probed.start` changes reaches the environments of both learners."""
    for name in LEARNERS:
        learner = build(name)
        state = _probed.start(
            learner, scalars(name), probe(constant=3.0), jax.random.key(5), _probed.cloned()
        )
        _, metrics = jax.jit(learner.train_step)(state, ())
        assert metrics["rollout/env_reward"] == 3.0
