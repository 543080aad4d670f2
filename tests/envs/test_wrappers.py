from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.core.types import EnvSpec, State
from mmbc_jax.data.collect import told
from mmbc_jax.envs import wrappers


class Counter:
    """obs = (start + t, last action), reward t+1 at step t; terminates when t reaches params["end"]."""

    spec = EnvSpec("counter", 2, 1, 10, 3, (-1.0,), (1.0,), position=(0, 1), summed=("reward_part",))

    def default_params(self):
        return {"end": jnp.asarray(100, jnp.int32)}

    def reset(self, key, params=None):
        params = self.default_params() if params is None else params
        start = 0.5 * jax.random.uniform(key)
        return State(
            data={"t": jnp.zeros((), jnp.int32), "start": start},
            obs=jnp.stack([start, 0.0]),
            reward=jnp.zeros(()),
            done=jnp.zeros(()),
            metrics={"success": jnp.zeros(()), "reward_part": jnp.zeros(()), "rewarded": jnp.zeros(())},
            info={"mode": jnp.full((), -1, jnp.int32), "params": params},
        )

    def step(self, state, action):
        t = state.data["t"] + 1
        done = t >= state.info["params"]["end"]
        return state.replace(
            data=state.data | {"t": t},
            obs=jnp.stack([state.data["start"] + t, action[0]]),
            reward=t.astype(jnp.float32),
            done=done.astype(jnp.float32),
            metrics={"success": done.astype(jnp.float32), "reward_part": 2.0 * t, "rewarded": 3.0 * t},
            info=state.info | {"mode": jnp.where(done, 2, -1).astype(jnp.int32)},
        )


def params(end):
    return {"end": jnp.asarray(end, jnp.int32)}


def zeros(batch, length):
    return jnp.zeros((batch, length, 1))


def keys(seed, batch):
    return jax.random.split(jax.random.key(seed), batch)


def test_episode_truncates_only_at_the_limit():
    env = wrappers.Episode(Counter(), 3)
    state = env.reset(jax.random.key(0))
    seen = []
    for _ in range(3):
        state = env.step(state, jnp.zeros(1))
        seen.append((float(state.done), float(state.info["truncation"]), int(state.info["steps"])))
    assert seen == [(0, 0, 1), (0, 0, 2), (1, 1, 3)]
    assert float(state.info["discount"]) == 1.0
    np.testing.assert_array_equal(state.info["final_obs"], state.obs)


def test_termination_at_the_limit_is_not_a_truncation():
    env = wrappers.Episode(Counter(), 3)
    state = env.reset(jax.random.key(0), params(3))
    for _ in range(3):
        state = env.step(state, jnp.zeros(1))
    assert (float(state.done), float(state.info["truncation"])) == (1.0, 0.0)
    assert int(state.info["final_mode"]) == 2


def test_horizon_is_traced():
    env = wrappers.Episode(Counter(), 10)
    traces = []

    @jax.jit
    def length(horizon):
        traces.append(1)
        state = env.reset(jax.random.key(0), horizon=horizon)
        state, done = jax.lax.scan(
            lambda s, _: (n := env.step(s, jnp.zeros(1)), n.done), state, None, length=10
        )
        return done.argmax() + 1

    assert [int(length(jnp.asarray(h))) for h in (2, 5, 10)] == [2, 5, 10]
    assert len(traces) == 1


def test_chunk_reward_and_discount():
    env = wrappers.Chunk(wrappers.Episode(Counter(), 10), exec_len=3, gamma=0.5, path=True)
    state = jax.jit(env.step)(env.reset(jax.random.key(0)), jnp.zeros((5, 1)))
    # 1 + 0.5 * 2 + 0.25 * 3 = 2.75; gamma^3 = 0.125
    assert float(state.reward) == 2.75
    assert float(state.info["discount"]) == 0.125
    start = float(state.data["start"])
    np.testing.assert_allclose(state.info["path"][:, 0], start + np.array([1, 2, 3]), rtol=1e-6)
    assert float(state.metrics["reward"]) == 6.0  # 1 + 2 + 3
    assert float(state.metrics["reward_part"]) == 12.0  # 2 + 4 + 6
    assert float(state.metrics["rewarded"]) == 9.0  # the last, 3 * 3: only what the spec names is summed


@pytest.mark.parametrize(("end", "length", "truncation", "success"), [(2, 10, 0.0, 1.0), (9, 2, 1.0, 0.0)])
def test_chunk_stops_at_done(end, length, truncation, success):
    env = wrappers.Chunk(wrappers.Episode(Counter(), length), exec_len=4, gamma=0.5, path=True)
    state = env.step(env.reset(jax.random.key(0), params(end)), jnp.zeros((4, 1)))
    # two steps: 1 + 0.5 * 2 = 2; gamma^2 = 0.25
    assert (float(state.reward), float(state.info["discount"])) == (2.0, 0.25)
    assert (float(state.done), float(state.info["truncation"])) == (1.0, truncation)
    assert float(state.metrics["success"]) == success
    assert int(state.info["steps"]) == int(state.data["t"]) == int(state.info["final_steps"]) == 2
    ramp = float(state.data["start"]) + np.array([1, 2, 2, 2])
    np.testing.assert_allclose(state.info["path"][:, 0], ramp, rtol=1e-6)
    np.testing.assert_array_equal(state.info["final_obs"], state.info["path"][-1])


def test_chunk_clips_actions_and_refuses_short_chunks():
    env = wrappers.Chunk(wrappers.Episode(Counter(), 10), exec_len=2, gamma=1.0, path=True)
    state = env.step(env.reset(jax.random.key(0)), jnp.array([[3.0], [-7.0]]))
    np.testing.assert_array_equal(state.info["path"][:, 1], [1.0, -1.0])
    with pytest.raises(ValueError, match="cannot fill"):
        env.step(state, jnp.zeros((1, 1)))


def test_batch_maps_only_parameters_with_a_leading_axis():
    env = wrappers.make(Counter(), exec_len=4, autoreset=None)
    state = env.reset(keys(0, 3), {"end": jnp.array([1, 2, 9], jnp.int32)})
    state = env.step(state, zeros(3, 4))
    np.testing.assert_array_equal(state.info["final_steps"], [1, 2, 4])
    shared = env.step(env.reset(keys(0, 3), params(2)), zeros(3, 4))
    np.testing.assert_array_equal(shared.info["final_steps"], [2, 2, 2])


def test_without_autoreset_finished_instances_stay_frozen():
    env = wrappers.make(Counter(), exec_len=2, gamma=0.5, autoreset=None)
    state = env.reset(keys(0, 2), {"end": jnp.array([2, 9], jnp.int32)})
    state = env.step(state, zeros(2, 2))
    later = env.step(state, zeros(2, 2) + 0.3)
    np.testing.assert_array_equal(later.reward, [0.0, 3.0 + 0.5 * 4.0])
    np.testing.assert_array_equal(later.info["discount"], [1.0, 0.25])
    np.testing.assert_array_equal(later.obs[0], state.obs[0])
    np.testing.assert_array_equal(later.metrics["reward"], [0.0, 7.0])
    np.testing.assert_array_equal(later.metrics["success"], [1.0, 0.0])
    np.testing.assert_array_equal(later.info["mode"], [2, -1])
    np.testing.assert_array_equal(later.info["steps"], [2, 4])


@pytest.mark.parametrize("mode", ["full", "cached"])
def test_autoreset_keeps_the_finished_step_visible(mode):
    env = wrappers.make(Counter(), exec_len=2, gamma=0.5, autoreset=mode, path=True)
    first = env.reset(keys(0, 2), {"end": jnp.array([2, 9], jnp.int32)})
    state = env.step(first, zeros(2, 2), jax.random.key(1))
    np.testing.assert_array_equal(state.done, [1, 0])
    np.testing.assert_array_equal(state.reward, [2.0, 2.0])
    np.testing.assert_array_equal(state.metrics["success"], [1, 0])
    np.testing.assert_array_equal(state.info["final_mode"], [2, -1])
    np.testing.assert_array_equal(state.info["mode"], [-1, -1])
    np.testing.assert_array_equal(state.info["final_steps"], [2, 2])
    np.testing.assert_array_equal(state.info["steps"], [0, 2])
    np.testing.assert_array_equal(state.data["t"], [0, 2])
    np.testing.assert_allclose(state.info["final_obs"][:, 0], first.obs[:, 0] + 2, rtol=1e-6)
    np.testing.assert_array_equal(state.info["path"][:, -1], state.info["final_obs"])
    np.testing.assert_array_equal(state.info["params"]["end"], [2, 9])
    assert bool(state.obs[0, 0] == first.obs[0, 0]) == (mode == "cached")
    again = env.step(state, zeros(2, 2), jax.random.key(2))
    np.testing.assert_array_equal(again.reward, [2.0, 3.0 + 0.5 * 4.0])  # the new episode counts from 1


def test_full_resets_differ_between_instances_and_need_a_key():
    env = wrappers.make(Counter(), autoreset="full", length=1)
    state = env.reset(keys(0, 4))
    with pytest.raises(ValueError, match="key"):
        env.step(state, zeros(4, 1))
    state = env.step(state, zeros(4, 1), jax.random.key(1))
    assert len(np.unique(state.obs[:, 0])) == 4


@pytest.mark.parametrize("mode", ["full", "cached"])
def test_horizon_survives_resets_and_a_new_one_starts_with_the_next_episode(mode):
    env = wrappers.make(Counter(), autoreset=mode, length=10)
    state = env.reset(keys(0, 2), horizon=jnp.array([1, 3]))
    state = env.step(state, zeros(2, 1), jax.random.key(1))
    np.testing.assert_array_equal(state.info["horizon"], [1, 3])
    np.testing.assert_array_equal(state.done, [1, 0])
    state = env.step(state, zeros(2, 1), jax.random.key(2), horizon=jnp.asarray(7))
    np.testing.assert_array_equal(state.info["horizon"], [7, 3])
    np.testing.assert_array_equal(state.info["truncation"], [1, 0])


@pytest.mark.parametrize("mode", ["full", "cached", None])
def test_tree_is_scan_stable(mode):
    env = wrappers.make(Counter(), exec_len=3, gamma=0.9, autoreset=mode)
    state = env.reset(keys(0, 2))
    args = () if mode is None else (jax.random.key(1),)
    stepped = jax.eval_shape(env.step, state, zeros(2, 3), *args)
    assert jax.tree.structure(state) == jax.tree.structure(stepped)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(state)] == [
        (x.shape, x.dtype) for x in jax.tree.leaves(stepped)
    ]


def test_discounted_return_over_chunks_equals_the_plain_one():
    """Composing chunk rewards with their discounts gives sum gamma^t r_t, whatever the chunk length."""
    gamma, returns = 0.9, []
    for h in (1, 3):
        env = wrappers.make(Counter(), exec_len=h, gamma=gamma, autoreset=None)
        state, total, weight = env.reset(keys(0, 1), params(8)), 0.0, 1.0
        step = jax.jit(env.step)
        for _ in range(-(-8 // h)):
            state = step(state, zeros(1, h))
            total += weight * float(state.reward[0])
            weight *= float(state.info["discount"][0])
        returns.append(total)
    np.testing.assert_allclose(returns, sum(gamma**t * (t + 1) for t in range(8)), rtol=1e-5)


def test_wrappers_forward_and_refuse():
    inner = Counter()
    env = wrappers.make(inner, autoreset="cached")
    assert env.unwrapped is inner
    assert env.spec is inner.spec
    assert int(env.default_params()["end"]) == 100
    with pytest.raises(ConfigError, match="autoreset"):
        wrappers.make(inner, autoreset="always")
    with pytest.raises(ConfigError, match="exec_len"):
        wrappers.make(inner, exec_len=0)


class Pictured(Counter):
    """As `Counter`, observed as a vector, its negative, and an image [2, 2, 3] with t in every pixel."""

    spec = dataclasses.replace(
        Counter.spec,
        obs_dim=3,
        obs=ObsSpec.of(
            {"z": ObsEntry((2,)), "back": ObsEntry((1,), angles=(0,)), "image": ObsEntry((2, 2, 3), "image")}
        ),
        position=(1, 2),  # the vectors are (-start - t), (start + t, last action)
    )

    def reset(self, key, params=None):
        return self._pictured(super().reset(key, params))

    def step(self, state, action):
        assert state.obs["z"].shape == (2,)  # whatever the wrappers remember
        return self._pictured(super().step(state, action))

    def _pictured(self, state):
        image = jnp.broadcast_to(state.data["t"].astype(jnp.uint8), (2, 2, 3))
        return state.replace(obs={"z": state.obs, "back": -state.obs[:1], "image": image})


def test_observations_of_any_shape_go_through_all_wrappers():
    env = wrappers.make(Pictured(), exec_len=2, gamma=0.5, autoreset="full", length=4, path=True)
    first = env.reset(keys(0, 2))
    assert first.obs["image"].shape == (2, 2, 2, 3)
    state = env.step(env.step(first, zeros(2, 2), jax.random.key(1)), zeros(2, 2), jax.random.key(2))
    np.testing.assert_array_equal(state.done, [1, 1])
    np.testing.assert_array_equal(state.info["final_obs"]["image"], np.full((2, 2, 2, 3), 4))
    np.testing.assert_array_equal(state.obs["image"], np.zeros((2, 2, 2, 3)))
    assert state.obs["image"].dtype == state.info["final_obs"]["image"].dtype == jnp.uint8
    np.testing.assert_allclose(state.info["final_obs"]["z"][:, 0], first.obs["z"][:, 0] + 4, rtol=1e-6)
    np.testing.assert_array_equal(state.info["path"][:, -1], state.info["final_obs"]["z"])


def test_the_path_is_kept_on_demand_only():
    held = {
        path: set(wrappers.make(Counter(), exec_len=3, path=path).reset(keys(0, 2)).info)
        for path in (False, True)
    }
    assert held[True] - held[False] == {"path"}
    assert not held[False] - held[True]
    state = wrappers.make(Counter(), exec_len=3, path=True).reset(keys(0, 2))
    np.testing.assert_array_equal(state.info["path"], np.repeat(state.obs[:, None], 3, 1))


def test_what_is_plotted():
    class Blind(Pictured):
        spec = dataclasses.replace(
            Pictured.spec, obs_dim=0, obs=ObsSpec.of({"image": ObsEntry((2, 2, 3), "image")}), position=()
        )

    class Telling(Blind):
        def plotted(self, state):
            return jnp.stack([state.data["start"], 5.0])

    class Line(Counter):
        spec = dataclasses.replace(Counter.spec, position=())

    state = Pictured().reset(jax.random.key(0))
    start = float(state.data["start"])
    np.testing.assert_array_equal(wrappers.plotted(Pictured(), state), [start, 0.0])
    assert np.isnan(wrappers.plotted(Blind(), state)).all()
    np.testing.assert_array_equal(wrappers.plotted(wrappers.Wrapper(Telling()), state), [start, 5.0])
    np.testing.assert_array_equal(wrappers.plotted(Line(), Line().reset(jax.random.key(0))), [start, 0.0])


def test_history_is_described_as_it_is_given():
    env = wrappers.History(Pictured(), 3)
    state = jax.eval_shape(env.reset, jax.random.key(0))
    assert not env.spec.obs.mismatch(state.obs)
    assert env.spec.obs_dim == 9
    assert dict(env.spec.obs.entries)["back"].angles == (0, 1, 2)
    state = env.step(env.reset(jax.random.key(0)), jnp.full(1, 0.5))
    newest = Pictured().spec.obs.flat(
        Pictured().step(Pictured().reset(jax.random.key(0)), jnp.full(1, 0.5)).obs
    )
    seen = env.spec.obs.flat(state.obs)
    np.testing.assert_array_equal(seen[jnp.asarray(env.spec.position)], newest[jnp.asarray([1, 2])])


@pytest.mark.parametrize("mode", ["full", "cached"])
def test_history_agrees_with_a_list_and_starts_anew_with_an_episode(mode):
    """Episodes of 5 steps, 2 per decision: decisions end at t = 2, 4, 5, then 2, 4, 5 of the next episode."""
    env = wrappers.make(Pictured(), exec_len=2, autoreset=mode, length=5, observe=3)
    step = jax.jit(env.step)
    state = env.reset(keys(0, 2))
    np.testing.assert_array_equal(state.obs["image"], np.zeros((2, 2, 2, 9)))
    np.testing.assert_array_equal(state.obs["z"], np.tile(state.obs["z"][:, :2], 3))
    for decision in range(6):
        start = np.asarray(state.data["start"])
        state = step(state, jnp.full((2, 2, 1), 0.1 * (decision + 1)), jax.random.key(decision))
        t = [2, 4, 5][decision % 3]
        times = np.maximum([t - 2, t - 1, t], 0)
        final = state.info["final_obs"]
        np.testing.assert_array_equal(final["image"][0, 1, 1], np.repeat(times, 3))
        np.testing.assert_allclose(final["z"][:, ::2], start[:, None] + times, rtol=1e-6)
        np.testing.assert_allclose(final["back"], -start[:, None] - times, rtol=1e-6)
        now = final if t < 5 else {"image": np.zeros((2, 2, 2, 9))}
        np.testing.assert_array_equal(state.obs["image"], now["image"])
        if t == 5:
            np.testing.assert_array_equal(state.obs["z"], np.tile(state.obs["z"][:, 4:], 3))
            np.testing.assert_array_equal(state.obs["z"][:, 4], state.data["start"])


def test_history_of_one_is_no_wrapper():
    env = wrappers.make(Counter(), observe=1)
    assert env.env.env.env.env is env.unwrapped  # below AutoReset, Vectorised, Chunk and Episode
    with pytest.raises(ConfigError, match="chunk.observe"):
        wrappers.make(Counter(), observe=0)


class Looking(Counter):
    """Its expert goes by the observation: a = .01 (first + 2 last) + .1 mode."""

    def expert(self, state, mode, key):
        return (0.01 * (state.obs[0] + 2.0 * state.obs[1]) + 0.1 * mode)[None]


def test_an_expert_below_wrappers_sees_what_its_own_environment_shows():
    """Whatever is remembered and however noisy it is: after actions .5, .1, .2 the observation is (start + 3, .2)."""
    bare = Looking()
    noisy = {**wrappers.Perturbed(bare).default_params(), "obs_noise": jnp.asarray(0.3)}
    for env, own in (
        (wrappers.History(bare, 3), None),
        (wrappers.History(wrappers.Perturbed(bare), 2), noisy),
        (bare, None),
    ):
        state = env.reset(jax.random.key(1), own)
        start = float(state.data["start"])
        for action in (0.5, 0.1, 0.2):
            state = env.step(state, jnp.asarray([action]))
        found = wrappers.expert_action(env, state, jnp.asarray(2), jax.random.key(2))
        np.testing.assert_allclose(found, [0.01 * (start + 3 + 0.4) + 0.2], rtol=1e-6)
        batch = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state)
        all_of_it = told(env, jnp.asarray([2, 0]), batch, jax.random.key(2))
        np.testing.assert_allclose(all_of_it[:, 0], found[0] - jnp.asarray([0.0, 0.2]), rtol=1e-5)
