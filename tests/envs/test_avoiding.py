from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.envs import wrappers
from mmbc_jax.envs.mjx import _rod as _tracking
from mmbc_jax.envs.mjx import avoiding

XML = Path(avoiding.__file__).with_name("avoiding.xml")
CENTRES = [(0.5, -0.1), (0.425, 0.08), (0.575, 0.08), (0.35, 0.26), (0.5, 0.26), (0.65, 0.26)]
OBSTACLES = np.column_stack([np.array(CENTRES), [0.03] + 5 * [0.025]])


@functools.cache
def build(rules="d3il", **fields):
    return registry.build("env", config.plugin("env", "avoiding", rules=rules, **fields))


@functools.cache
def compiled(rules):
    env = build(rules)
    return jax.jit(env.reset), jax.jit(env.step), jax.jit(env.reset_to)


def place(rules, x, y):
    reset_to = compiled(rules)[2]
    return reset_to(jnp.array([x, y, x, y], jnp.float32), jax.random.key(0))


def reference_path(start, actions):
    """The recurrence of the calibration in float64, per axis: measured positions after each action."""
    a, b0, b1 = np.array([0.6358, 0.8027]), np.array([0.3951, 0.2152]), np.array([-0.3457, -0.1796])
    d, c, dc, path = np.array(start), np.array(start), np.zeros(2), []
    for action in actions:
        new = d + 0.01 * np.clip(action, -1, 1)
        dc = a * dc + b0 * (new - c) + b1 * (d - c)
        c, d = c + dc, new
        path.append(c)
    return np.array(path)


def test_free_motion_is_the_calibrated_recurrence():
    actions = np.random.default_rng(0).uniform(-1.2, 1.2, (25, 2))
    _, step, _ = compiled("d3il")
    state = place("d3il", 0.525, -0.28)
    path, command = [], []
    for action in actions:
        state = step(state, jnp.asarray(action, jnp.float32))
        path.append(np.asarray(state.obs[2:]))
        command.append(np.asarray(state.obs[:2]))
    np.testing.assert_allclose(path, reference_path((0.525, -0.28), actions), atol=2e-6)
    expected = np.array([0.525, -0.28]) + 0.01 * np.clip(actions, -1, 1).cumsum(0)
    np.testing.assert_allclose(command, expected, atol=1e-6)


def test_step_response_matches_the_measured_arm():
    """A held 2 cm step in y: the arm overshot, with its peak at step 12, and was at 1.01 after 80 steps."""
    tracker = build().rod

    @jax.jit
    def respond():
        target = jnp.array([0.2, -0.48])
        rod = tracker.at_rest(jnp.array([0.2, -0.5]))
        rod = tracker.step(rod, jnp.array([0.2, -0.5]), target)
        follow = lambda r, _: (tracker.step(r, target, target), r.position[1])  # noqa: E731
        return jax.lax.scan(follow, rod, None, length=80)

    response = (np.asarray(respond()[1]) + 0.5) / 0.02
    assert response.max() > 1.1  # underdamped
    assert 6 <= response.argmax() <= 16
    assert abs(response[-1] - 1.0) < 0.05


def test_collision_is_the_closed_form_on_a_grid():
    x, y = np.meshgrid(np.linspace(0.28, 0.72, 89), np.linspace(-0.16, 0.32, 97))
    points = np.stack([x.ravel(), y.ravel()], -1)
    distance = np.asarray(jax.jit(jax.vmap(build().rod.at_rest))(jnp.asarray(points, jnp.float32)).distance)
    expected = np.linalg.norm(points[:, None] - OBSTACLES[:, :2], axis=-1) - OBSTACLES[:, 2] - 0.01
    np.testing.assert_allclose(distance, expected, atol=5e-6)  # 2.5e-6 where centres coincide
    clear = np.abs(expected.min(1)) > 1e-5
    assert ((distance.min(1) < 0) == (expected.min(1) < 0))[clear].all()
    assert (expected.min(1) < 0).sum() > 300
    np.testing.assert_allclose(build().rod.obstacles, OBSTACLES)


def test_contact_counts_at_the_new_position_of_the_same_step():
    _, step, _ = compiled("d3il")
    # 1.2 mm below touching obstacle l1 (0.03 + 0.01 below its centre); one full step moves c by 0.2152 * 1 cm
    state = place("d3il", 0.5, -0.1412)
    after = step(state, jnp.array([0.0, 1.0]))
    gap = 0.0012 - 0.2152 * 0.01
    np.testing.assert_allclose(after.data["rod"].distance.min(), gap, atol=1e-6)
    assert (float(after.done), float(after.metrics["success"]), int(after.info["mode"])) == (1.0, 0.0, -1)
    assert float(step(state, jnp.array([0.0, 0.5])).done) == 0.0  # 1.2 - 1.076 mm is left


def test_parity_with_c_mujoco_in_contact():
    """Driven into the first obstacle and along it, forces computed from the same recurrence in float64."""
    model = mujoco.MjModel.from_xml_path(str(XML))
    data = mujoco.MjData(model)
    start = np.array([0.51, -0.16])
    data.qpos[:] = start
    rng = np.random.default_rng(1)
    actions = np.array([0.1, 0.7]) + 0.3 * rng.standard_normal((40, 2))
    command, path, contacts = start.copy(), [], 0
    for action in actions:
        new = command + 0.01 * np.clip(action, -1, 1)
        old = data.qvel * model.opt.timestep
        step = (
            _tracking.LAG * old
            + _tracking.GAIN_NEW * (new - data.qpos)
            + _tracking.GAIN_OLD * (command - data.qpos)
        )
        data.qfrc_applied[:] = (step - old) / model.opt.timestep**2  # the rod weighs 1 kg
        mujoco.mj_step(model, data)
        contacts += data.ncon > 0
        command = new
        path.append(data.qpos.copy())
    env = build("dppo")
    state = place("dppo", *start)
    run = jax.jit(lambda s, a: jax.lax.scan(lambda s, a: (n := env.step(s, a), n.obs[2:]), s, a))
    last, mine = run(state, jnp.asarray(actions, jnp.float32))
    assert contacts >= 5
    assert float(last.metrics["contact"]) == 1.0
    free = reference_path(start, actions)
    assert np.abs(np.array(path) - free).max() > 2e-3  # the obstacle did push back
    np.testing.assert_allclose(mine, path, atol=2e-5)


def test_solving_contacts_changes_nothing_before_the_first_one():
    actions = jnp.asarray(np.random.default_rng(2).uniform(-0.3, 1.0, (25, 2)), jnp.float32)
    paths = []
    for rules in ("d3il", "dppo"):
        env = build(rules)
        run = jax.jit(lambda s, a, env=env: jax.lax.scan(lambda s, a: (n := env.step(s, a), n.obs), s, a))
        last, path = run(place(rules, 0.6, -0.28), actions)
        assert float(last.metrics["contact"]) == 0.0
        paths.append(np.asarray(path))
    np.testing.assert_allclose(*paths, atol=1e-6)


def test_a_moved_obstacle_changes_the_outcome(tmp_path):
    moved = tmp_path / "moved.xml"
    moved.write_text(XML.read_text().replace('pos="0.5 -0.1 0"', 'pos="0.525 -0.27 0"'))
    assert moved.read_text() != XML.read_text()
    step = jax.jit(build(xml_path=str(moved)).step)
    reset = jax.jit(build(xml_path=str(moved)).reset)
    state = step(reset(jax.random.key(0)), jnp.array([0.0, 0.0]))
    assert (float(state.done), float(state.metrics["contact"])) == (1.0, 1.0)
    state = compiled("d3il")[1](compiled("d3il")[0](jax.random.key(0)), jnp.array([0.0, 0.0]))
    assert (float(state.done), float(state.metrics["contact"])) == (0.0, 0.0)


@functools.cache
def expert_rollout(rules, noise, repeats):
    env = build(rules)
    batched = wrappers.make(env, autoreset=None)
    modes = jnp.tile(jnp.arange(24), repeats)
    expert = jax.vmap(env.expert, (0, 0, None))
    quiet = jax.random.key(0)

    @jax.jit
    def run(key):
        reset_key, noise_key = jax.random.split(key)

        def body(state, key):
            action = expert(state, modes, quiet)
            action = action + noise * jax.random.normal(key, action.shape)
            return batched.step(state, action[:, None]), (state.obs, action)

        state = batched.reset(jax.random.split(reset_key, len(modes)))
        return jax.lax.scan(body, state, jax.random.split(noise_key, env.spec.episode_length))

    with jax.debug_key_reuse(False):  # the expert takes a key but draws nothing
        last, (obs, action) = run(jax.random.key(3))
    return env, np.asarray(modes), last, np.asarray(obs), np.asarray(action)


@pytest.mark.parametrize("rules", ["d3il", pytest.param("dppo", marks=pytest.mark.slow)])
def test_expert_reaches_all_24_modes(rules):
    env, modes, last, obs, action = expert_rollout(rules, 0.0, 1)
    np.testing.assert_array_equal(last.info["mode"], modes)
    assert (np.asarray(last.metrics["success"]) == 1).all()
    assert np.abs(action).max() < 1.0
    if rules == "d3il":
        steps = np.asarray(last.info["steps"])
        assert steps.min() >= 75
        assert steps.max() <= 120
        labels = jax.vmap(env.label)(jnp.asarray(obs[:, :, 2:].transpose(1, 0, 2)))
        np.testing.assert_array_equal(labels, modes)  # judged from the whole path at once


@pytest.mark.parametrize(
    ("rules", "noise"), [("d3il", 0.3), pytest.param("dppo", 0.1, marks=pytest.mark.slow)]
)
def test_expert_survives_the_noise_of_collection(rules, noise):
    # 24 modes x 20: at a true rate of 0.99 fewer than 0.97 * 480 successes is more than 4 sigma away
    _, modes, last, _, _ = expert_rollout(rules, noise, 20)
    assert (np.asarray(last.info["mode"]) == modes).mean() >= 0.97


def test_modes_share_the_way_through_shared_gaps():
    """Modes that differ only in the last row are in one place until they leave the second."""
    _, modes, _, obs, _ = expert_rollout("d3il", 0.0, 1)
    same = (modes // 4) == 0
    before = (obs[:, same, 1] < 0.1).all(1)
    assert before.sum() > 40
    assert np.ptp(obs[before][:, same], axis=1).max() < 1e-5
    assert np.ptp(obs[-1, same, 0]) > 0.3


def test_dppo_rules_reward_and_late_failure():
    _, step, _ = compiled("dppo")
    still = jnp.zeros(2)
    cases = {
        (0.525, 0.0): 0.0,
        (0.15, 0.0): -0.1,  # x < 0.2
        (0.85, 0.0): -0.1,  # x > 0.8
        (0.7, 0.42): 1.0,  # y > 0.4
        (0.5, -0.1): -0.1,  # in contact
        (0.1, 0.42): 0.9,
    }
    for (x, y), reward in cases.items():
        state = step(place("dppo", x, y), still)
        np.testing.assert_allclose(state.reward, reward, atol=1e-6)
        assert float(state.done) == 0.0
    state = step(place("dppo", 0.65, 0.36), still)
    assert float(state.metrics["success"]) == 1.0
    for _ in range(12):  # back down into the obstacle at (0.65, 0.26)
        state = step(state, jnp.array([0.0, -1.0]))
    assert (float(state.metrics["contact"]), float(state.metrics["success"])) == (1.0, 0.0)
    np.testing.assert_allclose(state.reward, -0.1, atol=1e-6)
    for _ in range(16):  # and away again: the contact is remembered
        state = step(state, jnp.array([0.0, 1.0]))
    assert float(state.obs[3]) > 0.35
    assert (float(state.metrics["success"]), int(state.info["mode"])) == (0.0, -1)


def test_d3il_rules_pay_once_at_the_finish():
    reset, step, _ = compiled("d3il")
    state = step(place("d3il", 0.7, 0.348), jnp.array([0.0, 1.0]))
    # c moves by 0.2152 cm: 0.348 + 0.002152 > 0.35
    assert (float(state.done), float(state.reward), float(state.metrics["success"])) == (1.0, 1.0, 1.0)
    assert int(state.info["mode"]) == -1  # success, but it never crossed the first two rows
    params = build().default_params() | {"success_reward": jnp.asarray(2.5)}
    start = reset(jax.random.key(0), params)
    start = start.replace(data=place("d3il", 0.7, 0.348).data)
    assert float(step(start, jnp.array([0.0, 1.0])).reward) == 2.5


@pytest.mark.parametrize(("rules", "y"), [("d3il", 0.348), ("dppo", 0.42)])
@pytest.mark.parametrize(("side", "paid"), [(-1, 2.5), (0, 2.5), (1, 2.5 * 0.8)])
def test_one_side_pays_its_share(rules, y, side, paid):
    """Judged by the first row that was passed; -1 is a path that was put beyond it."""
    reset, step, _ = compiled(rules)
    set_to = {"success_reward": jnp.asarray(2.5), "right_share": jnp.asarray(0.8)}
    data = place(rules, 0.7, y).data
    data["rows"] = jnp.array([side, 1, 3], jnp.int32)
    state = reset(jax.random.key(0), build(rules).default_params() | set_to).replace(data=data)
    np.testing.assert_allclose(step(state, jnp.array([0.0, 1.0])).reward, paid, rtol=1e-6)


def test_row_crossings_follow_the_published_splits():
    path = np.array(
        [(0.6, -0.28), (0.45, -0.13), (0.7, -0.08), (0.5, 0.06), (0.6, 0.1), (0.34, 0.27), (0.6, 0.3)]
    )
    # row 1 left at (0.45, -0.13) = 0, row 2 middle at (0.5, 0.06) = 1, row 3 left of 0.35 = 0: 12*0 + 4*1 + 0
    assert int(build().label(jnp.asarray(path))) == 4
    assert int(build().label(jnp.asarray(path[:5]))) == -1
    assert build().spec.mode_names[4] == "L-2-1"


def test_noises_do_what_they_say():
    env = build()
    names = env.default_params()
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    quiet = reset(jax.random.key(0))
    np.testing.assert_allclose(quiet.obs, [0.52492845, -0.27973673] * 2, rtol=1e-6)
    moved = reset(jax.random.key(0), names | {"start_noise": jnp.asarray(0.01)})
    assert 1e-4 < float(jnp.abs(moved.obs - quiet.obs).max()) < 0.06
    np.testing.assert_array_equal(moved.obs[:2], moved.obs[2:])
    seen = reset(jax.random.key(0), names | {"obs_noise": jnp.asarray(0.01)})
    stepped, plain = step(seen, jnp.zeros(2)), step(quiet, jnp.zeros(2))
    np.testing.assert_array_equal(stepped.obs[:2], plain.obs[:2])
    assert float(jnp.abs(stepped.obs[2:] - plain.obs[2:]).min()) > 1e-5
    np.testing.assert_array_equal(stepped.data["rod"].position, plain.data["rod"].position)
    shaken = step(reset(jax.random.key(0), names | {"action_noise": jnp.asarray(0.5)}), jnp.zeros(2))
    assert 1e-5 < float(jnp.abs(shaken.obs[:2] - plain.obs[:2]).max()) <= 0.01 + 1e-6


@pytest.mark.parametrize(
    ("fields", "what"),
    [({"rules": "d4il"}, "d3il"), ({"obs_noise": -1.0}, "obs_noise"), ({"xml_path": "/no.xml"}, "packaged")],
)
def test_bad_config_is_refused(fields, what):
    with pytest.raises(ConfigError, match=what):
        registry.build("env", config.plugin("env", "avoiding", **fields))


@pytest.mark.parametrize("text", ["<mujoco>", "<mujoco><worldbody><geom size='1'/></worldbody></mujoco>"])
def test_a_scene_of_another_structure_is_refused(tmp_path, text):
    (tmp_path / "scene.xml").write_text(text)
    with pytest.raises(ConfigError, match="xml_path"):
        registry.build("env", config.plugin("env", "avoiding", xml_path=str(tmp_path / "scene.xml")))
