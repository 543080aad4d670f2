from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError, DataError
from mmbc_jax.data import collect


def build(name, **fields):
    return registry.build("env", config.plugin("env", name, **fields))


@pytest.fixture(scope="module")
def avoiding():
    env = build("avoiding")
    return env, collect.record(env, jax.random.key(0), 48, 0.3)


def test_balanced_labelled_and_in_physical_units(avoiding):
    env, episodes = avoiding
    assert len(episodes) == 48
    np.testing.assert_array_equal(episodes.mode, np.arange(48) % 24)
    assert episodes.num_modes == 24
    assert (episodes.obs.dtype, episodes.action.dtype) == (np.float32, np.float32)
    assert episodes.obs.shape == (episodes.ends[-1], 4)
    assert 0.004 < np.abs(episodes.action).max() <= 0.01 + 1e-7  # metres, not [-1, 1]
    assert episodes.lengths.max() < env.spec.episode_length


def test_each_episode_is_a_success_in_its_mode(avoiding):
    env, episodes = avoiding
    longest = np.arange(episodes.lengths.max())
    rows = episodes.starts[:, None] + np.minimum(longest, episodes.lengths[:, None] - 1)
    paths = episodes.obs[rows][..., 2:]
    assert (paths[:, -1, 1] <= 0.35).all()  # the last observation is the one before the finish
    assert (paths[:, -1, 1] > 0.33).all()
    np.testing.assert_array_equal(jax.jit(jax.vmap(env.label))(jnp.asarray(paths)), episodes.mode)


def test_the_recorded_action_is_the_clean_one(avoiding):
    """The command moves by action plus noise; the recorded action is the expert's at that observation."""
    env, episodes = avoiding
    rows = episodes.episode(7)
    obs, action = episodes.obs[rows], episodes.action[rows]
    residual = (np.diff(obs[:, :2], axis=0) - action[:-1]) / 0.01
    free = np.abs(action[:-1] / 0.01 + residual) < 0.999  # not cut by the action box
    assert 0.2 < residual[free].std() < 0.35
    state = env.reset_to(jnp.asarray(obs[20]), jax.random.key(0))
    expert = 0.01 * env.expert(state, jnp.asarray(7), jax.random.key(0))
    np.testing.assert_allclose(action[20], expert, atol=1e-6)


def test_without_noise_the_actions_are_the_motion(avoiding):
    episodes = collect.record(avoiding[0], jax.random.key(0), 48, 0.0)
    rows = episodes.episode(5)
    moved = np.diff(episodes.obs[rows][:, :2], axis=0)
    np.testing.assert_allclose(moved, episodes.action[rows][:-1], atol=1e-6)


def test_landscape_is_determined_by_the_key():
    env = build("landscape")
    one, two = (collect.record(env, jax.random.key(4), 10, 0.3) for _ in range(2))
    other = collect.record(env, jax.random.key(5), 10, 0.3)
    np.testing.assert_array_equal(one.obs, two.obs)
    assert np.abs(one.obs - other.obs).max() > 1e-3
    assert (one.lengths == 16).all()
    np.testing.assert_array_equal(one.mode, np.arange(10) % 4)


def test_failures_are_recorded_again_until_all_modes_are_there():
    """With so much noise many episodes fail; what comes back is still complete, balanced and successful."""
    env = build("landscape")
    params = env.default_params() | {"start_std": jnp.asarray(0.8)}
    episodes = collect.record(env, jax.random.key(0), 24, 3.0, params)
    np.testing.assert_array_equal(episodes.mode, np.arange(24) % 4)
    centres = np.sqrt(0.5) * np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    ends = episodes.obs[episodes.ends - 1]
    # one more step of at most 0.15 per axis leads to within 0.2 of the centre
    assert np.linalg.norm(ends - centres[episodes.mode], axis=1).max() < 0.2 + 0.15 * np.sqrt(2) + 1e-6


def test_batches_are_bounded(monkeypatch):
    monkeypatch.setattr(collect, "MAX_BATCH", 8)
    episodes = collect.record(build("landscape"), jax.random.key(0), 21, 0.2)
    np.testing.assert_array_equal(episodes.mode, np.arange(21) % 4)
    firsts = episodes.obs[episodes.starts]
    assert len(np.unique(firsts[:, 0])) == 21  # no two batches repeat each other


def test_an_expert_that_keeps_failing_is_named(monkeypatch):
    monkeypatch.setattr(collect, "MAX_ROUNDS", 2)
    env = build("landscape", reward="rotated")
    with pytest.raises(DataError, match="mode 0, 1, 2, 3 with noise"):
        collect.record(env, jax.random.key(0), 8, 0.0, env.default_params())


def test_the_expert_may_demonstrate_another_task_than_is_paid():
    """Of the landscape whose peaks are turned: the very episodes of the one whose are not."""
    turned, plain = (
        collect.record(build("landscape", reward=reward), jax.random.key(6), 8, 0.2)
        for reward in ("rotated", "balanced")
    )
    np.testing.assert_array_equal(turned.obs, plain.obs)
    np.testing.assert_array_equal(turned.mode, plain.mode)


def test_bad_requests_are_refused():
    env = build("landscape")
    with pytest.raises(ConfigError, match="num_episodes"):
        collect.record(env, jax.random.key(0), 0, 0.1)
    with pytest.raises(ConfigError, match="noise"):
        collect.record(env, jax.random.key(0), 4, -0.1)
    with pytest.raises(ConfigError, match="expert"):
        collect.record(build("brax:fast"), jax.random.key(0), 4, 0.1)
