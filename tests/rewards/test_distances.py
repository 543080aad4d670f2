"""Rewards of how far apart commands lead, against closed forms and trees; and where a discriminator is content."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.spatial import cKDTree

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Transitions
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from tests.toys.products import spared

HORIZON = 10
NEAR, FAR = 5e-4, 1.0  # half of a millimetre and of a metre, in units of which a metre is 1


def build(name, modes=2, kind="state", **fields):
    cfg = plugin("discriminator", "categorical", input=kind, hidden=(16,), noise=0.0)
    q = registry.build("discriminator", cfg, ObsSpec.vector(2), modes, HORIZON)
    return registry.build("reward", plugin("reward", name, **fields), discriminator=q, horizon=HORIZON)


def rollout(reward, start, path, z, **changes):
    """Transitions [T, B] of episodes from `start` [B, 2] along `path` [T, B, 2]; the last decision ends them."""
    memory = reward.init_memory(jnp.asarray(start, jnp.float32))
    seen = [reward.features(memory)]
    for obs in np.asarray(path, np.float32):
        memory = reward.remember(memory, jnp.asarray(obs))
        seen.append(reward.features(memory))
    seen = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen)
    shape = np.shape(path)[:2]
    zeros = jnp.zeros(shape)
    end = zeros.at[-1].set(1.0)
    fields = dict.fromkeys(Transitions.__dataclass_fields__, zeros) | {
        "obs": jnp.zeros((*shape, 2)), "final_obs": jnp.asarray(path, jnp.float32), "info": {}, "done": end,
        "z": jnp.broadcast_to(jnp.asarray(z, jnp.int32), shape), "remaining": jnp.zeros(shape, jnp.int32),
        "terminated": end,
        "features": jax.tree.map(lambda x: x[:-1], seen), "final_features": jax.tree.map(lambda x: x[1:], seen),
        "success": end, "valid": zeros + 1.0,
    }  # fmt: skip
    return Transitions(**{**fields, **changes})


def fitted(reward, draw, steps=300, rate=1e-2):
    """Parameters after `steps` steps of Adam on `draw(key) -> (features, z)`."""
    tx = optax.adam(rate)

    def step(carry, key):
        params, state = carry
        key_draw, key_loss = jax.random.split(key)
        features, z = draw(key_draw)
        gradient = jax.grad(lambda p: reward.loss(p, key_loss, features, z)[0].mean())(params)
        updates, state = tx.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(key):
        key_init, key_steps = jax.random.split(key)
        params = reward.init(key_init)
        return jax.lax.scan(step, (params, tx.init(params)), jax.random.split(key_steps, steps))[0][0]

    with jax.debug_key_reuse(False):
        return run(jax.random.key(0))


def two_places(reward, half):
    """(features, z): z leads to x = -half or half, whatever y is; episodes start at 0."""

    def draw(key):
        key_z, key_y = jax.random.split(key)
        z = jax.random.randint(key_z, (256,), 0, 2)
        x = jnp.where(z > 0, half, -half)
        memory = reward.init_memory(jnp.zeros((256, 2)))
        obs = jnp.stack([x, 0.3 * jax.random.normal(key_y, (256,))], -1)
        return reward.features(reward.remember(memory, obs)), z

    return draw


@functools.cache
def led_apart(name, half, **fields):
    """(reward, parameters fitted to commands that lead to +-half)."""
    reward = build(name, **fields)
    return reward, fitted(reward, two_places(reward, half))


def paid(reward, params, half):
    """Mean payment of episodes of one decision to +-half."""
    rng = np.random.default_rng(3)
    z = np.arange(400) % 2
    end = np.stack([np.where(z > 0, half, -half), 0.3 * rng.normal(size=400)], -1)
    seen = rollout(reward, np.zeros((400, 2)), end[None], z)
    return float(reward.pay(params, jax.random.key(4), seen, 1.0)[0].mean())


def test_the_codes_are_a_regular_simplex_on_the_unit_sphere():
    for modes in (2, 3, 8):
        codes = np.asarray(build("metra", modes).codes())
        expected = np.where(np.eye(modes) > 0, 1.0, -1.0 / (modes - 1))
        np.testing.assert_allclose(codes @ codes.T, expected, atol=1e-6)
        np.testing.assert_allclose(codes.sum(0), 0.0, atol=1e-6)


@pytest.mark.parametrize("metric", ["distance", "decisions"])
@pytest.mark.parametrize("forfeit", [True, False])
@spared("True-distance")
def test_what_metra_pays_adds_up_to_where_the_episode_ended(metric, forfeit):
    """(phi(x_T) - phi(x_0)) . e_z, over n for decisions; 0 in total after a failure that forfeits."""
    reward = build("metra", 3, metric=metric, forfeit=forfeit)
    rng = np.random.default_rng(5)
    start, path, z = rng.normal(size=(6, 2)), rng.normal(size=(4, 6, 2)), np.arange(6) % 3
    won = jnp.zeros((4, 6)).at[-1, :3].set(1.0)
    seen = rollout(reward, start, path, z, success=won)
    params = jax.jit(reward.init)(jax.random.key(6))
    found, metrics = jax.jit(lambda key: reward.pay(params, key, seen, 0.9))(jax.random.key(7))
    moved = reward.phi(params, jnp.asarray(path[-1])) - reward.phi(params, jnp.asarray(start))
    worth = (np.asarray(moved) * np.asarray(reward.codes())[z]).sum(-1) / (
        1 if metric == "distance" else HORIZON
    )
    kept = np.where((np.arange(6) < 3) | (not forfeit), worth, 0.0)
    np.testing.assert_allclose(np.asarray(found).sum(0), kept, atol=1e-5)
    assert float(metrics["mode/metra"]) == pytest.approx(worth.mean(), abs=1e-5)


@pytest.mark.slow
def test_the_bound_of_distances_is_certain_and_nearly_reached():
    """|phi(x) - phi(y)| <= |x - y| for pairs near and far, and .8 at least of half the Wasserstein distance is found.

    The two places differ by a translation of 2 half, so their distance is 2 half, and a command is worth half.
    """
    reward, params = led_apart("metra", FAR)
    rng = np.random.default_rng(8)
    x = rng.normal(size=(4000, 2))
    for far in (1e-2, 1.0, 10.0):
        y = x + far * rng.normal(size=x.shape)
        moved = np.linalg.norm(
            reward.phi(params, jnp.asarray(x)) - reward.phi(params, jnp.asarray(y)), axis=-1
        )
        assert (moved <= np.linalg.norm(x - y, axis=-1) * (1 + 1e-4) + 1e-6).all()
    assert 0.8 * FAR < paid(reward, params, FAR) <= FAR + 5 * 0.015  # 400 draws of y with deviation .3


@pytest.mark.slow
def test_the_bound_of_decisions_is_approached():
    """Commands that walk .02 a decision, left or right: a slope of 50 makes a decision's length 1, within .1."""
    reward = build("metra", metric="decisions")

    def draw(key):
        key_z, key_t, key_y = jax.random.split(key, 3)
        z, t = jax.random.randint(key_z, (256,), 0, 2), jax.random.randint(key_t, (256,), 0, HORIZON)
        side, y = jnp.where(z > 0, 0.02, -0.02), 0.2 * jax.random.normal(key_y, (256,))
        last, now = (jnp.stack([side * at, y], -1) for at in (t, t + 1))
        return {"now": now, "last": last, "start": jnp.zeros_like(now)}, z

    params = fitted(reward, draw, steps=600)
    features, z = draw(jax.random.key(9))
    metrics = jax.jit(reward.loss)(params, jax.random.key(10), features, z)[1]
    np.testing.assert_allclose(metrics["mode/metra_step"], 1.0, atol=0.1)
    np.testing.assert_allclose(metrics["mode/metra_gain"], 1.0, atol=0.1)
    side = np.linspace(0.02, 0.2, 10)  # a whole episode to the right: n decisions of 1 over n
    path = np.stack([side, np.zeros(10)], -1)[:, None]
    seen = rollout(reward, np.zeros((1, 2)), path, [1])
    assert float(reward.pay(params, jax.random.key(11), seen, 1.0)[0].sum()) == pytest.approx(1.0, abs=0.1)


def test_more_commands_than_ways_are_still_worth_spreading():
    """Four commands on two ways 2 m apart: each has one other at 0 and two at 2, log(1 + 2 / .3) x 2 / 3.

    All on one way: nothing. Were the nearest of all others what counts, both would be worth the same.
    """
    reward = build("spread", 4)
    z = np.arange(40) % 4
    for ways, expected in ((2, 2 / 3 * math.log1p(2 / 0.3)), (1, 0.0)):
        end = np.stack([2.0 * (z % ways), np.zeros(40)], -1)
        seen = rollout(reward, np.zeros((40, 2)), end[None], z)
        found = reward.pay({}, jax.random.key(1), seen, 1.0)[0]
        np.testing.assert_allclose(found[-1], expected, atol=1e-3)


def test_a_millimetre_contents_a_discriminator_and_not_a_reward_of_distances():
    """Commands 1 mm apart, and 2 m: q tells both apart, and log q pays both the same to within .15 of log 2.

    A reward of distances pays the millimetre at most its half, plus what the noise of y lends it on average: nothing,
    within 5 standard errors of .3 / sqrt(400) = .015.
    """
    told = {}
    for half in (NEAR, FAR):
        reward = build("mi", payment="potential")
        params = fitted(reward, two_places(reward, half), steps=1500, rate=3e-2 if half == NEAR else 1e-2)
        told[half] = paid(reward, params, half)
    assert min(told.values()) > 0.85 * math.log(2)
    near, far = (paid(*led_apart("metra", half), half) for half in (NEAR, FAR))
    assert near < NEAR + 5 * 0.015
    assert far > 0.8 * FAR
    spread = build("spread")
    near, far = (paid(spread, {}, half) for half in (NEAR, FAR))
    assert far > math.log1p(2 * FAR / 0.3)  # all neighbours of the other z are 2 m away at least
    assert near < 0.15 * far


@pytest.mark.parametrize("forfeit", [True, False])
def test_spread_pays_ends_by_the_nearest_paths_of_other_commands(forfeit):
    """Against a tree of each command; running, invalid and forfeited decisions are paid nothing.

    Nobody commands the fourth.
    """
    reward = build("spread", 4, kind="history", neighbours=4, scale=0.5, forfeit=forfeit)
    rng = np.random.default_rng(12)
    count = 60
    start, path, z = rng.normal(size=(count, 2)), rng.normal(size=(3, count, 2)), rng.integers(0, 3, count)
    won = jnp.zeros((3, count)).at[-1].set(jnp.asarray(rng.integers(0, 2, count), jnp.float32))
    good = jnp.ones((3, count)).at[-1, :7].set(0.0)
    seen = rollout(reward, start, path, z, success=won, valid=good)
    found, metrics = jax.jit(lambda key: reward.pay({}, key, seen, 0.9))(jax.random.key(13))
    np.testing.assert_array_equal(found[:-1], 0.0)
    points, valid = np.asarray(seen.final_features[-1], np.float64), np.arange(count) >= 7
    trees = [cKDTree(points[(z == one) & valid]) for one in range(3)]
    apart = np.stack([tree.query(points, 4)[0].mean(1) for tree in trees], 1)
    other = np.arange(3) != z[:, None]
    worth = (np.log1p(apart / 0.5) * other).sum(1) / 2
    apart = (apart * other).sum(1) / 2
    kept = valid & ((np.asarray(won[-1]) > 0) | (not forfeit))
    np.testing.assert_allclose(found[-1], np.where(kept, worth, 0.0), atol=1e-4)
    assert float(metrics["mode/spread"]) == pytest.approx(worth[valid].mean(), abs=1e-4)
    assert float(metrics["mode/neighbour"]) == pytest.approx(apart[valid].mean(), abs=1e-4)


def test_of_more_ends_than_particles_some_are_drawn():
    """20 ends at x = i, 2 particles: each is paid the distance to one or two of the ends, never to a running path.

    Running paths lie at -100, so a neighbour among them would be at least 100 away.
    """
    reward = build("spread", 2, neighbours=2, particles=2, scale=1.0)
    end = np.stack([np.arange(20.0), np.zeros(20)], -1)
    path = np.stack([np.full_like(end, -100.0), end])
    seen = rollout(reward, np.zeros((20, 2)), path, np.arange(20) % 2)
    pay = jax.jit(lambda key: reward.pay({}, key, seen, 1.0)[0])
    found = [np.expm1(np.asarray(pay(jax.random.key(i)))[-1]) for i in (14, 15)]
    for one in found:
        assert one.max() <= 19.0 + 1e-3
        np.testing.assert_allclose(2 * one, np.round(2 * one), atol=1e-2)  # means of whole distances
    assert not np.allclose(*found)


@pytest.mark.parametrize("name", ["metra", "spread"])
def test_what_measures_distances_needs_points(name):
    with pytest.raises(ConfigError) as info:
        build(name, kind="final")
    assert (info.value.field, info.value.value) == ("discriminator.input", "final")
    cfg = plugin("discriminator", "categorical", input="state", hidden=(8,))
    pictures = ObsSpec.of({"image": ObsEntry((16, 16, 1), "image")})
    q = registry.build("discriminator", cfg, pictures, 2, HORIZON)
    for given, field in ((q, "env.observe"), (None, "discriminator.name")):
        with pytest.raises(ConfigError) as info:
            registry.build("reward", plugin("reward", name), discriminator=given, horizon=HORIZON)
        assert info.value.field == field
