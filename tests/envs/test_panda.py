"""The Panda's kinematics and free motion against its DH table in numpy and C MuJoCo."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mmbc_jax.core.compiling import FUSION_EMITTERS, compiler_options
from mmbc_jax.core.types import EnvSpec
from mmbc_jax.envs.mjx import _panda as panda
from mmbc_jax.envs.mjx import _panda_kinematics as kinematics
from mmbc_jax.envs.mjx import _panda_table as table
from mmbc_jax.envs.mjx._panda_mjcf import scene

# Modified Denavit-Hartenberg rows (a, d, alpha) of joints 1 to 7, as published.
DH = [
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
]
SPEC = EnvSpec("arm", 1, 1, 1, 0, (-1.0,), (1.0,), serial_chain=True)
OPTIONS = compiler_options(SPEC)
RNG = np.random.default_rng(0)
JOINTS = RNG.uniform(table.LOW, table.HIGH, (64, table.JOINTS))


def chain(q):
    """[4, 4] pose of the tool centre point by the DH table, in float64."""
    pose = np.eye(4)
    for angle, (a, d, alpha) in zip(q, DH, strict=True):
        turned, spun = np.eye(4), np.eye(4)
        turned[:3, :3] = Rotation.from_euler("x", alpha).as_matrix()
        turned[0, 3] = a
        spun[:3, :3] = Rotation.from_euler("z", angle).as_matrix()
        spun[2, 3] = d
        pose = pose @ turned @ spun
    tool = np.eye(4)
    tool[:3, :3] = Rotation.from_euler("z", -np.pi / 4).as_matrix()
    tool[2, 3] = 0.107 + 0.1034
    return pose @ tool


def compiled(fn):
    return jax.jit(jax.vmap(fn), compiler_options=OPTIONS)


@functools.cache
def arm():
    """The arm alone, as `reach` has it."""
    return panda.Panda(scene("", 0.01, fingers=False, iterations=None), substeps=5)


def test_forward_kinematics_are_those_of_the_table():
    position, rotation = compiled(kinematics.tcp)(jnp.asarray(JOINTS))
    expected = np.stack([chain(q) for q in JOINTS])
    np.testing.assert_allclose(position, expected[:, :3, 3], atol=2e-6)
    np.testing.assert_allclose(rotation, expected[:, :3, :3], atol=2e-6)


def test_jacobian_is_the_derivative():
    _, found = compiled(kinematics.jacobian)(jnp.asarray(JOINTS))
    h = 1e-6
    for q, jacobian in zip(JOINTS[:8], np.asarray(found)[:8], strict=True):
        for i, step in enumerate(h * np.eye(table.JOINTS)):
            a, b = chain(q - step), chain(q + step)
            spin = Rotation.from_matrix(b[:3, :3] @ a[:3, :3].T).as_rotvec()
            expected = np.concatenate([b[:3, 3] - a[:3, 3], spin]) / (2 * h)
            np.testing.assert_allclose(jacobian[:, i], expected, atol=2e-5)


def test_turns_are_those_of_scipy():
    vectors = RNG.uniform(-1.0, 1.0, (32, 3))
    vectors *= RNG.uniform(0.0, 3.0, (32, 1)) / np.linalg.norm(vectors, axis=1, keepdims=True)
    turned = np.asarray(jax.jit(jax.vmap(kinematics.turn))(jnp.asarray(vectors)))
    np.testing.assert_allclose(turned, Rotation.from_rotvec(vectors).as_matrix(), atol=1e-6)
    start = Rotation.random(32, rng=1).as_matrix()
    back = jax.jit(jax.vmap(kinematics.turn_between))(jnp.asarray(start), jnp.asarray(turned @ start))
    np.testing.assert_allclose(back, vectors, atol=2e-5)
    quats = np.asarray(jax.jit(jax.vmap(kinematics.quaternion))(jnp.asarray(start)))
    assert (quats[:, 0] >= 0).all()
    np.testing.assert_allclose(Rotation.from_quat(quats, scalar_first=True).as_matrix(), start, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(kinematics.matrix)(jnp.asarray(quats)), start, atol=1e-6)


@functools.cache
def two_steps():
    """Two steps of inverse kinematics for 32 poses at once."""
    rest = jnp.asarray(panda.REST)
    return compiled(lambda q, p, r: kinematics.solved(q, (p, r), rest, 2))


def solved(places, attitudes, calls):
    joints = jnp.tile(jnp.asarray(panda.REST), (len(places), 1))
    for _ in range(calls):
        joints = two_steps()(joints, jnp.asarray(places), jnp.asarray(attitudes))
    return np.asarray(joints)


def test_inverse_kinematics_converge():
    """From rest to poses within .1 m and .3 rad of it: to 1 mm and 2 mrad in 10 steps, joints in their ranges."""
    base = chain(np.asarray(panda.REST))
    places = base[:3, 3] + RNG.uniform(-0.1, 0.1, (32, 3))
    attitudes = Rotation.from_rotvec(RNG.uniform(-0.3, 0.3, (32, 3))).as_matrix() @ base[:3, :3]
    found = solved(places, attitudes, calls=5)
    poses = np.stack([chain(q) for q in found.astype(np.float64)])
    assert np.abs(poses[:, :3, 3] - places).max() < 1e-3
    angle = Rotation.from_matrix(np.swapaxes(poses[:, :3, :3], 1, 2) @ attitudes).magnitude()
    assert angle.max() < 2e-3
    assert (found >= table.LOW).all()
    assert (found <= table.HIGH).all()


def test_out_of_reach_joints_stay_in_their_ranges():
    found = solved(RNG.uniform(-3, 3, (32, 3)), np.tile(np.eye(3), (32, 1, 1)), calls=10)
    assert np.isfinite(found).all()
    assert (found >= table.LOW).all()
    assert (found <= table.HIGH).all()


def test_free_motion_is_that_of_mujoco():
    """100 steps of the physics under moving targets, twice 50 ms of them beyond a servo's torque."""
    body = arm().at_rest(jnp.asarray(panda.REST), jnp.asarray(panda.REST))
    targets = np.asarray(panda.REST) + RNG.uniform(-0.1, 0.1, (20, table.JOINTS)).cumsum(0)
    targets[10] += 0.3

    @functools.partial(jax.jit, compiler_options=OPTIONS)
    def ours(body, targets):
        def step(body, target):
            body = arm().advance(body, target)
            return body, (body.qpos, body.qvel)

        return jax.lax.scan(step, body, targets)[1]

    found, speed = ours(body, jnp.asarray(targets, jnp.float32))
    data, before = mujoco.MjData(arm().model), np.asarray(panda.REST)
    data.qpos[:] = before
    for i, target in enumerate(targets):
        for j in range(5):
            data.ctrl[:] = before + (target - before) * (j + 1) / 5
            mujoco.mj_step(arm().model, data)
        before = target
        np.testing.assert_allclose(found[i], data.qpos, atol=1e-5)
        np.testing.assert_allclose(speed[i], data.qvel, atol=3e-4)
    assert np.ptp(found, axis=0).min() > 0.1


def test_gaps_are_those_of_mujoco():
    """Capsules in random places, against `mj_geomDistance`."""
    ends = RNG.uniform(-1, 1, (40, 2, 2, 3))
    found = jax.jit(jax.vmap(lambda e: panda.gap_between((e[0, 0], e[0, 1]), (e[1, 0], e[1, 1]))))(
        jnp.asarray(ends)
    )
    for pair, gap in zip(ends, np.asarray(found), strict=True):
        geoms = "".join(
            f'<geom type="capsule" size=".01" fromto="{" ".join(map(str, ends.ravel()))}"/>' for ends in pair
        )
        model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{geoms}</worldbody></mujoco>")
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        assert gap == pytest.approx(mujoco.mj_geomDistance(model, data, 0, 1, 10.0, None) + 0.02, abs=2e-5)


def test_the_compiler_is_told_only_where_it_must_be(monkeypatch):
    plain = EnvSpec("none", 1, 1, 1, 0, (-1.0,), (1.0,))
    assert compiler_options(plain) == compiler_options(None) == {}
    monkeypatch.setattr(jax, "__version_info__", (0, 10, 2))
    assert compiler_options(SPEC) == {FUSION_EMITTERS: False}
    monkeypatch.setattr(jax, "__version_info__", (0, 11, 0))
    assert compiler_options(SPEC) == {}
    monkeypatch.setattr(jax, "__version_info__", (0, 10, 2))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options(SPEC) == {}
