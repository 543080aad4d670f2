"""Avoiding with an arm: its posture, its servos against C MuJoCo, the recordings, and that nothing else can touch."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mmbc_jax import replay
from mmbc_jax.core import config, registry
from mmbc_jax.core.compiling import jit
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.data.load import load
from mmbc_jax.envs import wrappers
from mmbc_jax.envs.mjx import _arm_rod as arm_rod
from mmbc_jax.envs.mjx import _panda_table as table

STEPS = 30
DOWN = np.diag([1.0, -1.0, -1.0])


@functools.cache
def build(**fields):
    return registry.build("env", config.plugin("env", "avoiding_arm", **fields))


@functools.cache
def at_rest():
    return jit(jax.vmap(build().rod.at_rest), build().spec)


def commands(seed):
    """[STEPS + 1, 2] m: a way from the start that turns at every step, up to 1 cm an axis."""
    moves = np.random.default_rng(seed).uniform([-0.01, -0.004], 0.01, (STEPS, 2))
    return np.array([0.525, -0.28]) + np.concatenate([np.zeros((1, 2)), moves.cumsum(0)])


def poses(joints):
    """([N, 3], [N, 3, 3]) of the tool centre point, by C MuJoCo."""
    model = build().scene
    data, found = mujoco.MjData(model), []
    for q in joints:
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        found.append((data.site("tcp").xpos.copy(), data.site("tcp").xmat.reshape(3, 3).copy()))
    return tuple(np.array(part) for part in zip(*found, strict=True))


def test_at_rest_the_hand_is_down_over_its_place():
    """Over the scene to 0.1 mm and 1 mrad, in one upright plane; beyond the ring in its direction, at the edge."""
    x, y = np.meshgrid(np.linspace(0.25, 0.7, 8), np.linspace(-0.3, 0.35, 8))
    places = np.stack([x.ravel(), y.ravel()], -1)
    places = np.concatenate([places[np.hypot(*places.T) > 0.32], [(1.2, 0.9), (0.72, 0.54)]])
    rod = at_rest()(jnp.asarray(places, jnp.float32))
    places[-2:] *= (0.805 / np.hypot(*places[-2:].T))[:, None]
    joints = np.asarray(rod.body.qpos)
    position, attitude = poses(joints)
    np.testing.assert_allclose(position[:, :2], places, atol=1e-4)
    np.testing.assert_allclose(position[:, 2], 0.12, atol=1e-4)
    assert Rotation.from_matrix(attitude @ DOWN).magnitude().max() < 1e-3
    assert np.abs(joints[:, arm_rod.TWISTS]).max() < 1e-3
    np.testing.assert_allclose(rod.position, position[:, :2], atol=1e-5)
    assert (joints > table.LOW).all()
    assert (joints < table.HIGH).all()


@functools.cache
def followed():
    """Two ways of the bare rod: (joints, targets, positions, gaps) after each step, [STEPS, 2, ..]."""
    rod = build().rod

    def run(ways):
        def step(state, pair):
            state = jax.vmap(rod.step)(state, *pair)
            return state, (state.body.qpos, state.body.target, state.position, state.distance)

        return jax.lax.scan(step, jax.vmap(rod.at_rest)(ways[0]), (ways[:-1], ways[1:]))[1]

    ways = np.stack([commands(0), commands(1)], 1)
    return ways, jax.tree.map(np.asarray, jit(run, build().spec)(jnp.asarray(ways, jnp.float32)))


@pytest.mark.slow
def test_servos_follow_with_the_gains_of_the_original():
    """C MuJoCo, its actuators off, under torques K (q* - q) + D q*' by hand; - D q' is the damping of the joints."""
    stiffness, damping = np.array([120.0] * 4 + [50, 30, 10]), np.array([10.0] * 4 + [6, 5, 3])
    ways, (joints, targets, _, _) = followed()
    model = mujoco.MjModel.from_xml_string(build().rod.panda.text)
    assert model.opt.timestep * 5 == pytest.approx(0.035)
    model.actuator_gainprm[:] = model.actuator_biasprm[:] = 0.0
    model.dof_damping[:] = damping
    start = np.asarray(at_rest()(jnp.asarray(np.tile(ways[0], (33, 1)), jnp.float32)).body.qpos)
    for i in range(2):
        data, before = mujoco.MjData(model), start[i]
        data.qpos[:] = before
        for step, target in enumerate(targets[:, i]):
            rate = (target - before) / 0.035
            for j in range(5):
                now = before + (target - before) * (j + 1) / 5
                torque = stiffness * (now - data.qpos) + damping * rate
                data.qfrc_applied[:] = np.clip(torque, -table.TORQUE, table.TORQUE)
                mujoco.mj_step(model, data)
            before = target
            np.testing.assert_allclose(joints[step, i], data.qpos, atol=2e-5)
    assert np.ptp(joints, axis=0).max() > 0.1


def test_targets_are_under_the_command_and_gaps_are_in_the_plane():
    ways, (joints, targets, position, distance) = followed()
    for i in range(2):
        wanted, attitude = poses(targets[:, i])
        np.testing.assert_allclose(wanted, np.c_[ways[1:, i], np.full(STEPS, 0.12)], atol=2e-4)
        assert Rotation.from_matrix(attitude @ DOWN).magnitude().max() < 1e-3
        found, _ = poses(joints[:, i])
        np.testing.assert_allclose(position[:, i], found[:, :2], atol=1e-5)
        assert np.abs(found[:, 2] - 0.12).max() < 0.02  # above the obstacles, which end at 0.1
        gaps = np.linalg.norm(found[:, None, :2] - build().rod.obstacles[:, :2], axis=-1)
        np.testing.assert_allclose(
            distance[:, i], gaps - build().rod.obstacles[:, 2] - build().rod.radius, atol=1e-5
        )
    lag = np.linalg.norm(position - ways[1:], axis=-1).mean()
    assert 0.003 < lag < 0.015


@pytest.mark.parametrize(
    ("fields", "what"),
    [({"rules": "d4il"}, "d3il"), ({"locked": 8}, "locked"), ({"block_x": 0.6}, "block_radius")],
)
def test_bad_config_is_refused(fields, what):
    with pytest.raises(ConfigError, match=what):
        build(**fields)


@pytest.mark.slow
def test_the_recordings_of_the_original(shared_data):
    path = shared_data / "avoiding" / "d3il_avoiding_scripted_72.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    result = replay.replay(build(), load(path))
    assert (result["episodes"], result["mode_agreement"], result["contacts"]) == (72, 72, 0)
    assert result["median_error_mean_mm"] <= 3.0
    assert result["median_error_max_mm"] <= 6.0


@functools.cache
def player(rules, further):
    env = build(rules=rules).perturbed() if further else build(rules=rules)
    batched = wrappers.make(env, autoreset=None)

    def run(key, modes, noise, params):
        start_key, steps_key, expert_key = jax.random.split(key, 3)

        def step(state, key):
            action = jax.vmap(env.expert, (0, 0, None))(state, modes, expert_key)
            action = action + noise * jax.random.normal(key, action.shape)
            state = batched.step(state, action[:, None])
            return state, (state.obs, state.reward, state.data["rod"].body.qpos)

        state = batched.reset(jax.random.split(start_key, len(modes)), params)
        return jax.lax.scan(step, state, jax.random.split(steps_key, 100 if rules == "dppo" else 130))

    return env, jit(run, env.spec)


def played(rules="d3il", noise=0.0, further=False, **params):
    env, run = player(rules, further)
    modes = np.arange(96) % 24
    params = env.default_params() | {name: jnp.asarray(value) for name, value in params.items()}
    with jax.debug_key_reuse(False):  # the expert takes a key but draws nothing
        last, trace = run(jax.random.key(3), jnp.asarray(modes), noise, params)
    return modes, last, jax.tree.map(np.asarray, trace)


@pytest.mark.slow
@pytest.mark.parametrize(("rules", "noise"), [("d3il", 0.0), ("d3il", 0.3), ("dppo", 0.0), ("dppo", 0.1)])
def test_expert_reaches_all_24_modes_and_only_the_rod_is_low(rules, noise):
    modes, last, (_, reward, joints) = played(rules, noise)
    mode = np.asarray(last.info["final_mode"])
    assert (mode == modes).mean() >= 0.97
    if rules == "dppo" and not noise:
        assert (reward[-1] == 1.0).all()  # also in the outermost lanes, at the edge of what the arm reaches
    position, attitude = poses(joints[:, ::5].reshape(-1, table.JOINTS))
    assert position[:, 2].min() > arm_rod.TOP
    tilt = Rotation.from_matrix(attitude @ DOWN).magnitude()
    assert np.degrees(tilt).max() < 4.0


@pytest.mark.slow
def test_perturbations_act_and_neutral_ones_do_not():
    plain = played()[2][0]
    neutral = played(further=True)[2][0]
    np.testing.assert_allclose(neutral[:70], plain[:70], atol=2e-4)
    for name, value in {"mass": 2.0, "damping": 10.0, "friction": 3.0, "locked": 1}.items():
        changed = played(further=True, **{name: value})[2][0]
        assert np.abs(changed[:10] - plain[:10]).max() > 1e-3, name
    _, last, _ = played(further=True, block_x=0.44, block_y=-0.1, block_radius=0.03)
    good = np.asarray(last.metrics["success"]).reshape(4, 24)
    assert good[:, :12].max() == 0.0  # the ways on the left of the first obstacle are blocked
    assert good[:, 12:].min() == 1.0


@pytest.mark.slow
def test_an_obstacle_is_a_contact_that_does_not_push():
    """Straight at the first obstacle: it ends a d3il episode; under dppo the rod goes through, and has failed."""
    for rules, steps in (("d3il", 25), ("dppo", 60)):
        env = build(rules=rules)
        step = jit(env.step, env.spec)
        state = jit(env.reset_to, env.spec)(jnp.array([0.51, -0.2, 0.51, -0.2]), jax.random.key(0))
        for _ in range(steps):
            state = step(state, jnp.array([0.0, 0.8]))
            if state.done:
                break
        assert (float(state.metrics["contact"]), float(state.metrics["success"])) == (1.0, 0.0)
        assert int(state.info["mode"]) == -1
        if rules == "d3il":
            assert float(state.done) == 1.0
            assert float(state.obs[3]) < -0.13
        else:
            assert float(state.obs[3]) > 0.2
            np.testing.assert_allclose(state.reward, -0.1, atol=1e-6)
