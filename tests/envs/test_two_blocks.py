"""Block push and Pushing: starts, rewards, labels, and an expert that reaches every order."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.envs.planar import _two_blocks, block_push, pushing
from tests.envs._played import reached
from tests.toys.products import spared

TARGETS = {"block_push": ((0.28, 0.2), (0.52, 0.2)), "pushing": pushing.TARGETS}
FAR = (0.4, -0.1)


def key():
    """One that nothing has used; nothing is drawn from it where a state is set."""
    return jax.random.key(0)


def build(name, **fields):
    return registry.build("env", config.plugin("env", name, **fields))


@functools.cache
def programs(name, **fields):
    env = build(name, **fields)
    return env, jax.jit(env.step), jax.jit(env.reset_to)


def seen(name, first, second, tool=(0.3, -0.4)):
    """The observation with the two blocks at these places, all angles .1."""
    blocks = [*first, 0.1, *second, 0.1]
    if name == "pushing":
        return jnp.asarray([*tool, *tool, *blocks])
    return jnp.asarray([*blocks, *tool, *tool, *TARGETS[name][0], 0.1, *TARGETS[name][1], 0.1])


def carried(state, place, block):
    """The state with a block elsewhere."""
    blocks = state.data["blocks"].at[block, :2].set(jnp.asarray(place))
    return state.replace(data=state.data | {"blocks": blocks})


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("name", list(TARGETS))
def test_labels_and_rewards(name, mode):
    """One block is carried to its target and then the other; names say which and where."""
    env, step, reset_to = programs(name)
    crossed, first = mode // 2, mode % 2
    state, rest = reset_to(seen(name, FAR, (0.55, -0.1)), key()), jnp.zeros(2)
    rewards = []
    for block in (first, 1 - first):
        x, y = TARGETS[name][block ^ crossed]
        state = step(carried(state, (x + 0.03, y - 0.03), block), rest)
        rewards.append(float(state.reward))
        if block == first:
            assert (int(state.info["mode"]), float(state.done), float(state.metrics["inside"])) == (
                -1,
                0.0,
                1.0,
            )
            state = step(state, rest)
            assert float(state.reward) == 0.0  # only the first entry is paid
    assert int(state.info["mode"]) == mode
    assert float(state.done) == float(state.metrics["success"]) == 1.0
    np.testing.assert_allclose(rewards, [0.49, 0.51] if name == "block_push" else [0.0, 1.0], rtol=1e-6)
    names = {
        "pushing": ("rr-gg", "gg-rr", "rg-gr", "gr-rg"),
        "block_push": ("1A-2B", "2B-1A", "1B-2A", "2A-1B"),
    }
    assert env.spec.mode_names == names[name]


@pytest.mark.parametrize("name", list(TARGETS))
def test_both_in_one_target_is_no_success(name):
    _, step, reset_to = programs(name)
    x, y = TARGETS[name][0]
    state = step(reset_to(seen(name, (x - 0.032, y), (x + 0.032, y)), key()), jnp.zeros(2))
    assert (float(state.done), float(state.metrics["inside"])) == (0.0, 2.0)


def test_a_label_is_that_of_where_the_blocks_end():
    """Block 0 was in target 1 first, then in 0, and block 1 came into 1 last."""
    entered = jnp.asarray([5, 2, _two_blocks.NEVER, 9])
    success, mode = _two_blocks.outcome(entered, jnp.asarray([True, False, False, True]))
    assert (bool(success), int(mode)) == (True, 0)
    assert int(_two_blocks.outcome(entered, jnp.asarray([True, False, False, False]))[1]) == -1


@pytest.mark.parametrize("name", list(TARGETS))
def test_what_is_seen_tells_the_state(name):
    env, step, reset_to = programs(name)
    state = jax.jit(env.reset)(key())
    for _ in range(2):
        state = step(state, jnp.asarray([0.1, 0.2]))
    again = reset_to(state.obs, key())
    # The command of Pushing is set back to the rod: its lag has no place in what is seen.
    rows = slice(4 if name == "pushing" else 0, None)
    np.testing.assert_allclose(again.obs[rows], state.obs[rows], atol=1e-6)


def test_the_tangent_is_the_angle():
    env = build("pushing", yaw="tan")
    obs = seen("pushing", FAR, (0.6, -0.1)).at[jnp.asarray([6, 9])].set(jnp.asarray([2.0, -0.5]))
    state = env.reset_to(obs, key())
    np.testing.assert_allclose(state.data["blocks"][:, 2], np.arctan([2.0, -0.5]), rtol=1e-6)
    np.testing.assert_allclose(state.obs, obs, rtol=1e-5)


def test_reward_of_d3il():
    env = build("pushing", reward="d3il")
    state = env.step(env.reset_to(seen("pushing", FAR, (0.6, -0.1)), key()), jnp.zeros(2))
    expected = -np.hypot(0.1, 0.3) - np.hypot(0.02, 0.4)
    assert float(state.reward) == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def starts():
    found = {}
    for name in TARGETS:
        env = build(name)
        data = jax.jit(jax.vmap(env.reset))(jax.random.split(key(), 4000)).data
        found[name] = jax.device_get({k: data[k] for k in ("blocks", "targets") if k in data})
    return found


def test_starts_of_pushing(starts):
    blocks = starts["pushing"]["blocks"]
    for block, (low, high) in enumerate(((0.4, 0.5), (0.55, 0.65))):
        for entry, (a, b) in enumerate(((low, high), (-0.15, 0.0), (-np.pi / 2, np.pi / 2))):
            values = blocks[:, block, entry]
            assert a <= values.min() <= values.max() <= b
            # The mean of n uniform numbers, within 5 standard errors.
            assert abs(values.mean() - (a + b) / 2) < 5 * (b - a) / np.sqrt(12 * len(values))


def test_starts_of_block_push(starts):
    """The second cube's x is drawn again until it differs enough: as numpy draws it, within 5 standard errors."""
    blocks, targets = starts["block_push"]["blocks"], starts["block_push"]["targets"]
    gap = np.abs(blocks[:, 0, 0] - blocks[:, 1, 0])
    assert gap.min() >= 0.1 - 1e-6
    rng = np.random.default_rng(0)
    first = rng.uniform(0.3, 0.5, 4000)
    second = np.full(4000, 0.4)
    while (again := np.abs(first - second) < 0.1).any():
        second[again] = rng.uniform(0.3, 0.5, again.sum())
        # As there, the first one is drawn again, too, where it leaves the second hardly any room.
        first = np.where(np.abs(first - 0.4) < 1e-3, rng.uniform(0.3, 0.5, 4000), first)
    expected = np.abs(first - second)
    for power in (1, 2):
        a, b = gap**power, expected**power
        assert abs(a.mean() - b.mean()) < 5 * np.hypot(a.std(), b.std()) / np.sqrt(4000)
    assert abs(blocks[:, 0, 0].mean() - 0.4) < 5 * 0.2 / np.sqrt(12 * 4000)
    assert 1.0 <= blocks[..., 2].min() <= blocks[..., 2].max() <= np.pi
    assert np.abs(np.abs(targets[..., 0] - 0.4) - 0.12).max() <= 0.005 + 1e-6
    assert np.abs(targets[..., 1] - 0.2).max() <= 0.0075 + 1e-6
    assert abs((targets[:, 0, 0] > 0.4).mean() - 0.5) < 5 * 0.5 / np.sqrt(4000)


@pytest.mark.parametrize("name", list(TARGETS))
@spared("block_push")
def test_perturbed_at_the_defaults_is_the_task(name):
    env, step, reset_to = programs(name)
    other = env.perturbed()
    assert set(other.default_params()) - set(env.default_params()) == {"friction", "rubbing", "radius"}
    tool = jnp.asarray(FAR) - jnp.asarray([0.0, 0.06])
    obs = seen(name, FAR, (0.55, -0.1), tuple(map(float, tool)))
    one, two = reset_to(obs, key()), other.reset_to(obs, key())
    slick = other.reset_to(obs, key(), other.default_params() | {"radius": jnp.asarray(0.1)})
    action = jnp.asarray([0.2, 0.4 if name == "block_push" else 1.0])
    perturbed = jax.jit(other.step)
    for _ in range(9):
        one, two, slick = step(one, action), perturbed(two, action), perturbed(slick, action)
    np.testing.assert_allclose(two.obs, one.obs, atol=1e-5)
    assert float(jnp.abs(slick.obs - one.obs).max()) > 1e-3


def test_options_are_checked():
    with pytest.raises(ConfigError, match="block_gap"):
        build("block_push", block_gap=0.2)
    with pytest.raises(ConfigError, match="red_high"):
        build("pushing", red_high=0.1)


@pytest.mark.parametrize("name", list(TARGETS))
def test_drawing(name):
    ax = Figure().add_subplot()
    build(name).draw(ax)
    assert ax.get_aspect() == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "noise"), [("block_push", 0.03), ("pushing", 0.3)])
def test_the_expert_reaches_every_order(name, noise):
    """From 200 starts each, under the noise with which it is recorded."""
    assert min(reached(build(name), 200, noise)) >= 0.95


def test_effector_stays_in_its_bounds():
    _, step, reset_to = programs("block_push")
    state = reset_to(seen("block_push", FAR, (0.55, -0.1)), key())
    for _ in range(3):
        state = step(state, -jnp.ones(2))
    np.testing.assert_allclose(state.data["goal"], block_push.WORKSPACE[0], rtol=1e-6)


@pytest.mark.parametrize("name", list(TARGETS))
def test_what_is_seen_relatively_is_the_same_state(name):
    env, near = build(name), build(name, observe="relative")
    state = env.reset(jax.random.key(3))
    state = jax.jit(env.step)(state, jnp.asarray([0.3, -0.5]))  # command and disc apart
    data = state.data
    disc, led = (data["disc"], data["goal"]) if name == "block_push" else (data["rod"], data["command"])
    blocks = np.asarray(data["blocks"])
    targets = np.asarray(data["targets"] if name == "block_push" else TARGETS[name])
    ways = (targets[None, :, :2] - blocks[:, None, :2]).ravel()
    cubes = np.concatenate([blocks[:, :2] - disc, blocks[:, 2:] % (2 * np.pi)], 1).ravel()
    parts = {
        "block_push": lambda: [cubes, disc, led - disc, ways, targets[:, 2] % (2 * np.pi)],
        "pushing": lambda: [led - disc, disc, cubes, ways],
    }
    obs = near._observe(data)
    np.testing.assert_allclose(obs, np.concatenate(parts[name]()), atol=1e-6)
    assert near.spec.obs_dim == len(obs)
    again = near.reset_to(obs, key()).data["blocks"]
    np.testing.assert_allclose(again, env.reset_to(state.obs, key()).data["blocks"], atol=1e-6)
    tool = {"block_push": "goal", "pushing": "rod"}[name]
    np.testing.assert_allclose(near.reset_to(obs, key()).data[tool], data[tool], atol=1e-6)
    assert list(near.spec.position) == list(env.spec.position)
