"""DAgger: what the expert is asked, what is kept of it, and what it is worth where cloning drifts."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import CheckpointError, ConfigError
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Batch, EnvSpec, Loss, PolicySpec, State, Variables
from mmbc_jax.data.collect import record
from mmbc_jax.data.windows import Windows, make_windows
from mmbc_jax.learners import bc, dagger
from mmbc_jax.ops.normalisation import Normalizer, fit
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs import stages as stages_lib
from mmbc_jax.runs.grid import parse_grid
from mmbc_jax.runs.restored import restore
from tests.toys.landscape import rows, toy_config, toy_pipeline, toy_run, unchecked
from tests.toys.probes import IdentityPolicy

from .test_checkpoint import raw
from .test_resume import Killed, assert_same, kill_in_save

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
    own = dagger.Relabeller(env, Steady(PolicySpec(2, 2, H)), EPISODES, EXECUTE)
    return jax.jit(lambda action, beta, key: own.play(Variables(action), UNIT, beta, key))


def played(env, action, beta):
    """The windows of six episodes and which are valid, [T, E, ...], and the metrics."""
    with unchecked():
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
    kept = dagger.Aggregate.empty(8, 1, (2, 1))
    kept = kept.add(numbered(10, 4), jnp.array([True, False, True, False]))
    assert (int(kept.count), kept.windows.obs[:2, 0].tolist()) == (2, [10, 12])
    kept = kept.add(numbered(20, 4), jnp.array([False, True, True, True]))
    assert (int(kept.count), kept.windows.obs[:5, 0].tolist()) == (5, [10, 12, 21, 22, 23])
    assert kept.windows.mask[:5, 1].tolist() == kept.windows.chunk[:5, 1, 0].tolist() == [10, 12, 21, 22, 23]


def test_batches_are_drawn_uniformly_from_the_union():
    """20000 draws from 3 + 2 windows: each 4000, 5 sigma = 5 sqrt(20000 .2 .8) = 283; nothing else."""
    shown, zeros = numbered(0, 3), jnp.zeros(3, jnp.int32)
    windows = Windows(shown.obs, shown.chunk, shown.mask, zeros, zeros, zeros)
    kept = dagger.Aggregate.empty(8, 1, (2, 1)).add(numbered(10, 4), jnp.array([True, True, False, False]))
    batch = kept.sample(jax.random.key(0), windows, 20000)
    found, counts = np.unique(np.asarray(batch.obs), return_counts=True)
    assert found.tolist() == [0, 1, 2, 10, 11]
    assert np.abs(counts - 4000).max() < 283
    np.testing.assert_array_equal(batch.chunk[:, 1, 0], batch.obs[:, 0])
    np.testing.assert_array_equal(batch.mask[:, 0], batch.obs[:, 0])


# An unstable system, x' = 1.5 (x + a), whose expert a = -x is at 0 after one step. Demonstrations say nothing
# about the steps after the first, where a linear policy per step keeps the gain 0 that it started with.
GROWTH, STEPS, LIMIT = 1.5, 12, 2.0


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


def settings():
    cfg = bc.default_config()
    cfg.update({"steps": 40, "batch_size": 128, "learning_rate": 0.05, "warmup_steps": 0})
    cfg.update({"weight_decay": 0.0, "ema_decay": 0.9, "clip_norm": 100.0})
    own = ConfigDict({"rounds": 3, "episodes": 16, "steps_per_round": 150, "beta": 0.0})
    return cfg, own


@functools.cache
def unstable_run():
    """(clone, states after every round, metrics of every round)."""
    env, (cfg, own) = Unstable(), settings()
    policy = Gains(PolicySpec(2, 1, 1))
    data = record(env, jax.random.key(1), 32, 0.0)
    normalizer = Normalizer(-jnp.ones(2), jnp.ones(2), -jnp.ones(1), jnp.ones(1))
    windows = make_windows(data, normalizer, 1)
    hp = {name: jnp.asarray(float(cfg[name.split(".")[1]])) for name in bc.TRACED} | {
        "dagger.beta": jnp.zeros(())
    }
    state = bc.init_state(policy, normalizer, jax.random.key(0), windows.batch(jnp.arange(4)), hp)
    with unchecked():
        step = jax.jit(bc.make_train_step(policy, cfg))
        for _ in range(cfg.steps):
            state, _ = step(state, windows)
        relabeller = dagger.Relabeller(env, policy, own.episodes, 1)
        states = [dagger.init_state(state, jax.random.key(5), relabeller, own, hp)]
        clone, logged, step = (
            jax.tree.map(np.asarray, state.ema),
            [],
            jax.jit(dagger.make_train_step(relabeller, cfg, own)),
        )
        for _ in range(own.rounds):
            state, metrics = step(states[-1], (windows, normalizer))
            states.append(state)
            logged.append({name: float(x) for name, x in metrics.items()})
    return clone, states, logged


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
    assert raw(states[0].ema) == raw(clone)
    assert raw(states[0].params) != raw(clone)
    assert all(not leaf.any() for leaf in jax.tree.leaves(states[0].opt_state) if leaf.ndim)


# As a stage of a run.


def config(**overrides):
    return toy_config(
        **{
            "stages": "bc,dagger",
            "dagger__rounds": 2,
            "dagger__episodes": 4,
            "dagger__steps_per_round": 3,
            **overrides,
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("dagger") / "run"
    return workdir, toy_run(workdir, config())


def test_the_stage_in_a_run(finished):
    """2 rounds x 4 episodes x 4 decisions x (4 played + 4 looked ahead) = 256 control steps, 32 windows."""
    workdir, results = finished
    own = [row for row in rows(workdir) if row["stage"] == "dagger" and "bc/loss" in row]
    assert [(row["step"], row["seed"]) for row in own] == [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert [row["dagger/aggregated"] for row in own] == [16, 16, 32, 32]
    facts = results["dagger"].facts
    assert (facts["env_steps"], facts["train_steps"], facts["train_compilations"]) == (256, 2, 1)
    for metrics in results["dagger"].metrics:
        assert 0.0 <= metrics["success_rate"] <= 1.0
        assert np.isfinite(metrics["offline/loss"])
    restored = restore(workdir, "dagger", [])
    assert restored.stage.name == "dagger"
    subject = restored.stage.subject(restored.state, jax.random.key(0))
    assert raw(subject.reference.params) == raw(restored.state.ema)
    with unchecked():
        again = restored.evaluate()["dagger"]
    assert [m["success_rate"] for m in again.metrics] == [
        m["success_rate"] for m in results["dagger"].metrics
    ]
    assert again.facts["train_steps"] == 2


def test_two_rounds_are_one_and_one_bit_for_bit(finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_in_save(patch, "dagger", 1, saved=True)
        with pytest.raises(Killed):
            toy_run(tmp_path / "run", config())
    toy_run(tmp_path / "run", config())
    assert_same(tmp_path / "run", finished[0], ("bc", "dagger"))
    states = [restore(folder, "dagger", []).state for folder in (tmp_path / "run", finished[0])]
    assert raw(states[0]) == raw(states[1])


def test_start_from_another_run(finished, tmp_path):
    found = toy_run(tmp_path / "run", config(stages="dagger", start_from=finished[0]))
    assert raw(restore(tmp_path / "run", "dagger", []).state) == raw(restore(finished[0], "dagger", []).state)
    assert set(found) == {"dagger"}
    with pytest.raises(CheckpointError, match=r"data.episodes: 24 -> 25"):
        toy_pipeline(tmp_path / "other", config(stages="dagger", start_from=finished[0], data__episodes=25))


def test_its_own_scalar_is_swept_alone():
    points = parse_grid("dagger.beta=0,0.5", 2, 0)
    setup = setup_lib.build(config())
    stages = stages_lib.make_stages(setup, ("bc", "dagger"))
    assert {name: len(stage.runs(points).runs) for name, stage in stages.items()} == {"bc": 2, "dagger": 4}
    hp = stages["dagger"].make_hparams(points, stages["dagger"].runs(points))
    assert hp["dagger.beta"].tolist() == [0.0, 0.0, 0.5, 0.5]
    assert "dagger.beta" in stages_lib.all_traced(stages.values())
    assert stages["dagger"].parent == "bc"


@register("env", lambda: ConfigDict())
def mute(cfg):
    """An environment without an expert."""
    env = Unstable()
    return type(
        "Mute", (), {name: getattr(env, name) for name in ("spec", "default_params", "reset", "step")}
    )()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dagger__rounds": 0}, "dagger.rounds"),
        ({"dagger__episodes": 0}, "dagger.episodes"),
        ({"dagger__steps_per_round": 0}, "dagger.steps_per_round"),
        ({"dagger__beta": 1.5}, "dagger.beta"),
        ({"env__name": f"{__name__}:mute"}, "stages"),
        ({"env__name": ""}, "stages"),
    ],
)
def test_config_is_checked(change, field, tmp_path):
    data = tmp_path / "data.npz"
    record(Unstable(), jax.random.key(1), 4, 0.0).save_npz(data)
    with pytest.raises(ConfigError) as info:
        setup_lib.build(config(data__path=data, **change))
    assert info.value.field == field
