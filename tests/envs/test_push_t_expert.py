"""The expert of Push-T: its pushes against the simulator, its way round against geometry, its modes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.envs.planar import _quasistatic as physics
from mmbc_jax.envs.planar import _tee_pusher as pusher
from mmbc_jax.envs.planar._tee import CENTRE
from mmbc_jax.evaluation import experts


@functools.cache
def task(**fields):
    return registry.build("env", config.plugin("env", "push_t", **fields))


@functools.cache
def program():
    """Ways and actions of 50 steps from `starts` [B] under `modes` [B], with execution noise."""
    env = task()

    def run(starts, modes, noise, key):
        reset_key, scan_key = jax.random.split(key)

        def body(state, key):
            noise_key, expert_key = jax.random.split(key)
            action = jax.vmap(env.expert)(state, modes, jax.random.split(expert_key, len(modes)))
            disturbed = action + noise * jax.random.normal(noise_key, action.shape)
            state = jax.vmap(env.step)(state, disturbed)
            return state, (state.data["way"], action, state.data["body"].touched)

        state = jax.vmap(env.reset_to)(starts, jax.random.split(reset_key, len(modes)))
        return jax.lax.scan(body, state, jax.random.split(scan_key, 50))[1]

    return jax.jit(run)


# Disc and block; on every side of the block, far and near, in a pocket of the T, near a wall.
STARTS = (
    *((60.0, 60.0, 256.0, 200.0, 0.0), (256.0, 440.0, 256.0, 200.0, 0.0), (330.0, 260.0, 256.0, 200.0, 0.0)),
    *(
        (120.0, 300.0, 300.0, 300.0, 2.5),
        (420.0, 260.0, 150.0, 260.0, -1.8),
        (296.0, 255.0, 256.0, 200.0, 0.0),
    ),
)


def commanded():
    starts = jnp.asarray(np.repeat(STARTS, 4, axis=0), jnp.float32)
    return starts, jnp.tile(jnp.arange(4), len(STARTS))


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_first_contact_is_as_commanded(noise):
    starts, modes = commanded()
    way, action, touched = program()(starts, modes, noise, jax.random.key(0))
    np.testing.assert_array_equal(way[-1], modes)
    assert np.asarray(touched).any(0).all()
    assert np.abs(action).max() <= 1.0


def test_it_draws_nothing():
    starts, modes = commanded()
    one, two = (program()(starts, modes, 0.0, jax.random.key(seed))[1] for seed in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_a_start_on_the_block_leaves_the_turn():
    """The disc overlaps the stem by 5 px on its right: side 1 whatever is asked, the turn as asked."""
    starts, modes = commanded()
    starts = starts.at[:4].set(jnp.asarray([281.0, 280.0, 256.0, 200.0, 0.0]))
    way, _, _ = program()(starts, modes, 0.0, jax.random.key(0))
    np.testing.assert_array_equal(way[-1, :4], [2, 3, 2, 3])


def test_a_push_moves_the_block_as_it_counts_on():
    """From each contact 2.5 px inwards to rest: d (n, a / m) / k but for the second order and the engine's slop."""
    block = jnp.asarray([256.0, 200.0, 0.0])
    discs = jnp.asarray(np.asarray([256.0, 200.0]) + CENTRE + pusher.TOUCHING, jnp.float32)
    out = jnp.asarray(pusher.OUT, jnp.float32)

    @jax.jit
    @jax.vmap
    def pushed(disc, out):
        body = physics.at_rest(disc, jnp.zeros(2), block)
        return jax.lax.fori_loop(0, 5, lambda _, now: physics.control_step(now, disc - 2.5 * out), body)

    after = pushed(discs, out)
    d = ((discs - after.disc) * out).sum(-1)
    assert float(d.min()) > 2.3
    a = lever_arms()
    k = 1.0 + a**2 / physics.MOMENT
    turned = np.asarray(after.block[:, 2], np.float64)
    np.testing.assert_allclose(turned, d * a / physics.MOMENT / k, atol=1.5e-3)
    centre = np.asarray(after.block[:, :2]) + 45.0 * np.stack([-np.sin(turned), np.cos(turned)], -1)
    np.testing.assert_allclose(centre - [256.0, 245.0], -pusher.OUT * np.asarray(d / k)[:, None], atol=0.12)


def lever_arms():
    """[n] r x n of every contact."""
    r, n = pusher.POINTS - CENTRE, -pusher.OUT
    return r[:, 0] * n[:, 1] - r[:, 1] * n[:, 0]


def test_a_contact_is_worth_what_the_best_push_there_takes_from_the_error():
    """Against 4,001 lengths of the push, for 20 errors and every contact."""
    rng, goal, m = np.random.default_rng(0), np.asarray([256.0, 256.0, 0.0]), physics.MOMENT
    lengths = np.linspace(-200.0, 200.0, 4001)
    a = lever_arms()
    twist = np.c_[-pusher.OUT, a / m] / (1.0 + a**2 / m)[:, None]
    for _ in range(20):
        x, y, w = rng.uniform([-60.0, -60.0, -1.0], [60.0, 60.0, 1.0])
        # The block that has to move by (x, y) in its own frame and to turn by w.
        c, s = np.cos(-w), np.sin(-w)
        centre = np.asarray([256.0, 301.0]) - [c * x - s * y, s * x + c * y]
        pose = np.asarray([*(centre - [-45.0 * s, 45.0 * c]), -w])
        delta, gain = pusher._worth(jnp.asarray(pose), jnp.asarray(goal), m)
        left = np.asarray([x, y, w]) - lengths[:, None, None] * twist
        left = left[..., 0] ** 2 + left[..., 1] ** 2 + m * left[..., 2] ** 2
        np.testing.assert_allclose(delta, lengths[left.argmin(0)], atol=0.06)
        taken = np.sqrt(np.maximum(x**2 + y**2 + m * w**2 - left[lengths >= 0.0].min(0), 0.0))
        np.testing.assert_allclose(gain, taken, atol=0.05)


def test_the_hull():
    """Straight out of a side, and out of a corner, whose circle the ray meets at right angles."""
    corner = np.arctan2(-45.0, 60.0)
    found = pusher.hull_radius(np.asarray([-np.pi / 2, np.pi / 2, corner]), 10.0)
    np.testing.assert_allclose(found, [55.0, 85.0, 85.0], atol=1e-6)


def test_the_disc_is_led_with_the_poles():
    law, (p, v) = physics.DISC_LAW, pusher._GAINS
    closed = law + np.outer([1.0 - law[0, 0], -law[1, 0]], [p, v])
    assert np.trace(closed) == pytest.approx(2 * pusher.POLE)
    assert np.linalg.det(closed) == pytest.approx(pusher.POLE**2)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_success_in_every_mode(noise):
    """Of 250 episodes a mode; a start on the block leaves the side to chance, which costs .04."""
    shown = experts.show(
        task(), jax.random.key(3), np.repeat(np.arange(4), 250), noise, keep=lambda state: state.data["way"]
    )
    assert shown.success.reshape(4, 250).mean(1).min() >= 0.90
    as_asked = np.asarray(shown.states)[-1] == shown.mode
    assert shown.success[as_asked].mean() >= 0.98
