"""SAC on the probe environments, and what its buffer does inside a training step.

Values are those of the probes, since the temperature is held at 1e-4: entropy adds less than 0.01 to them.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.commanding import HasCommandValues
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Variables
from tests.learners import _probed
from tests.learners._cloned import arrays, same
from tests.learners._probed import GAMMA
from tests.toys.gaussian_flow import GaussianFlow
from tests.toys.probes import LENGTH, NEVER, Remote, probe

ITERATIONS = 150
PROBES = {
    "constant": probe(constant=1.0),
    "observed": probe(observed=1.0),
    "delayed": probe(delayed=1.0, steps=2.0),
    "endless": probe(constant=1.0, steps=NEVER),
    "aimed": probe(aimed=1.0, target=0.5),
    "sloped": probe(aimed=1.0, slope=0.5),
    "modes": probe(),
    "frozen": probe(aimed=1.0, target=0.5),
}
NAMES = ["aimed", "sloped", "modes", "frozen"]
VALUED = ["constant", "observed", "delayed", "endless"]
Q = plugin("discriminator", "categorical", input="state", hidden=(16,), noise=0.2)
SIZES = {"num_envs": 16, "decisions": 4, "updates": 16, "batch_size": 128, "capacity": 2048, "warmup": 128}
CFG = plugin("learner", "sac", **SIZES, gamma=GAMMA, critic_hidden=(32,), critic_octaves=0)
STEER = plugin("actor", "steer", hidden=(16,), fourier_octaves=0, init_std=0.7, box=2.0)
LEARNER = _probed.build(CFG, STEER, Q)
ALONE = _probed.build(CFG, plugin("actor", "gaussian", hidden=(16,), squash=True), Q, env=Remote(), modes=1)


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    """JAX takes a scan over keys under vmap for a reuse; test_start.py checks single runs instead."""
    with jax.debug_key_reuse(False):
        yield


def make_hparams(names=NAMES):
    quick = {"learning_rate": 3e-3, "critic_learning_rate": 3e-3, "discriminator_learning_rate": 3e-3}
    fixed = {"temperature": 1e-4, "temperature_learning_rate": 0.0, "tau": 0.05}
    stage = {
        "iterations": ITERATIONS,
        "mi_coef": [float(name in ("modes", "frozen")) for name in names],
        "train_reward": [float(name != "frozen") for name in names],
    }
    return _probed.hparams("sac", len(names), stage, **quick, **fixed)


def train(learner, names, parent):
    """([R] first states, states after all iterations, metrics [R, iterations])."""
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *(PROBES[name] for name in names))

    def run(hp, probe):
        state = _probed.start(learner, hp, probe, jax.random.key(0), parent)
        end, metrics = jax.lax.scan(lambda s, _: learner.train_step(s, ()), state, None, ITERATIONS)
        return state, end, metrics

    return jax.jit(jax.vmap(run))(make_hparams(names), stacked)


@pytest.fixture(scope="module")
def learned():
    return train(LEARNER, NAMES, _probed.cloned())


def run_of(tree, name):
    place = (NAMES if name in NAMES else VALUED).index(name)
    return jax.tree.map(lambda x: x[place], tree)


@pytest.fixture(scope="module")
def visited():
    """[R, T, B] (transitions of 8 more decisions of the trained actors, smaller head of Q of each)."""

    def play(state):
        stats, params = state.stats, state.params
        key, loop, horizon = jax.random.key(3), state.env_state["loop"], jnp.asarray(LENGTH, jnp.int32)
        reference, scale = stats["reference"], stats["normalizer"]
        _, rows = LEARNER.collector.collect(loop, params["actor"], reference, scale, key, 8, horizon)
        q = LEARNER.update.critic.apply(params["critic"], rows.obs, rows.info["action"], rows.z, rows.time)
        return rows, q.min(0)

    return jax.jit(jax.vmap(play))(train(LEARNER, VALUED, _probed.cloned())[1])


@pytest.mark.slow
def test_values_of_what_is_visited(visited):
    """As of PPO: 1; x; gamma, then 1; of 1 in every step of the full horizon (1 - gamma^left) / (1 - gamma)."""
    for name, expected in (
        ("constant", lambda x, step: 1.0),
        ("observed", lambda x, step: x),
        ("delayed", lambda x, step: np.where(step == 0, GAMMA, 1.0)),
        ("endless", lambda x, step: (1 - GAMMA ** (LENGTH - step)) / (1 - GAMMA)),
    ):
        rows, q = run_of(visited, name)
        x, step = np.asarray(rows.obs[..., 0]), np.round(np.asarray(rows.time) * LENGTH)
        assert set(np.unique(x)) == {-1.0, 1.0}
        np.testing.assert_allclose(q, expected(x, step) * np.ones_like(x), atol=0.1, err_msg=name)


def action(learner, params, x, z, normalizer, scale=1.0, shift=0.0):
    """Mean of 500 actions at the start of an episode, clipped as the environment does."""
    raw = jnp.broadcast_to(shift + scale * jnp.array([x, 0.0, 0.0]), (500, 3))
    obs = normalizer.normalize_obs(raw)
    chunk, _ = learner.actor.act(params, Variables({}), jax.random.key(9), obs, jnp.full(500, z))
    return float(jnp.clip(chunk, -1, 1).mean())


@pytest.mark.slow
@pytest.mark.parametrize("z", [0, 1])
@pytest.mark.parametrize("x", [-1.0, 1.0])
def test_action_moves_to_where_the_reward_is(learned, x, z):
    for name, expected in (("aimed", 0.5), ("sloped", 0.5 * x)):
        params = run_of(learned[1].params["actor"], name)
        assert action(LEARNER, params, x, z, _probed.IDENTITY) == pytest.approx(expected, abs=0.15)


@pytest.mark.slow
def test_mutual_information_drives_the_modes_apart(learned):
    assert run_of(learned[2], "modes")["mode/mi"][-1] > 0.8 * math.log(2)
    params = run_of(learned[1].params["actor"], "modes")
    for x in (-1.0, 1.0):
        apart = [action(LEARNER, params, x, z, _probed.IDENTITY) for z in (0, 1)]
        assert abs(apart[0] - apart[1]) > 1.0


@pytest.mark.slow
def test_a_frozen_q_stays_bit_for_bit(learned):
    before, after, _ = learned
    assert same(run_of(before.params["reward"], "frozen"), run_of(after.params["reward"], "frozen"))
    assert not same(run_of(before.params["reward"], "modes"), run_of(after.params["reward"], "modes"))


@pytest.mark.slow
def test_the_temperature_that_does_not_learn_stays(learned):
    np.testing.assert_allclose(np.exp(learned[1].params["temperature"]), 1e-4, rtol=1e-4)


@pytest.mark.slow
def test_without_a_clone_in_units_of_its_own():
    """A Gaussian on the chunk, observations of 500 + 1000 o, and a normaliser learned on the way."""
    names = ["sloped", "endless"]
    _, state, _ = train(ALONE, names, None)
    for x in (-1.0, 1.0):
        run = jax.tree.map(lambda leaf: leaf[0], state)
        scale = run.stats["normalizer"]
        found = action(ALONE, run.params["actor"], x, 0, scale, scale=1000.0, shift=500.0)
        assert found == pytest.approx(0.5 * x, abs=0.15)
    run = jax.tree.map(lambda leaf: leaf[1], state)
    obs = run.stats["normalizer"].normalize_obs(500.0 + 1000.0 * jnp.array([[1.0, 0.0, 0.0]]))
    zero = jnp.zeros(1, jnp.int32)
    q = ALONE.update.critic.apply(run.params["critic"], obs, jnp.zeros((1, 1)), zero, jnp.zeros(1))
    np.testing.assert_allclose(q, 2.0, atol=0.15)


# What happens inside one step.

TINY = {"num_envs": 2, "decisions": 2, "updates": 8, "batch_size": 4, "capacity": 10, "warmup": 8}


@functools.cache
def tiny(runs=0, **changes):
    """(learner, states before and after each of 4 iterations); with `runs` a leading axis of keys 0, 1, ..."""
    cfg = plugin("learner", "sac", **{**TINY, **changes}, gamma=GAMMA, critic_hidden=(4,), critic_octaves=0)
    learner = _probed.build(cfg, STEER, Q)
    hp = jax.tree.map(lambda x: x[0], _probed.hparams("sac", 1, {"mi_coef": 1.0}))

    def init(key):
        return _probed.start(learner, hp, probe(aimed=1.0, steps=3.0), key, _probed.cloned())

    init, step = jax.jit(init), lambda s: learner.train_step(s, ())[0]
    states = [jax.vmap(init)(jax.vmap(jax.random.key)(jnp.arange(runs))) if runs else init(jax.random.key(0))]
    step = jax.jit(jax.vmap(step) if runs else step)
    for _ in range(4):
        states.append(step(states[-1]))
    return learner, states, step


@pytest.mark.slow
def test_the_buffer_wraps_around():
    """4 rows in each iteration into 10: after 4 of them rows 7 .. 16 are left, the oldest in slot 6."""
    learner, states, _ = tiny()
    visited = []
    for state in states[:-1]:
        key = jax.random.split(state.key, 4)[1]
        loop, scale = state.env_state["loop"], state.stats["normalizer"]
        horizon = jnp.asarray(LENGTH, jnp.int32)
        collect = functools.partial(jax.jit(learner.collector.collect, static_argnums=5))
        rows = collect(loop, state.params["actor"], state.stats["reference"], scale, key, 2, horizon)[1]
        visited.append(jax.tree.map(lambda x: x.reshape(4, *x.shape[2:]), rows))
    every = jax.tree.map(lambda *x: np.concatenate(x), *visited)
    buffer = states[-1].env_state["buffer"]
    assert [int(s.env_state["buffer"].filled) for s in states] == [0, 4, 8, 10, 10]
    assert int(buffer.cursor) == 16 % 10
    for slot in range(10):
        row = slot + 10 if slot < 6 else slot
        for held, seen in zip(jax.tree.leaves(buffer.storage), jax.tree.leaves(every), strict=True):
            np.testing.assert_allclose(held[slot], seen[row], rtol=1e-5, atol=1e-6)


def test_nothing_learns_before_the_warm_up():
    """The second iteration fills 8 rows and takes the first 8 gradient steps: 2 for each of its 4 decisions."""
    _, states, _ = tiny()
    for part in ("params", "opt_state", "ema"):
        assert same(getattr(states[1], part), getattr(states[0], part))
        assert not same(getattr(states[2], part), getattr(states[1], part))
    counts = [jax.tree.leaves(s.opt_state["critic"].inner_state)[0] for s in states]
    counts = [int(count) for count in counts]
    assert counts == [0, 0, 8, 16, 24]


@pytest.mark.slow
def test_runs_side_by_side_are_single_runs():
    _, states, _ = tiny(runs=2)
    _, single, _ = tiny()
    for both, one in zip(arrays(states[-1]), arrays(single[-1]), strict=True):
        np.testing.assert_allclose(both[0], one, rtol=2e-3, atol=2e-4)
    assert not same(*(jax.tree.map(lambda x, i=i: x[i], states[-1].params) for i in (0, 1)))


def test_resuming_in_the_middle_is_exact():
    _, states, step = tiny()

    def through_the_host(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(np.array(jax.random.key_data(x)))
        return jnp.asarray(np.array(x))

    restored = jax.tree.map(through_the_host, states[2])
    assert same(step(step(restored)), states[-1])


@pytest.mark.slow
def test_a_scan_of_steps_is_the_steps():
    learner, states, _ = tiny()
    scanned = jax.jit(
        lambda s: jax.lax.scan(lambda s, _: (learner.train_step(s, ())[0], None), s, None, 2)[0]
    )
    for found, expected in zip(arrays(scanned(states[2])), arrays(states[-1]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_declarations():
    learner, states, _ = tiny()
    assert learner.env_steps == 4
    assert set(states[0].env_state) == {"loop", "buffer"}
    _, metrics = jax.eval_shape(learner.train_step, states[-1], ())
    assert set(learner.logs) <= set(metrics)
    assert all("/" in name and value.shape == () for name, value in metrics.items())
    subject = learner.subject(states[-1], jax.random.key(1))
    assert subject.actor is states[-1].params["actor"]
    assert subject.reward is states[-1].params["reward"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_envs", 0),
        ("updates", 0),
        ("capacity", 100),
        ("warmup", 70_000),
        ("temperature", 0.0),
        ("temperature_learning_rate", -1.0),
        ("tau", 1.5),
        ("reduce", "max"),
        ("gamma", 0.0),
        ("heads", 0),
    ],
)
def test_config_is_checked(field, value):
    options = registry.find("learner", "sac").options
    cfg = plugin("learner", "sac")
    options.from_config(cfg, "learner")
    cfg[field] = value
    with pytest.raises(ConfigError) as info:
        options.from_config(cfg, "learner")
    assert info.value.field == f"learner.{field}"


def test_needs_an_actor_that_can_be_differentiated():
    class Scored:
        num_modes = 1

    parts = _probed.parts(STEER, Q)
    with pytest.raises(ConfigError) as info:
        registry.build("learner", CFG, type(parts)(**{**vars(parts), "actor": Scored()}))
    assert info.value.field == "actor.name"


def test_values_of_commands_are_the_smaller_head_at_a_drawn_action():
    """Those of fresh parameters, at the beginning of an episode."""
    state = _probed.start(
        LEARNER, run_of(make_hparams(), "modes"), PROBES["modes"], jax.random.key(0), _probed.cloned()
    )
    obs, z, key = jnp.linspace(-1, 1, 6)[:, None] * jnp.ones((1, LEARNER.spec.obs_dim)), jnp.arange(6) % 2, 8
    found = LEARNER.command_value(state, jax.random.key(key), obs, z)
    reference = state.stats["reference"]
    action, _ = LEARNER.actor.sample(state.params["actor"], reference, jax.random.key(key), obs, z)
    heads = LEARNER.update.critic.apply(state.params["critic"], obs, action, z, jnp.zeros(6))
    np.testing.assert_allclose(found, np.asarray(heads).min(0), rtol=1e-6)
    assert isinstance(LEARNER, HasCommandValues)


BOXED = {"residual": {"scale": 0.1}, "steer": {"box": 3.0, "init_std": 0.7}}


@functools.cache
def tempered(name):
    """(learner, last state, last metrics) with a tuned temperature, paid for actions far up."""
    cfg = plugin("actor", name, hidden=(16,), fourier_octaves=0, **BOXED[name])
    learner = _probed.build(CFG, cfg, Q, policy=GaussianFlow)
    quick = {"learning_rate": 3e-3, "critic_learning_rate": 3e-3, "tau": 0.05, "target_entropy": -1.0}
    hp = _probed.hparams("sac", 1, {"iterations": ITERATIONS}, **quick, temperature_learning_rate=3e-3)

    def run(hp):
        parent = _probed.cloned(GaussianFlow(_probed.SPEC).variables().params)
        state = _probed.start(learner, hp, probe(aimed=1.0, target=5.0), jax.random.key(0), parent)
        return jax.lax.scan(lambda s, _: learner.train_step(s, ()), state, None, ITERATIONS)

    end, metrics = jax.jit(run)(jax.tree.map(lambda x: x[0], hp))
    return learner, end, jax.tree.map(lambda x: float(x[-1]), metrics)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "steer"])
def test_a_target_entropy_can_be_kept_in_a_box_of_any_size(name):
    """-1 nat is below log 2 of a unit box. Stated of w itself, log .2 = -1.6 is the most that a box of .1 has: the
    temperature then grew without end, and the correction became noise about 0 whatever was paid for.
    """
    learner, end, metrics = tempered(name)
    assert metrics["sac/entropy"] == pytest.approx(-1.0, abs=0.3)
    obs, z = jnp.array([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), jnp.zeros(2, jnp.int32)
    reference = GaussianFlow(_probed.SPEC).variables()
    if name == "residual":
        chunk, base = learner.actor.paired(end.params["actor"], reference, jax.random.key(9), obs, z)
        moved = chunk - base
    else:
        moved = learner.actor.likeliest(end.params["actor"], reference, jax.random.key(9), obs, z) / 0.5
    assert float(moved.min()) > 0.5 * learner.actor.box


def test_an_entropy_that_no_box_has_room_for_is_refused():
    cfg = plugin("learner", "sac", **{**CFG.to_dict(), "target_entropy": 0.7})
    with pytest.raises(ConfigError, match="learner.target_entropy.*log 2"):
        _probed.build(cfg, STEER, Q)
