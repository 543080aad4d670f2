"""Reach: the expert's two ways, its ends, its perturbations, and what random actions may not do."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.core.compiling import jit
from mmbc_jax.envs import wrappers
from mmbc_jax.envs.mjx import _panda_table as table

B = 64


@functools.cache
def env(**options):
    return registry.build("env", config.plugin("env", "reach", **options))


@functools.cache
def stepper():
    """(reset, step) of two instances, compiled."""
    batched = wrappers.make(env(), autoreset=None)
    return jit(batched.reset, env().spec), jit(batched.step, env().spec)


@functools.cache
def episodes(further=False):
    """(key, modes [B], noise, share of random actions, parameters) to last state and trace of whole episodes."""
    bare = env().perturbed() if further else env()
    batched = wrappers.make(bare, autoreset=None)

    def run(key, modes, noise, random, params):
        start_key, steps_key = jax.random.split(key)

        def step(state, key):
            action_key, expert_key = jax.random.split(key)
            drawn = jax.random.uniform(action_key, (len(modes), 6), minval=-1.0)
            expert = jax.vmap(bare.expert)(state, modes, jax.random.split(expert_key, len(modes)))
            action = jnp.where(random, drawn, expert + noise * drawn)
            state = batched.step(state, action[:, None])
            return state, (state.obs, state.done, state.data["body"].qpos)

        state = batched.reset(jax.random.split(start_key, len(modes)), params)
        return jax.lax.scan(step, state, jax.random.split(steps_key, 100))

    return jit(run, bare.spec)


def played(noise=0.0, random=False, seed=0, params=None, further=False):
    bare = env().perturbed() if further else env()
    params = bare.default_params() | (params or {})
    return episodes(further)(jax.random.key(seed), jnp.arange(B) % 2, noise, random, params)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_expert_reaches_the_goal_on_the_commanded_side(noise):
    last, _ = played(noise)
    good = (np.asarray(last.metrics["success"]) > 0) & (
        np.asarray(last.info["final_mode"]) == np.arange(B) % 2
    )
    for mode in (0, 1):
        assert good[mode::2].mean() >= 0.95


def test_label_is_the_side_of_the_path():
    last, (obs, done, _) = played()
    obs, done = np.asarray(obs), np.asarray(done)
    for i in range(0, B, 5):
        path = obs[: int(done[:, i].argmax()) + 1, i]
        first = (path[:, 7] >= path[:, 20]).argmax()
        assert (path[first, 8] < path[first, 21]) == int(last.info["final_mode"][i])
        assert np.linalg.norm(path[-1, 7:10] - path[-1, 17:20]) < 0.02


def test_random_actions_stay_finite_and_in_joint_ranges():
    _, (obs, done, qpos) = played(random=True, seed=1)
    assert np.isfinite(np.asarray(obs)).all()
    qpos = np.asarray(qpos)
    assert (qpos >= np.float32(table.LOW)).all()
    assert (qpos <= np.float32(table.HIGH)).all()
    again = played(random=True, seed=1)[1][0]
    np.testing.assert_array_equal(obs, again)


@pytest.mark.slow
def test_straight_ahead_is_a_contact_and_fails():
    """The way of neither mode: the hand runs into the pillar, and the episode ends there."""
    reset, step = stepper()
    state = reset(jax.random.split(jax.random.key(2), 2))
    ahead = jnp.zeros((2, 1, 6)).at[..., 0].set(1.0)
    for _ in range(12):
        state = step(state, ahead)
    assert (np.asarray(state.done) == 1).all()
    assert (np.asarray(state.metrics["contact"]) == 1).all()
    assert (np.asarray(state.info["final_mode"]) == -1).all()


@pytest.mark.slow
def test_perturbations_act_and_neutral_ones_do_not():
    plain = np.asarray(played()[1][0])
    neutral = np.asarray(played(further=True)[1][0])
    np.testing.assert_allclose(neutral, plain, atol=2e-4)
    changed = {
        "mass": played(params={"mass": jnp.asarray(3.0)}, further=True),
        "damping": played(params={"damping": jnp.asarray(50.0)}, further=True),
        "friction": played(params={"friction": jnp.asarray(10.0)}, further=True),
        "locked": played(params={"locked": jnp.asarray(1)}, further=True),
    }
    for name, (_, (obs, *_rest)) in changed.items():
        assert np.abs(np.asarray(obs)[:10] - plain[:10]).max() > 1e-3, name
    locked = np.asarray(changed["locked"][1][2])[:, :, 0]
    assert np.abs(locked - locked[0]).max() < 0.02
    block = {"block_x": jnp.asarray(0.5), "block_y": jnp.asarray(0.19), "block_radius": jnp.asarray(0.05)}
    good = np.asarray(played(params=block, further=True)[0].metrics["success"])
    assert good[0::2].mean() < 0.1
    assert good[1::2].mean() >= 0.95


@pytest.mark.slow
def test_a_million_random_steps_are_finite():
    """157 batches of 64 episodes of 100 control steps, which go on from new starts."""
    for seed in range(157):
        assert np.isfinite(np.asarray(played(random=True, seed=100 + seed)[1][0])).all()


def test_a_diverged_instance_ends():
    reset, step = stepper()
    state = reset(jax.random.split(jax.random.key(3), 2))
    body = state.data["body"]
    broken = body.replace(qvel=body.qvel.at[1].set(jnp.nan))
    state = state.replace(data=state.data | {"body": broken})
    state = step(state, jnp.zeros((2, 1, 6)))
    np.testing.assert_array_equal(state.done, [0, 1])
    np.testing.assert_array_equal(state.info["diverged"], [0, 1])
    assert np.isfinite(np.asarray(state.obs)).all()
