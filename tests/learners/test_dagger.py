"""DAgger: what the expert is asked, what is kept of it, and what it is worth where cloning drifts."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Parts
from mmbc_jax.core.types import Batch, EnvSpec, Loss, PolicySpec, State, Variables
from mmbc_jax.data.collect import record
from mmbc_jax.data.windows import Windows, make_windows
from mmbc_jax.learners._relabel import Aggregate, Relabeller
from mmbc_jax.ops.normalisation import Normalizer, fit
from tests.learners._cloned import same, scalars
from tests.toys.probes import IdentityPolicy

UNIT = Normalizer(-jnp.ones(2), jnp.ones(2), -jnp.ones(2), jnp.ones(2))
H, EXECUTE, EPISODES, DECISIONS = 5, 4, 6, 25  # of tracked paths with 100 steps


class Steady(IdentityPolicy):
    """Every action of the chunk is `params`, whatever is observed."""

    def transport(self, variables, obs, w):
        return jnp.broadcast_to(variables.params, w.shape)


@functools.cache
def environment(name, **fields):
    return registry.build("env", plugin("env", name, **fields))


@functools.cache
def play(env):
    """Six episodes in which the clone always does the same, compiled."""
    own = Relabeller(env, Steady(PolicySpec(2, 2, H)), EPISODES, EXECUTE)
    return jax.jit(lambda action, beta, key: own.play(Variables(action), UNIT, beta, key))


def played(env, action, beta):
    """The windows of six episodes and which are valid, [T, E, ...], and the metrics."""
    with jax.debug_key_reuse(False):
        windows, valid, metrics = jax.device_get(play(env)(jnp.asarray(action), beta, jax.random.key(0)))
    shaped = jax.tree.map(lambda x: x.reshape(DECISIONS, EPISODES, *x.shape[1:]), (windows, valid))
    return *shaped, metrics


@functools.cache
def mean_paths(env):
    return np.asarray(env.mean_paths(env.default_params()), np.float64)


def expected_label(env, mode, position, t):
    """The expert of `_tracking` in numpy: H actions from `position` [2] at step t; the last step's is 0."""
    mean = mean_paths(env)[mode]
    chunk = np.zeros((H, 2))
    for h in range(H):
        now = t + h
        if now < 99:
            chunk[h] = np.clip((mean[now + 1] - mean[now] + 0.3 * (mean[now] - position)) / env.scale, -1, 1)
        position = np.clip(position + env.scale * chunk[h], 0, 1)
    return chunk


def test_labels_are_what_the_expert_does_in_a_plain_loop():
    """100 steps are 25 decisions of 4; the fifth action of the last chunk lies beyond the end."""
    env = environment("smooth_path")
    windows, valid, metrics = played(env, (0.2, 0.1), 0.0)
    deviation = []
    for episode in range(EPISODES):
        position = windows.obs[0, episode].astype(np.float64)
        for decision in range(DECISIONS):
            np.testing.assert_allclose(windows.obs[decision, episode], position, atol=1e-5)
            label = expected_label(env, 0, position, 4 * decision)
            np.testing.assert_allclose(windows.chunk[decision, episode], label, atol=1e-4)
            deviation.append(np.linalg.norm(position - mean_paths(env)[0, 4 * decision]))
            for _ in range(EXECUTE):
                position = np.clip(position + env.scale * np.array([0.2, 0.1]), 0, 1)
    assert valid.all()
    assert (windows.mask[:-1] == 1).all()
    np.testing.assert_array_equal(windows.mask[-1], np.tile([1, 1, 1, 1, 0], (EPISODES, 1)))
    assert metrics["dagger/deviation"] == pytest.approx(np.mean(deviation), rel=1e-3)
    assert metrics["dagger/success_rate"] == 0.0


def test_labels_are_windows_of_demonstrations_where_the_expert_decides():
    """beta = 1. Without noise .7^40 = 6e-7 of the start is left at step 40: from there episodes are the same."""
    env = environment("smooth_path")
    windows, _, metrics = played(env, (0.2, 0.1), 1.0)
    data = record(env, jax.random.key(3), 1, 0.0)
    shown = make_windows(data, fit(data.obs, data.action, env.spec.action_low, env.spec.action_high), H)
    for decision in range(10, DECISIONS):
        np.testing.assert_allclose(windows.chunk[decision, 0], shown.chunk[4 * decision], atol=1e-4)
        np.testing.assert_array_equal(windows.mask[decision, 0], shown.mask[4 * decision])
    assert metrics["dagger/success_rate"] == 1.0


def test_beta_is_the_share_of_the_experts_decisions():
    """6 x 24 decisions with a visible outcome at beta .3: binomial, 5 sigma = 5 sqrt(.3 .7 / 144) = .19."""
    env = environment("smooth_path")
    windows, _, _ = played(env, (0.0, 0.0), 0.3)  # the clone stands still, the expert does not
    stood = (np.abs(np.diff(windows.obs, axis=0)).max(-1) < 1e-7).mean()
    assert abs(1 - stood - 0.3) < 0.19


def test_the_mode_that_an_episode_pursues_is_labelled():
    """Going up is mode 1. Only at the first decision, which nothing precedes, is either mode asked for."""
    env = environment("high_low", start_std=0.001)
    windows, _, _ = played(env, (0.83, 0.5), 0.0)
    asked = np.zeros((DECISIONS, EPISODES, 2), bool)
    for decision in range(DECISIONS - 1):
        for episode in range(EPISODES):
            for mode in (0, 1):
                label = expected_label(env, mode, windows.obs[decision, episode], 4 * decision)
                asked[decision, episode, mode] = np.allclose(
                    windows.chunk[decision, episode], label, atol=1e-3
                )
    assert asked[0].sum(-1).tolist() == [1] * EPISODES
    assert asked[0, :, 0].any()
    assert asked[0, :, 1].any()
    assert asked[1:-1, :, 1].all()
    assert not asked[1:13, :, 0].any()  # from step 52 on the point is above both: two times the full way down


# What is kept.


def numbered(first, count):
    """Windows whose numbers say which they are."""
    ids = jnp.arange(first, first + count, dtype=jnp.float32)
    return Batch(ids[:, None], jnp.tile(ids[:, None, None], (1, 2, 1)), jnp.tile(ids[:, None], (1, 2)))


def test_only_valid_windows_are_kept_in_order():
    kept = Aggregate.empty(8, PolicySpec(1, 1, 2))
    kept = kept.add(numbered(10, 4), jnp.array([True, False, True, False]))
    assert (int(kept.count), kept.windows.obs[:2, 0].tolist()) == (2, [10, 12])
    kept = kept.add(numbered(20, 4), jnp.array([False, True, True, True]))
    assert (int(kept.count), kept.windows.obs[:5, 0].tolist()) == (5, [10, 12, 21, 22, 23])
    assert kept.windows.mask[:5, 1].tolist() == kept.windows.chunk[:5, 1, 0].tolist() == [10, 12, 21, 22, 23]


def test_batches_are_drawn_uniformly_from_the_union():
    """20000 draws from 3 + 2 windows: each 4000, 5 sigma = 5 sqrt(20000 .2 .8) = 283; nothing else."""
    shown, zeros = numbered(0, 3), jnp.zeros(3, jnp.int32)
    windows = Windows(shown.obs, shown.chunk, shown.mask, zeros, zeros, zeros)
    kept = Aggregate.empty(8, PolicySpec(1, 1, 2)).add(numbered(10, 4), jnp.array([True, True, False, False]))
    batch = kept.sample(jax.random.key(0), windows, 20000)
    found, counts = np.unique(np.asarray(batch.obs), return_counts=True)
    assert found.tolist() == [0, 1, 2, 10, 11]
    assert np.abs(counts - 4000).max() < 283
    np.testing.assert_array_equal(batch.chunk[:, 1, 0], batch.obs[:, 0])
    np.testing.assert_array_equal(batch.mask[:, 0], batch.obs[:, 0])


# An unstable system, x' = 1.5 (x + a), whose expert a = -x is at 0 after one step. Demonstrations say nothing
# about the steps after the first, where a linear policy per step keeps the gain 0 that it started with.
GROWTH, STEPS, LIMIT = 1.5, 12, 2.0
ROUNDS = {"rounds": 3, "episodes": 16, "steps_per_round": 150, "beta": 0.0}
UNIT_1 = Normalizer(-jnp.ones(2), jnp.ones(2), -jnp.ones(1), jnp.ones(1))


class Unstable:
    """x_0 ~ U(-.5, .5); obs (x, phase in [-1, 1]); ends after 12 steps, or beyond |x| = 2."""

    spec = EnvSpec("unstable", 2, 1, STEPS, 1, (-1.0,), (1.0,))

    def default_params(self):
        return {}

    def reset(self, key, params=None):
        return self._state(jax.random.uniform(key, (), minval=-0.5, maxval=0.5), jnp.zeros((), jnp.int32))

    def step(self, state, action):
        x = GROWTH * (state.data["x"] + jnp.clip(action[0], -1.0, 1.0))
        return self._state(x, state.data["step"] + 1)

    def expert(self, state, mode, key):
        return jnp.clip(-state.data["x"], -1.0, 1.0)[None]

    def _state(self, x, step):
        over = (step >= STEPS) | (jnp.abs(x) > LIMIT)
        return State(
            data={"x": x, "step": step},
            obs=jnp.stack([x, 2.0 * step / (STEPS - 1) - 1.0]),
            reward=jnp.zeros(()),
            done=over.astype(jnp.float32),
            metrics={"success": (step >= STEPS).astype(jnp.float32)},
            info={"mode": jnp.zeros((), jnp.int32), "params": {}},
        )


class Gains(IdentityPolicy):
    """a = gain[t] x + bias[t], t read from the phase."""

    def init(self, key, sample_batch):
        return Variables({"gain": jnp.zeros(STEPS), "bias": jnp.zeros(STEPS)})

    def transport(self, variables, obs, w):
        t = jnp.round((obs[..., 1] + 1.0) / 2.0 * (STEPS - 1)).astype(jnp.int32)
        action = variables.params["gain"][t] * obs[..., 0] + variables.params["bias"][t]
        return action[..., None, None]

    def loss(self, variables, key, batch, hp):
        error = jnp.square(self.transport(variables, batch.obs, None) - batch.chunk).sum((1, 2))
        return Loss(error, jnp.zeros(()), {}, variables.stats)


def final_error(params, start):
    """[n] |x_12| in numpy, without the limit."""
    x = np.asarray(start, np.float64)
    for t in range(STEPS):
        x = GROWTH * (x + np.clip(params["gain"][t] * x + params["bias"][t], -1, 1))
    return np.abs(x)


@functools.cache
def unstable_run():
    """(clone, states after every round, metrics of every round)."""
    env, policy = Unstable(), Gains(PolicySpec(2, 1, 1))
    cloning = {"steps": 40, "batch_size": 128, "learning_rate": 0.05, "warmup_steps": 0}
    cloning = plugin("learner", "bc", **cloning, weight_decay=0.0, ema_decay=0.9, clip_norm=100.0)
    options = registry.find("learner", "bc").options.from_config(cloning, "bc")
    parts = Parts(policy.spec, 1, policy=policy, env=env, cloning=options)
    clone = registry.build("learner", cloning, parts)
    own = registry.build("learner", plugin("learner", "dagger", **ROUNDS), parts)
    data = record(env, jax.random.key(1), 32, 0.0)
    shared = make_windows(data, UNIT_1, 1), UNIT_1
    hp = {f"bc.{name}": jnp.asarray(float(cloning[name])) for name in options.traced()}
    hp |= scalars("learner", "dagger", "learner")
    state = clone.init(jax.random.key(0), hp, None, shared)
    with jax.debug_key_reuse(False):
        step = jax.jit(clone.train_step)
        for _ in range(cloning.steps):
            state, _ = step(state, shared)
        states = [own.init(jax.random.key(5), hp, state, shared)]
        before, logged, step = jax.tree.map(np.asarray, state.ema), [], jax.jit(own.train_step)
        for _ in range(ROUNDS["rounds"]):
            state, metrics = step(states[-1], shared)
            states.append(state)
            logged.append({name: float(x) for name, x in metrics.items()})
    assert own.env_steps == 16 * STEPS * 2  # one played and one looked ahead at each decision
    return before, states, logged


def test_dagger_cures_the_drift_of_a_clone():
    """The clone's |x_12| is 1.5^11 = 86 times its |x_1|, whatever was demonstrated; an expert's is 0."""
    clone, states, _ = unstable_run()
    start = np.linspace(-0.05, 0.05, 20)
    np.testing.assert_array_equal(clone["gain"][1:], 0.0)
    np.testing.assert_allclose(
        final_error(clone, start),
        1.5**11 * 1.5 * np.abs((1 + clone["gain"][0]) * start + clone["bias"][0]),
        rtol=1e-2,
    )
    after = final_error(jax.tree.map(np.asarray, states[-1].ema), start)
    assert after.mean() < 0.05 * final_error(clone, start).mean()
    assert (GROWTH * np.abs(1 + states[-1].ema["gain"]) < 1).all()  # stable at every step


def test_what_a_round_counts():
    """The clone's first episodes run past the limit: what they visited by then is kept, and no more."""
    _, states, logged = unstable_run()
    counts = [int(state.env_state.count) for state in states]
    assert counts == [0, *(int(row["dagger/aggregated"]) for row in logged)]
    assert counts[1] < 16 * STEPS
    assert counts[-1] - counts[-2] == 16 * STEPS
    assert logged[0]["dagger/success_rate"] < 1.0 == logged[-1]["dagger/success_rate"]
    first, kept = counts[1], states[1].env_state.windows
    assert (np.abs(kept.obs[:first, 0]) <= LIMIT).all()
    np.testing.assert_allclose(kept.chunk[:first, 0, 0], -np.clip(kept.obs[:first, 0], -1, 1), atol=1e-6)
    assert (kept.mask[:first] == 1).all()
    assert [int(state.step) for state in states] == [0, 1, 2, 3]
    assert all(row["train/skipped_updates"] == 0 for row in logged)


def test_a_stage_starts_from_the_clone_with_a_fresh_optimiser():
    clone, states, _ = unstable_run()
    assert same(states[0].ema, jax.tree.map(jnp.asarray, clone))
    assert not same(states[0].params, states[0].ema)
    assert all(not leaf.any() for leaf in jax.tree.leaves(states[0].opt_state) if leaf.ndim)


def test_what_it_needs():
    """A clone to start from, an environment, and the options of cloning."""
    env, policy = Unstable(), Gains(PolicySpec(2, 1, 1))
    options = registry.find("learner", "bc").options()
    whole = {"policy": policy, "env": env, "cloning": options}
    for missing, field in (("policy", "policy.name"), ("env", "env.name"), ("cloning", "bc")):
        given = {name: part for name, part in whole.items() if name != missing}
        with pytest.raises(ConfigError) as info:
            registry.build("learner", plugin("learner", "dagger"), Parts(policy.spec, 1, **given))
        assert info.value.field == field
    own = registry.build("learner", plugin("learner", "dagger"), Parts(policy.spec, 1, **whole))
    with pytest.raises(ConfigError) as info:
        own.init(jax.random.key(0), {}, None, ())
    assert info.value.field == "stages"


@pytest.mark.parametrize(
    ("field", "value"), [("rounds", 0), ("episodes", 0), ("steps_per_round", 0), ("beta", 1.5)]
)
def test_config_is_checked(field, value):
    cfg = plugin("learner", "dagger")
    cfg[field] = value
    with pytest.raises(ConfigError) as info:
        registry.find("learner", "dagger").options.from_config(cfg, "dagger")
    assert info.value.field == f"dagger.{field}"


def test_a_clone_with_another_scale_plays_and_is_shown_the_same():
    """-1 and 1 of the clone are a quarter of the box: its answers and its labels are four times as large."""
    env = environment("high_low", start_std=0.001)
    quarter = jnp.full(2, 0.25)
    narrow = UNIT._replace(action_low=-quarter, action_high=quarter, box=(-jnp.ones(2), jnp.ones(2)))
    own = Relabeller(env, Steady(PolicySpec(2, 2, H)), EPISODES, EXECUTE)
    with jax.debug_key_reuse(False):
        made = jax.jit(lambda action, scale: own.play(Variables(action), scale, 0.3, jax.random.key(0)))
        one, valid, metrics = jax.device_get(made(jnp.asarray((0.2, 0.1)), UNIT))
        four, also, same_metrics = jax.device_get(made(4.0 * jnp.asarray((0.2, 0.1)), narrow))
    np.testing.assert_allclose(four.obs, one.obs, atol=1e-6)
    np.testing.assert_allclose(four.chunk, 4.0 * one.chunk, atol=1e-4)
    np.testing.assert_array_equal(also, valid)
    np.testing.assert_allclose(same_metrics["dagger/deviation"], metrics["dagger/deviation"], rtol=1e-5)
