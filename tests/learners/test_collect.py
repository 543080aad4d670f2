"""Collecting on the landscape: who decides z, what is remembered, where episodes end."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.types import PolicySpec, Variables
from mmbc_jax.envs import wrappers
from mmbc_jax.learners._collect import Collector, normalised
from mmbc_jax.ops.normalisation import Normalizer
from tests.toys.noise_policy import NoisePolicy

B, T, H, LENGTH, MODES, GAMMA = 64, 11, 4, 16, 3, 0.9
SPEC = PolicySpec(2, 2, H)
SCALE = Normalizer(-2 * jnp.ones(2), 2 * jnp.ones(2), -jnp.ones(2), jnp.ones(2))


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    """Environments reset by a vmapped split, which JAX takes for a reuse; single runs are checked in training."""
    with jax.debug_key_reuse(False):
        yield


@functools.cache
def actor():
    policy = NoisePolicy(SPEC, prior="normal")
    cfg = plugin("actor", "steer", hidden=(8,))
    return registry.build("actor", cfg, spec=SPEC, policy=policy, num_modes=MODES)


@pytest.fixture(scope="module")
def collector():
    env = registry.build("env", plugin("env", "landscape"))
    q = plugin("discriminator", "categorical", input="history", hidden=(8,))
    q = registry.build("discriminator", q, SPEC.obs, MODES, LENGTH // H)
    return Collector(
        env=wrappers.make(env, exec_len=H, gamma=GAMMA),
        act=actor().act,
        reward=registry.build("reward", plugin("reward", "mi"), discriminator=q, horizon=LENGTH // H),
        num_modes=MODES,
        num_envs=B,
        exec_len=H,
        length=LENGTH,
    )


@pytest.fixture(scope="module")
def collect(collector):
    """`collect(horizon, later) -> (first loop, loop after T decisions, normalised transitions)`.

    Episodes of the first loop have `horizon` control steps, those that start during the T decisions `later`.
    """

    @jax.jit
    def run(key, horizon, later):
        key_params, key_init, key_collect = jax.random.split(key, 3)
        reference = Variables({}, {"prior": {}})
        params = actor().init(key_params, reference)
        start = collector.init(key_init, SCALE, horizon)
        loop, visited = collector.collect(start, params, reference, SCALE, key_collect, T, later)
        return start, loop, normalised(visited, SCALE)

    def call(horizon=LENGTH, later=LENGTH, seed=0):
        return jax.device_get(run(jax.random.key(seed), jnp.asarray(horizon), jnp.asarray(later)))

    return call


def test_horizon_in_decisions(collector):
    assert collector.horizon == 4


def test_episodes_run_their_course(collect):
    """16 control steps in chunks of 4: the fourth decision terminates, T = 11 holds two ends."""
    _, loop, trajectory = collect()
    ends = (np.arange(1, T + 1) % 4 == 0).astype(float)
    for found in (trajectory.done, trajectory.terminated, trajectory.final):
        np.testing.assert_array_equal(found, np.broadcast_to(ends[:, None], (T, B)))
    np.testing.assert_allclose(trajectory.time[:, 0], [0, 0.25, 0.5, 0.75] * 2 + [0, 0.25, 0.5])
    np.testing.assert_allclose(trajectory.final_time[:, 0], [0.25, 0.5, 0.75, 1] * 2 + [0.25, 0.5, 0.75])
    np.testing.assert_array_equal(trajectory.remaining[:, 0], [3, 2, 1, 0] * 2 + [3, 2, 1])
    np.testing.assert_allclose(trajectory.discount, GAMMA**4, rtol=1e-6)
    np.testing.assert_array_equal(loop.env.info["steps"], 12)


def test_z_is_constant_within_an_episode_and_drawn_anew_at_its_end(collect):
    """New modes are uniform and know nothing of the old ones: 128 draws, bounds of 5 sigma."""
    start, loop, trajectory = collect()
    z = np.concatenate([trajectory.z, loop.z[None]])
    np.testing.assert_array_equal(z[0], start.z)
    ended = trajectory.done > 0
    assert (z[1:] == z[:-1])[~ended].all()
    old, new = z[:-1][ended], z[1:][ended]
    assert ((new >= 0) & (new < MODES)).all()
    share = math.sqrt((1 / MODES) * (1 - 1 / MODES) / len(new))
    for mode in range(MODES):
        assert abs((new == mode).mean() - 1 / MODES) < 5 * share
    assert abs((new == old).mean() - 1 / MODES) < 5 * share


def test_memory_starts_anew_with_every_episode(collect, collector):
    """A history's slots hold the episode's own observations, those to come the present one."""
    _, _, trajectory = collect()
    assert collector.reward.discriminator.slots == 5
    slots = trajectory.features[..., :-1].reshape(T, B, 5, 2)
    after = trajectory.final_features[..., :-1].reshape(T, B, 5, 2)
    for t in range(T):
        begun = t - t % 4  # the decision at which this episode began
        np.testing.assert_array_equal(trajectory.features[t, :, -1], (t % 4) / 4)
        np.testing.assert_array_equal(trajectory.final_features[t, :, -1], (t % 4 + 1) / 4)
        for slot in range(5):
            seen = trajectory.obs[min(begun + slot, t)]
            np.testing.assert_array_equal(slots[t, :, slot], seen)
            last = trajectory.final_obs[t] if slot > t % 4 else seen
            np.testing.assert_array_equal(after[t, :, slot], last)


def test_final_observations_come_before_the_reset(collect):
    """Within an episode final_obs is the next observation; at an end it is where the episode ended."""
    _, loop, trajectory = collect()
    following = np.concatenate([trajectory.obs[1:], np.asarray(SCALE.normalize_obs(loop.env.obs))[None]])
    ended = trajectory.done > 0
    np.testing.assert_allclose(trajectory.final_obs[~ended], following[~ended], atol=1e-6)
    assert np.abs(following[ended]).max() < 5 * 0.05 / 2 + 1e-3  # the start, N(0, .05^2) in units of 2
    assert np.abs(trajectory.final_obs[ended]).mean() > np.abs(following[ended]).mean()


def test_reward_is_discounted_inside_the_chunk_and_paid_at_the_end(collect):
    """Only the 16th control step pays, R = exp(-d^2 / (2 .2^2)); in its chunk it is the fourth: gamma^3 R."""
    _, _, trajectory = collect()
    ended = trajectory.done > 0
    np.testing.assert_array_equal(trajectory.reward[~ended], 0.0)
    position = trajectory.final_obs[ended] * 2
    angles = np.pi / 4 + np.pi / 2 * np.arange(4)
    centres = np.stack([np.cos(angles), np.sin(angles)], -1)
    distance = np.linalg.norm(position[:, None] - centres, axis=-1).min(-1)
    expected = GAMMA**3 * np.exp(-0.5 * (distance / 0.2) ** 2)
    np.testing.assert_allclose(trajectory.reward[ended], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(trajectory.success[ended], (distance <= 0.2).astype(float))
    assert not trajectory.success[~ended].any()


def test_a_short_horizon_truncates_and_the_next_episodes_take_the_new_one(collect):
    """8 control steps at first, then 12: ends after decisions 2, 5, 8 and 11, none of them a termination."""
    _, _, trajectory = collect(8, 12)
    ends = np.zeros(T)
    ends[[1, 4, 7, 10]] = 1
    np.testing.assert_array_equal(trajectory.done, np.broadcast_to(ends[:, None], (T, B)))
    assert not trajectory.terminated.any()
    assert not trajectory.final.any()  # a cut: the value beyond it counts
    assert not trajectory.success.any()
    # decisions left are counted to the full horizon, not to the truncation
    np.testing.assert_array_equal(trajectory.remaining[:2, 0], [3, 2])


def test_a_horizon_inside_a_chunk_cuts_it(collect):
    """6 control steps: the second decision executes 2 of its 4, so gamma^2, and 2 of 4 decisions are left."""
    _, _, trajectory = collect(6, 6)
    np.testing.assert_array_equal(trajectory.done[:4, 0], [0, 1, 0, 1])
    np.testing.assert_allclose(trajectory.discount[:4, 0], [GAMMA**4, GAMMA**2] * 2, rtol=1e-6)
    np.testing.assert_array_equal(trajectory.remaining[:4, 0], [3, 2, 3, 2])
    np.testing.assert_allclose(trajectory.final_time[:2, 0], [4 / 16, 6 / 16])


def test_actions_depend_on_the_key_alone(collect):
    first, second, other = collect(), collect(), collect(seed=1)
    np.testing.assert_array_equal(first[2].final_obs, second[2].final_obs)
    assert not np.allclose(first[2].final_obs, other[2].final_obs)


def test_wandering_visits_what_uniform_chunks_reach(collector):
    """From N(0, .05^2), 16 steps of .15 U(-1, 1): after t steps variance .05^2 + t .15^2 / 3 per axis (5 sigma).

    Observations come every 4 steps, the fifth from a new start; of n normal numbers the variance has the
    relative error sqrt(2 / n), and sums of uniforms have shorter tails.
    """
    found, valid = jax.device_get(jax.jit(lambda key: collector.wander(key, 5, (H, 2)))(jax.random.key(3)))
    assert found.shape == (5, B, 2)
    assert (valid == 1).all()
    for decision, steps in enumerate((0, 4, 8, 12, 0)):
        expected = 0.05**2 + steps * 0.15**2 / 3
        assert abs(found[decision].var() / expected - 1) < 5 * math.sqrt(2 / (2 * B))


def test_chunks_of_an_actor_with_another_scale_reach_the_environment_in_its_own(collector):
    """-1 and 1 of the actor are an eighth of the box: eight times as much is the same action."""
    eighth = jnp.full(2, 0.125)
    narrow = SCALE._replace(action_low=-eighth, action_high=eighth, box=(-jnp.ones(2), jnp.ones(2)))

    def act(params, reference, key, obs, z):
        return jax.random.uniform(key, (B, H, 2), minval=-1.0, maxval=1.0), {}

    def wide(*given):
        chunk, info = act(*given)
        return 8.0 * chunk, info

    def visited(act, scale):
        own = dataclasses.replace(collector, act=act)
        key_init, key_collect = jax.random.split(jax.random.key(1))
        start = own.init(key_init, scale, jnp.asarray(LENGTH))
        return own.collect(start, {}, None, scale, key_collect, 2, jnp.asarray(LENGTH))[1]

    jax.tree.map(np.testing.assert_array_equal, visited(act, SCALE), visited(wide, narrow))
