"""Random steps: what is counted is there, and every planar and MJX task stands them."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import random_steps
from mmbc_jax.core import config, registry
from mmbc_jax.envs.mjx import _panda_table as table
from tests.toys import fragile

STEPS = int(os.environ.get("MMBC_RANDOM_STEPS", "20000"))
"""Of each task in the slow half; docs/robots.md has those of a million."""


class Whole(fragile.Fragile):
    """Without the key, which may be read once."""

    def reset(self, key, params=None):
        state = super().reset(key, params)
        return state.replace(data={name: x for name, x in state.data.items() if name != "key"})


class Breaking(Whole):
    """Every episode is no longer finite after its third step."""

    def default_params(self):
        return fragile.params(when=3)


def test_what_breaks_is_counted():
    found = random_steps.wander(Breaking("data"), 40, batch=4, scan=12)
    assert (found.steps, found.diverged, found.ended, found.truncated) == (48, 4 * 4, 0, 0)
    assert not found.recovered  # what was not spoilt diverged as well


def test_what_holds_is_counted():
    found = random_steps.wander(Whole(), 48, batch=4, scan=12)
    assert (found.diverged, found.ended, found.truncated) == (0, 4 * 12 // fragile.LENGTH, 0)
    assert found.largest == fragile.LENGTH
    assert found.recovered
    assert found.physics is found.beyond is None


@pytest.mark.parametrize("name", ["reach", "lift", "avoiding_arm"])
def test_excess_over_a_range(name):
    env = registry.build("env", config.plugin("env", name))
    shape = jax.eval_shape(env.reset, jax.random.key(0))
    state = jax.tree.map(lambda x: jnp.zeros((3, *x.shape), x.dtype), shape.data)
    body = state["body"] if "body" in state else state["rod"].body
    middle = 0.5 * (np.asarray(table.LOW) + np.asarray(table.HIGH))
    joints = np.zeros(body.qpos.shape, np.float32)
    joints[:, :7] = middle
    joints[1, 2] = table.HIGH[2] + 0.25
    joints[2, 5] = table.LOW[5] - 0.5
    moved = body.replace(qpos=jnp.asarray(joints))
    data = state | ({"body": moved} if "body" in state else {"rod": state["rod"].replace(body=moved)})
    excess = random_steps.beyond(env)(shape.replace(data=data))
    np.testing.assert_allclose(excess, [0.0, 0.25, 0.5], atol=1e-6)


def test_tasks_are_those_of_both_rooms():
    assert {"push_t", "avoiding", "lift"} <= set(random_steps.names())
    assert not {"landscape", "brax"} & set(random_steps.names())


@pytest.mark.slow
@pytest.mark.parametrize("name", random_steps.names())
def test_random_steps_are_finite(name):
    env = registry.build("env", config.plugin("env", name))
    found = random_steps.wander(env, STEPS, batch=64, scan=64)
    assert found.diverged == 0
    assert found.recovered
    assert found.beyond is None or found.beyond <= 0.01  # the solver's softness, in `lift`
