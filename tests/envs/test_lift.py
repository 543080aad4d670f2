"""Lift: the expert's two grasps, contacts against C MuJoCo, perturbations, random actions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.core.compiling import jit
from mmbc_jax.envs import wrappers
from mmbc_jax.envs.mjx import _cube_scene as cube
from mmbc_jax.envs.mjx import _panda_table as table

B, LENGTH = 32, 80


@functools.cache
def env():
    return registry.build("env", config.plugin("env", "lift"))


@functools.cache
def episodes():
    """(key, modes [B], noise, whether actions are random, parameters) to last state and trace."""
    bare = env().perturbed()
    batched = wrappers.make(bare, autoreset=None)

    def run(key, modes, noise, random, params):
        start_key, steps_key = jax.random.split(key)

        def step(state, key):
            action_key, expert_key = jax.random.split(key)
            drawn = jax.random.uniform(action_key, (len(modes), 7), minval=-1.0)
            expert = jax.vmap(bare.expert)(state, modes, jax.random.split(expert_key, len(modes)))
            state = batched.step(state, jnp.where(random, drawn, expert + noise * drawn)[:, None])
            return state, state.data["body"].qpos

        state = batched.reset(jax.random.split(start_key, len(modes)), params)
        return jax.lax.scan(step, state, jax.random.split(steps_key, LENGTH))

    return jit(run, bare.spec)


def played(noise=0.0, random=False, seed=0, **params):
    changed = {name: jnp.asarray(value) for name, value in params.items()}
    given = env().perturbed().default_params() | changed
    return episodes()(jax.random.key(seed), jnp.arange(B) % 2, noise, random, given)


def shares(last):
    """Success in the commanded mode, of each mode."""
    good = (np.asarray(last.metrics["success"]) > 0) & (
        np.asarray(last.info["final_mode"]) == np.arange(B) % 2
    )
    return good[0::2].mean(), good[1::2].mean()


def test_the_scene_is_what_it_says():
    model = env().panda.model
    assert (model.nq, model.nv, model.nu) == (16, 15, 9)
    assert model.opt.timestep * cube.SUBSTEPS == pytest.approx(0.05)
    assert model.body("cube").mass[0] == pytest.approx(cube.MASS)
    assert model.npair == 8 + 8 + 4 + 1


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_expert_lifts_by_the_commanded_faces(noise):
    last, _ = played(noise)
    assert min(shares(last)) >= 0.95


@pytest.mark.slow
def test_random_actions_stay_finite_and_in_joint_ranges():
    _, qpos = played(random=True, seed=1)
    qpos = np.asarray(qpos)
    assert np.isfinite(qpos).all()
    assert (qpos[..., :7] > table.LOW - 0.01).all()
    assert (qpos[..., :7] < table.HIGH + 0.01).all()
    assert (np.abs(np.linalg.norm(qpos[..., 12:16], axis=-1) - 1.0) < 1e-3).all()
    np.testing.assert_array_equal(qpos, played(random=True, seed=1)[1])


@pytest.mark.slow
def test_perturbations_act():
    slippery, heavy = played(friction=0.02)[0], played(mass=20.0)[0]
    assert max(shares(slippery)) < 0.2
    assert max(shares(heavy)) < 0.2
    _, still = played(locked=2)
    assert np.abs(np.asarray(still)[:, :, 1] - np.asarray(still)[0, :, 1]).max() < 0.02


@pytest.mark.slow
def test_a_grasp_is_that_of_mujoco():
    """One lift in both on the same joint targets: 1e-5 without contact, the cuboid within 2 mm and 1 degree."""
    bare = env()
    step, expert = jit(bare.step, bare.spec), jit(bare.expert, bare.spec)
    state = jit(bare.reset, bare.spec)(jax.random.key(5))
    model = bare.panda.model
    data = mujoco.MjData(model)
    data.qpos[:] = state.data["body"].qpos
    data.qfrc_applied[11] = -cube.MASS * cube.GRAVITY
    before, touched, key = np.asarray(state.data["body"].target), False, jax.random.key(0)
    for number in range(60):
        state = step(state, expert(state, jnp.asarray(0), jax.random.fold_in(key, number)))
        target = np.asarray(state.data["body"].target)
        for j in range(cube.SUBSTEPS):
            data.ctrl[:] = before + (target - before) * (j + 1) / cube.SUBSTEPS
            mujoco.mj_step(model, data)
        before = target
        found = np.asarray(state.data["body"].qpos)
        if not touched:
            np.testing.assert_allclose(found[:9], data.qpos[:9], atol=1e-5)
        touched |= found[7] < 0.0395
        np.testing.assert_allclose(found[9:12], data.qpos[9:12], atol=2e-3)
        assert abs(np.dot(found[12:16], data.qpos[12:16])) > np.cos(np.radians(0.5))
        if state.done:
            break
    assert touched
    assert state.metrics["success"] == 1
