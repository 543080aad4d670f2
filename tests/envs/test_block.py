"""A block on the way: its distance, what touching it means, and that where there is none nothing changes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import HasPerturbed
from mmbc_jax.envs._block import BLOCK, gap

NAMES = ("avoiding", "landscape")


def build(name, **fields):
    return registry.build("env", config.plugin("env", name, **fields))


def block(x, y, radius):
    return dict(zip(BLOCK, map(jnp.asarray, (x, y, radius)), strict=True))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ((0.0, 0.0), (0.0, 0.0), 4.0),  # |(3, 4)| - 1
        ((0.0, 4.0), (9.0, 4.0), -1.0),  # through the centre
        ((0.0, 0.0), (9.0, 0.0), 3.0),  # passes below it at (3, 0)
        ((3.0, -4.0), (3.0, 1.0), 2.0),  # stops below it
        ((6.0, 8.0), (9.0, 12.0), 4.0),  # leaves it behind: nearest at the start
    ],
)
def test_the_gap_is_to_the_whole_way(start, end, expected):
    found = gap(block(3.0, 4.0, 1.0), jnp.array(start), jnp.array(end))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_without_a_radius_there_is_none():
    assert gap(block(0.0, 0.0, 0.0), jnp.zeros(2), jnp.zeros(2)) == jnp.inf


@pytest.mark.parametrize("name", NAMES)
def test_further_parameters_change_nothing_until_they_are_set(name):
    env = build(name)
    more = env.perturbed()
    assert isinstance(env, HasPerturbed)
    assert set(BLOCK) <= set(more.default_params()) - set(env.default_params())
    actions = jnp.asarray(np.random.default_rng(0).uniform(-0.2, 1.0, (16, 2)), jnp.float32)

    def play(one):
        return jax.lax.scan(
            lambda s, a: (n := one.step(s, a), (n.obs, n.reward, n.done)),
            one.reset(jax.random.key(3)),
            actions,
        )[1]

    for ours, theirs in zip(jax.jit(lambda: play(env))(), jax.jit(lambda: play(more))(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_touching_it_is_a_contact_of_the_rod():
    """At (0.6, -0.2), radius 0.02, and a rod of 0.01: 1 mm more than touching, then 1.2 mm up in a step."""
    env = build("avoiding").perturbed()
    reset_to, step = jax.jit(env.reset_to), jax.jit(env.step)
    start = jnp.array([0.6, -0.231, 0.6, -0.231])
    up = jnp.array([0.0, 1.0])  # moves the rod by 0.2152 cm
    placed = env.default_params() | block(0.6, -0.2, 0.02)
    after = step(reset_to(start, jax.random.key(0), placed), up)
    assert (float(after.done), float(after.metrics["success"]), float(after.metrics["contact"])) == (1, 0, 1)
    free = step(reset_to(start, jax.random.key(0), env.default_params()), up)
    assert (float(free.done), float(free.metrics["contact"])) == (0, 0)


def test_entering_it_ends_an_episode_of_the_landscape():
    """A step of 0.15 per axis from (0.1, 0.1) passes (0.175, 0.175) and ends past it: no jumping over."""
    env = build("landscape", block_x=0.175, block_y=0.175, block_radius=0.05)
    assert set(BLOCK) <= set(env.default_params())
    state = env.reset(jax.random.key(0))
    state = state.replace(data={"step": jnp.asarray(0, jnp.int32), "position": jnp.array([0.1, 0.1])})
    step = jax.jit(env.step)
    through, past = step(state, jnp.array([1.0, 1.0])), step(state, jnp.array([-1.0, 1.0]))
    assert (float(through.done), float(through.metrics["success"]), float(through.reward)) == (1, 0, 0)
    assert float(past.done) == 0
    goal = state.replace(data={"step": jnp.asarray(15, jnp.int32), "position": jnp.sqrt(jnp.full(2, 0.5))})
    assert float(step(goal, jnp.zeros(2)).metrics["success"]) == 1
    inside = goal.replace(info=goal.info | {"params": env.default_params() | block(0.7, 0.7, 0.1)})
    last = step(inside, jnp.zeros(2))
    assert (float(last.reward), float(last.metrics["success"]), int(last.info["mode"])) == (0, 0, -1)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_drawn_where_it_is_set(name):
    def hatched(env):
        ax = Figure().add_subplot()
        env.draw(ax)
        return [patch for patch in ax.patches if patch.get_hatch()]

    assert not hatched(build(name))
    (circle,) = hatched(build(name, block_x=0.4, block_y=0.1, block_radius=0.03))
    assert (*circle.center, circle.radius) == (0.4, 0.1, 0.03)


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"block_x": 0.4}, "block_x.*block_radius above 0"), ({"block_radius": -1.0}, "block_radius")],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_block_that_is_none_is_refused(name, fields, named):
    with pytest.raises(ConfigError, match=named):
        build(name, **fields)
