"""Push-T against the original: trajectories, coverage, pictures and modes.

The golden trajectories were played in gym-pusht 0.1.8 on pymunk 6.11.1, everything at rest at START and each target
held for one step: agent x, y, block x, y, angle and coverage after it, rounded to four digits. For friction f both
shapes got sqrt(f), whose product the engine takes; damping is the space's, the moment the body's.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.envs.planar import _quasistatic as physics
from mmbc_jax.envs.planar import _tee, _tee_image
from mmbc_jax.envs.planar.push_t import KEYPOINTS, MODES
from tests.toys.products import spared

START = (150.0, 250.0, 256.0, 250.0, 0.5)
TARGETS = ((250, 270), (330, 300), (300, 280), (250, 200), (330, 180))
GOLDEN = {
    "": [
        (179.5672, 255.9134, 256.0, 250.0, 0.5, 0.5937),
        (235.2448, 271.1884, 283.9822, 254.4613, 0.6746, 0.2837),
        (271.1646, 278.7163, 323.7717, 269.5676, 0.8328, 0.0954),
        (272.0488, 256.3966, 336.2664, 269.3118, 0.9467, 0.0913),
        (286.7663, 224.9867, 351.2442, 273.293, 1.1644, 0.1167),
    ],
    "friction=0.5": [
        (179.5672, 255.9134, 256.0, 250.0, 0.5, 0.5937),
        (235.2448, 271.1884, 282.9685, 253.5548, 0.6783, 0.3008),
        (271.1646, 278.7163, 321.6782, 266.5613, 0.7627, 0.0946),
        (272.0488, 256.3966, 333.2569, 260.0972, 0.8707, 0.1107),
        (286.7663, 224.9867, 348.7509, 252.3591, 1.1092, 0.1556),
    ],
    "damping=0.3": [
        (179.5672, 255.9134, 256.0, 250.0, 0.5, 0.5937),
        (235.2448, 271.1884, 286.601, 257.7181, 0.7353, 0.2842),
        (271.1646, 278.7163, 343.6696, 287.2401, 0.9857, 0.0115),
        (272.0488, 256.3966, 392.2567, 314.7006, 1.2074, 0.0),
        (286.7663, 224.9867, 433.6149, 339.7158, 1.404, 0.0),
    ],
    "moment=9000.0": [
        (179.5672, 255.9134, 256.0, 250.0, 0.5, 0.5937),
        (235.2448, 271.1884, 281.916, 249.1273, 0.5694, 0.2628),
        (271.1646, 278.7163, 320.3082, 258.5762, 0.6154, 0.085),
        (272.0488, 256.3966, 334.5788, 249.4796, 0.6755, 0.0754),
        (286.7663, 224.9867, 356.1605, 235.2251, 0.8178, 0.1054),
    ],
}
# A corner of the bar is pressed against the left wall; the disc is led into the corner between bar and stem.
PLACES = {
    "wall": (
        (180.0, 262.0, 40.0, 250.0, -1.3),
        ((100, 262), (90, 262), (60, 262)),
        [
            (156.3463, 262.0, 37.8677, 249.431, -1.2191),
            (127.7704, 262.0, 37.486, 250.3329, -1.1134),
            (100.3613, 262.0, 36.7196, 259.0165, -1.0416),
        ],
    ),
    "corner": (
        (340.0, 330.0, 256.0, 250.0, 0.0),
        ((290, 300), (270, 290), (262, 270), (262, 240), (300, 250)),
        [
            (325.2164, 321.1298, 256.0, 250.0, 0.0),
            (303.291, 308.566, 256.0, 250.0, 0.0),
            (284.9355, 293.6989, 256.0, 250.0, 0.0),
            (273.5702, 273.5254, 236.8451, 235.0212, -0.1647),
            (278.8463, 260.584, 230.3623, 227.2548, -0.2598),
        ],
    ),
}


def build(**fields):
    return registry.build("env", config.plugin("env", "push_t", **fields))


@functools.cache
def programs(**fields):
    env = build(**fields)
    return env, jax.jit(env.step), jax.jit(env.reset_to)


def usual():
    return programs()


def box(target):
    return jnp.asarray(target, jnp.float32) / 256.0 - 1.0


def played(compiled, start, targets):
    """Disc, pose and coverage after each target."""
    _, step, reset_to = compiled
    state = reset_to(jnp.asarray(start, jnp.float32), jax.random.key(0))
    rows = []
    for target in targets:
        state = step(state, box(target))
        body = state.data["body"]
        rows.append([*body.disc, *body.block, state.metrics["coverage"]])
    return np.asarray(rows)


@pytest.mark.parametrize("changed", list(GOLDEN))
@spared("damping*", "moment*")
def test_it_moves_as_the_original(changed):
    fields = {name: float(value) for name, value in (pair.split("=") for pair in changed.split() if pair)}
    # Under friction, sweeps over two contacts that turn into one another end 4e-3 px from the original's.
    np.testing.assert_allclose(played(programs(**fields), START, TARGETS), GOLDEN[changed], atol=5e-3)


@pytest.mark.parametrize("place", list(PLACES))
def test_it_moves_as_the_original_where_contacts_are_many(place):
    start, targets, expected = PLACES[place]
    np.testing.assert_allclose(played(usual(), start, targets)[:, :5], expected, atol=0.02)


def test_perturbed_at_the_defaults_is_the_task():
    env = build().perturbed()
    assert {"moment", "friction", "damping"} <= set(env.default_params())
    compiled = env, jax.jit(env.step), jax.jit(env.reset_to)
    np.testing.assert_allclose(played(compiled, START, TARGETS), GOLDEN[""], atol=5e-3)


def test_a_mirrored_push_is_mirrored():
    # x -> 511 - x swaps the walls; the block's own mirror line turns to -angle.
    def mirrored(x):
        x = np.asarray(x, np.float64).copy()
        x[..., [0, 2]] = 511.0 - x[..., [0, 2]]
        x[..., 4] = -x[..., 4]
        return x

    targets = np.asarray(TARGETS, np.float64)
    there = played(usual(), START, targets)[:, :5]
    targets[:, 0] = 511.0 - targets[:, 0]
    back = played(usual(), mirrored(START), targets)[:, :5]
    np.testing.assert_allclose(back, mirrored(there), atol=2e-3)


def test_velocity_is_told_by_two_rows():
    body = physics.at_rest(
        jnp.asarray([100.0, 120.0]), jnp.asarray([70.0, -40.0]), jnp.asarray([300.0, 300.0, 0.3])
    )
    target = jnp.asarray([180.0, 60.0])
    after = jax.jit(physics.control_step)(body, target)
    found = physics.left_velocity(body.disc, after.disc, target)
    np.testing.assert_allclose(found, after.disc_velocity, atol=2e-2)


def clipped_area(pose, goal):
    """Area that two T's share, by clipping each box of one by the sides of each box of the other."""

    def corners(pose, half):
        (cx, cy), (hx, hy) = half
        local = np.asarray([(cx - hx, cy - hy), (cx + hx, cy - hy), (cx + hx, cy + hy), (cx - hx, cy + hy)])
        c, s = np.cos(pose[2]), np.sin(pose[2])
        return local @ np.asarray([[c, s], [-s, c]]) + np.asarray(pose[:2])

    total = 0.0
    for one in _tee.BOXES:
        for other in _tee.BOXES:
            polygon, cutter = list(corners(pose, one)), corners(goal, other)
            for a, b in zip(cutter, np.roll(cutter, -1, 0), strict=True):
                side = [(b - a)[0] * (p - a)[1] - (b - a)[1] * (p - a)[0] for p in polygon]
                kept = []
                for i, p in enumerate(polygon):
                    q, here, there = polygon[i - 1], side[i], side[i - 1]
                    if (here >= 0) != (there >= 0):
                        kept.append(q + (p - q) * there / (there - here))
                    if here >= 0:
                        kept.append(p)
                polygon = kept
            x, y = np.asarray(polygon or [(0, 0)]).T
            total += 0.5 * abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
    return total


def test_coverage_is_the_clipped_area():
    rng = np.random.default_rng(0)
    pose = np.c_[rng.normal(256, 40, (200, 2)), rng.uniform(-9, 9, 200)]
    goal = np.c_[rng.normal(256, 20, (200, 2)), rng.uniform(-9, 9, 200)]
    # Sides that are parallel, or nearly.
    goal[:50, 2] = pose[:50, 2] + np.repeat([0, np.pi / 2, np.pi, 1e-4, 0.02], 10)
    found = jax.jit(jax.vmap(_tee.coverage))(pose.astype(np.float32), goal.astype(np.float32))
    expected = [clipped_area(p, g) / 6300.0 for p, g in zip(pose, goal, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("moved", "expected"),
    [((0, 0, 0), 1.0), ((300, 0, 0), 0.0), ((0, 0, 2 * np.pi), 1.0), ((60, 0, 0), (60 * 30) / 6300)],
)
def test_coverage_in_simple_cases(moved, expected):
    # 60 px along the bar the bars share half of it, 60 x 30, and of the stems nothing touches.
    goal = jnp.asarray([256.0, 200.0, 0.0])
    assert float(_tee.coverage(goal + jnp.asarray(moved, jnp.float32), goal)) == pytest.approx(
        expected, abs=1e-5
    )


def test_reward_and_end():
    env, step, reset_to = usual()
    goal = (256.0, 256.0, float(np.pi / 4))
    done = step(reset_to(jnp.asarray([50.0, 50.0, *goal]), jax.random.key(0)), box((50, 50)))
    assert (float(done.reward), float(done.done), float(done.metrics["success"])) == (1.0, 1.0, 1.0)
    off = step(reset_to(jnp.asarray([50.0, 50.0, 276.0, 256.0, goal[2]]), jax.random.key(0)), box((50, 50)))
    covered = clipped_area((276.0, 256.0, goal[2]), goal) / 6300
    assert float(off.reward) == pytest.approx(covered / 0.95, abs=1e-4)
    assert float(off.done) == float(off.metrics["success"]) == 0.0
    assert env.spec.episode_length == 300


def test_the_goal_is_traced():
    env, step, _ = usual()
    params = env.default_params() | {"goal_x": jnp.asarray(356.0), "goal_y": jnp.asarray(356.0)}
    state = env.reset_to(jnp.asarray([50.0, 50.0, 356.0, 356.0, np.pi / 4]), jax.random.key(0), params)
    assert float(step(state, box((50, 50))).metrics["success"]) == 1.0


@pytest.mark.parametrize("name", MODES)
def test_mode_is_the_side_and_the_way_round(name):
    # The block stands upright, its left at smaller x; round it from above or below, then sideways into its stem.
    left, anticlockwise = name.startswith("left"), name.endswith("-ccw")
    x = 150.0 if left else 362.0
    start_y, end_y = (200.0, 320.0) if left == anticlockwise else (430.0, 320.0)  # y points down
    env, step, reset_to = usual()
    goal = {"goal_y": jnp.asarray(250.0), "goal_angle": jnp.zeros(())}
    state = env.reset_to(
        jnp.asarray([x, start_y, 256.0, 250.0, 0.0]), jax.random.key(0), env.default_params() | goal
    )
    for target in [(x, end_y)] * 5 + [(256.0, end_y)] * 5:
        state = step(state, box(target))
        if bool(state.data["body"].touched):
            break
        assert int(state.data["way"]) == -1
    assert bool(state.data["body"].touched)
    assert MODES[int(state.data["way"])] == name
    assert int(state.info["mode"]) == (int(state.data["way"]) if float(state.metrics["success"]) else -1)


def test_starts_are_those_of_the_original():
    env = build()
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 2000))
    disc, pose = (np.asarray(x, np.float64) for x in (states.data["body"].disc, states.data["body"].block))
    assert disc.min() >= 50
    assert disc.max() <= 449
    # Turned about (0, 45): from (20, 30) by 1 rad to 20 + 45 sin 1 and 30 + 45 - 45 cos 1, as documented there.
    place = pose[:, :2] + 45.0 * np.c_[-np.sin(pose[:, 2]), np.cos(pose[:, 2])] - [0.0, 45.0]
    np.testing.assert_allclose(place, np.round(place), atol=1e-3)
    assert place.min() >= 99.99
    assert place.max() <= 399.01
    for values, low, high in ((disc, 50, 449), (place, 100, 399), (pose[:, 2], -np.pi, np.pi)):
        # The mean of n uniform numbers, within 5 standard errors.
        assert abs(values.mean() - (low + high) / 2) < 5 * (high - low) / np.sqrt(12 * values.size)


def test_keypoints_tell_the_pose():
    env = build(observe="keypoints")
    pose = jnp.asarray([210.0, 330.0, 2.5])
    obs = jnp.concatenate([_tee.placed(pose, KEYPOINTS).ravel(), jnp.asarray([40.0, 50.0])])
    state = env.reset_to(obs, jax.random.key(0))
    np.testing.assert_allclose(state.data["body"].block, pose, atol=1e-3)
    np.testing.assert_allclose(state.obs, obs, atol=1e-3)
    with pytest.raises(ConfigError, match="state or keypoints"):
        build(observe="image").reset_to(obs, jax.random.key(0))


def test_picture():
    image = np.asarray(_tee_image.render(jnp.asarray([80.0, 80.0]), 15.0, jnp.asarray([400.0, 100.0, 0.0]),
                                         jnp.asarray([256.0, 256.0, 0.0])))  # fmt: skip
    assert image.shape == (96, 96, 3)
    assert image.dtype == np.uint8
    seen = {
        (80, 80): _tee_image.DISC,
        (400, 115): _tee_image.BLOCK,
        (400, 180): _tee_image.BLOCK,
        (256, 270): _tee_image.GOAL,
        (256, 360): _tee_image.GOAL,
        (330, 180): (255, 255, 255),
    }
    for (x, y), colour in seen.items():
        assert tuple(image[int(y * 96 / 512), int(x * 96 / 512)]) == colour


def test_drawing():
    ax = Figure().add_subplot()
    build().draw(ax)
    assert ax.get_ylim() == (512, 0)


def test_bounds_of_the_start_are_checked():
    with pytest.raises(ConfigError, match="disc_high"):
        build(disc_low=300.0, disc_high=200.0)


@pytest.fixture(scope="module")
def human(shared_data):
    path = shared_data / "pusht" / "pusht_human_164.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


def test_recorded_keypoints(human):
    rows = np.arange(0, len(human["state"]), 97)
    found = jax.vmap(lambda pose: _tee.placed(pose, KEYPOINTS).ravel())(human["state"][rows, 2:])
    error = np.abs(np.asarray(found) - human["keypoint"][rows]).max(-1)
    assert np.percentile(error, 98) < 0.05  # all rows: 0.04 at 99 %, 2 px at worst


def test_recorded_pictures(human, shared_data):
    path = shared_data / "pusht" / "pusht_human_164_images.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with np.load(path, allow_pickle=False) as arrays:
        recorded = arrays["image"][::400].astype(np.float64)
    goal = jnp.asarray([256.0, 256.0, np.pi / 4])
    state = human["state"][::400]
    drawn = np.asarray(
        jax.jit(jax.vmap(lambda s: _tee_image.render(s[:2], 15.0, s[2:], goal)))(state), np.float64
    )
    assert np.abs(drawn - recorded).mean() < 0.4  # of 255; an empty picture is off by 5.7
    for what in (
        lambda x: x[..., 2] - x[..., 0] > 100,
        lambda x: (x[..., 1] - x[..., 0] < 40) & (x[..., 0] < 200),
    ):
        grid = np.stack(np.mgrid[:96, :96], -1)
        masks = [what(x)[..., None] for x in (drawn, recorded)]
        place = [(m * grid).sum((1, 2)) / np.maximum(m.sum((1, 2)), 1) for m in masks]
        assert np.abs(place[0] - place[1]).max() < 1.0  # px of the picture


@pytest.mark.slow
def test_modes_of_the_recordings(human):
    """Side of the first contact: 77 left and 87 right of 164 (99 and 107 of all 206), turns 70 to 76 each way."""
    starts = np.r_[0, human["episode_ends"][:-1]]
    lengths = human["episode_ends"] - starts
    rows = starts[:, None] + np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)
    env, _, _ = usual()
    action = human["action"][rows] / 256.0 - 1.0

    @jax.jit
    @jax.vmap
    def way(first, action):
        state = env.reset_to(first, jax.random.key(0))
        return jax.lax.scan(lambda s, a: (env.step(s, a), None), state, action)[0].data["way"]

    ways = np.asarray(way(human["state"][starts], action))
    counts = np.bincount(ways, minlength=4)
    assert counts.sum() == 164
    assert abs(counts[:2].sum() - 77) <= 2
    assert abs(counts[[0, 2]].sum() - 82) <= 8
