"""The best of K chunks by the critic: what is chosen, what the target expects, and what is played."""

from __future__ import annotations

import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from mmbc_jax.core.config import plugin
from mmbc_jax.core.learning import Transitions
from mmbc_jax.core.types import Variables
from mmbc_jax.evaluation.evaluator import act_with_actor
from mmbc_jax.learners._best_of import BestOf, best
from mmbc_jax.learners._replayed_update import Trained
from tests.learners import _probed
from tests.learners.test_off_policy import FIELDS, RESIDUAL, Q
from tests.toys.probes import LENGTH, NEVER, probe

WIDTH, NONE = 3, Variables({})


class Drawn:
    """An actor whose chunks are N(0, I)."""

    num_modes = 2

    def paired(self, params, reference, key, obs, z):
        chunk = jax.random.normal(key, (*z.shape, WIDTH))
        return chunk, chunk

    def chunk(self, reference, key, obs, action):
        return action[..., None]


class Bowl:
    """Q_j(s, a) = -|a - params[j]|^2, whatever the time."""

    def apply(self, params, obs, action, z, time):
        assert (time == 0).all()
        return -jnp.square(action - params.reshape(-1, *(1,) * z.ndim, WIDTH)).sum(-1)


class Slope:
    """Q(s, a) = a_0."""

    def apply(self, params, obs, action, z, time):
        return action[None, ..., 0]


def test_the_chosen_chunk_is_that_of_the_highest_value():
    """Against a loop in NumPy over the K draws and the smaller of two heads."""
    count, rows, key = 7, 40, jax.random.key(0)
    heads = np.array([[0.5, 0.0, -0.5], [-0.3, 0.2, 0.1]], np.float32)
    of = BestOf(Drawn(), Bowl(), count, "min")
    obs, z = jnp.zeros((rows, 3)), jnp.zeros(rows, jnp.int32)
    chosen = of.choose({"actor": {}, "critic": jnp.asarray(heads)}, NONE, key, obs, z)
    keys = jax.random.split(jax.random.clone(key), count)
    drawn = np.stack([jax.random.normal(k, (rows, WIDTH)) for k in keys])
    values = np.stack([-np.square(drawn - head).sum(-1) for head in heads]).min(0)
    expected = np.stack([drawn[values[:, row].argmax(), row] for row in range(rows)])
    np.testing.assert_array_equal(chosen, expected)
    assert len(np.unique(values.argmax(0))) > 3


def test_of_equal_values_the_first_chunk_is_chosen():
    rows = jnp.arange(6.0).reshape(3, 2, 1)
    found = best(jnp.array([[1.0, 0.0], [1.0, 2.0], [0.0, 2.0]]), rows)
    np.testing.assert_array_equal(found, [[0.0], [3.0]])


@pytest.mark.parametrize("count", [2, 16])
def test_the_best_of_gaussians_has_the_mean_of_their_largest(count):
    """E max = integral of x K phi(x) Phi(x)^(K - 1): .564 for two, 1.766 for sixteen; 5 standard errors."""
    rows = 4000
    of, params = BestOf(Drawn(), Slope(), count, "min"), {"actor": {}, "critic": {}}
    obs, z = jnp.zeros((rows, 3)), jnp.zeros(rows, jnp.int32)
    found = np.asarray(jax.jit(of.choose)(params, NONE, jax.random.key(1), obs, z), np.float64)
    expected = integrate.quad(
        lambda x: x * count * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1), -10, 10
    )[0]
    assert abs(found[:, 0].mean() - expected) < 5 * found[:, 0].std() / np.sqrt(rows)
    assert abs(found[:, 1].mean()) < 5 * found[:, 1].std() / np.sqrt(rows)  # nobody looks at these


@functools.cache
def state_of(**changes):
    """(learner, first state, with an actor that corrects something)."""
    made = _probed.build(plugin("learner", "q_chunk", **{**FIELDS, **changes}), RESIDUAL, Q)
    hp = jax.tree.map(lambda x: x[0], _probed.hparams("q_chunk", 1, {}))
    state = jax.jit(lambda key: made.init(key, hp, _probed.cloned(), ()))(jax.random.key(0))
    rng = np.random.default_rng(1)
    moved = jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, np.float32), state.params["actor"])
    return made, state.replace(params={**state.params, "actor": moved})


def drawn_batch():
    """32 decisions in the middle of an episode; what nobody here looks at is None."""
    rng = np.random.default_rng(2)
    obs, action = (jnp.asarray(rng.uniform(-1, 1, (32, n)), jnp.float32) for n in (3, 1))
    given = {"obs": obs, "z": jnp.arange(32, dtype=jnp.int32) % 2, "time": jnp.full(32, 0.5)}
    rest = dict.fromkeys(field.name for field in dataclasses.fields(Transitions))
    return Transitions(**{**rest, **given, "info": {"action": action}})


def candidates(made, state, key, obs, z, count):
    """[K, B, W] chunks, [K, N, B] values of the critic, which is not told the time."""
    zero = jnp.zeros(z.shape)
    chunks, values = [], []
    for each in jax.random.split(key, count):
        chunk = made.actor.paired(state.params["actor"], NONE, each, obs, z)[0]
        chunks.append(np.asarray(chunk))
        values.append(np.asarray(made.update.critic.apply(state.params["critic"], obs, chunk, z, zero)))
    return np.stack(chunks), np.stack(values)


def test_the_target_is_the_target_critics_value_of_what_the_critic_prefers():
    count, key = 5, jax.random.key(4)
    made, state = state_of(best_of=count)
    batch = drawn_batch()
    trained = Trained(state.params, state.opt_state, jax.tree.map(lambda x: 0.7 * x, state.ema["critic"]))
    found, cost = made.update.ahead(trained, batch, NONE, state.hparams, key)
    chunks, values = candidates(made, state, jax.random.clone(key), batch.obs, batch.z, count)
    chosen = chunks[values.min(1).argmax(0), np.arange(32)]
    expected = made.update.critic.apply(trained.target, batch.obs, chosen, batch.z, jnp.zeros(32))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(cost, 0.0)
    first = made.update.critic.apply(trained.target, batch.obs, chunks[0], batch.z, jnp.zeros(32))
    assert not np.allclose(found, first, rtol=1e-3)


def test_what_is_chosen_is_what_is_played():
    """The evaluator's decision, by the parameters that a run hands it."""
    count, key = 5, jax.random.key(5)
    made, state = state_of(best_of=count)
    subject = made.subject(state, jax.random.key(6))
    obs, z = drawn_batch().obs, drawn_batch().z
    played = jax.jit(act_with_actor(made.player))(subject, key, obs, z)
    key_choice, _ = jax.random.split(jax.random.clone(key))
    chunks, values = candidates(made, state, key_choice, obs, z, count)
    chosen = chunks[values.min(1).argmax(0), np.arange(32)]
    np.testing.assert_allclose(played.reshape(32, -1), chosen, rtol=1e-5, atol=1e-6)
    without = act_with_actor(made.player, deterministic=True)(subject, key, obs, z)
    likeliest = made.actor.likeliest(state.params["actor"], NONE, jax.random.clone(key), obs, z)
    np.testing.assert_array_equal(without, likeliest)


def test_of_one_chunk_nothing_is_chosen():
    """The actor's own draw, bit for bit, with the actor's own parameters, and the critic sees the time."""
    made, state = state_of(best_of=1)
    obs, z, key = jnp.zeros((8, 3)), jnp.zeros(8, jnp.int32), jax.random.key(7)
    drawn = made.update.drawn(state.params, NONE, key, obs, z)
    own = made.actor.paired(state.params["actor"], NONE, jax.random.clone(key), obs, z)[0]
    np.testing.assert_array_equal(drawn, own)
    assert made.player is made.actor
    subject = made.subject(state, jax.random.key(8))
    assert jax.tree.structure(subject.actor) == jax.tree.structure(state.params["actor"])
    batch = drawn_batch()
    told = made.update.q(state.params["critic"], batch, batch.info["action"])
    blind = dataclasses.replace(made.update, timeless=True)
    assert not np.allclose(told, blind.q(state.params["critic"], batch, batch.info["action"]), atol=1e-4)


def test_a_head_is_taken_away_inside_the_choice():
    made, _ = state_of(best_of=5)
    assert made.player.has_head
    assert not made.player.headless().has_head
    assert made.player.headless().count == 5


@pytest.mark.parametrize(("count", "last"), [(4, 2.0), (1, 1.0)])
def test_a_critic_without_the_time_does_not_stop_at_the_time_limit(count, last):
    """1 a step without an end, gamma .5, every value ahead 2: r + gamma 2 = 2, at the limit too where nobody sees it.

    A critic that is told the time knows that after the fourth step nothing comes: 1.
    """
    made, state = state_of(best_of=count, gamma=0.5, num_envs=4, decisions=4)
    update = made.update

    class Two(type(update)):
        def q(self, params, batch, action):
            return jnp.full((2, *batch.z.shape), 2.0)

    two = Two(**{field.name: getattr(update, field.name) for field in dataclasses.fields(update)})
    loop = _probed.start(
        made, state.hparams, probe(constant=1.0, steps=NEVER), jax.random.key(9), _probed.cloned()
    ).env_state["loop"]
    params, keys = (
        made.acts_with(state.params, state.params["actor"]),
        jax.random.split(jax.random.key(10), 3),
    )
    with jax.debug_key_reuse(False):  # environments reset by a vmapped split
        seen = made.collector.collect(
            loop, params, NONE, state.stats["normalizer"], keys[0], LENGTH, jnp.asarray(LENGTH, jnp.int32)
        )[1]
    trained = Trained(state.params, state.opt_state, state.ema["critic"])
    found = [
        two._target(trained, jax.tree.map(operator.itemgetter(t), seen), NONE, state.hparams, *pair)
        for t, pair in enumerate(jax.random.split(keys[1], (LENGTH, 2)))
    ]
    np.testing.assert_allclose(found, np.repeat([[2.0], [2.0], [2.0], [last]], 4, axis=1), rtol=1e-6)
