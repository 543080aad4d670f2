"""Ends of episodes: what is no longer finite, what begins done, and what counts as success."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.envs import wrappers
from mmbc_jax.envs._episode import finite
from tests.toys.fragile import LENGTH, Fragile, several
from tests.toys.products import spared

WHAT = ("data", "obs", "reward", "done", "success")


def played(env, each, decisions=4, exec_len=2, mode="full"):
    """States after each decision [decisions, B] in instances with the parameters `each`."""
    batched = wrappers.make(env, exec_len=exec_len, autoreset=mode)
    start = batched.reset(jax.random.split(jax.random.key(0), len(each)), several(*each))
    chunk = jnp.zeros((len(each), exec_len, 1))

    def decide(state, key):
        state = batched.step(state, chunk, key=key)
        return state, state

    with jax.debug_key_reuse(False):
        keys = jax.random.split(jax.random.key(1), decisions)
        return jax.device_get(jax.jit(lambda s: jax.lax.scan(decide, s, keys)[1])(start))


@pytest.mark.parametrize("tree", [{"a": jnp.ones(3), "b": jnp.ones((5, 7)), "n": jnp.ones(2, int)}, {}])
def test_finite_looks_at_every_float(tree):
    assert finite(tree)
    for name in ("a", "b"):
        for bad in (jnp.nan, jnp.inf, -jnp.inf):
            spoilt = {k: v.at[(-1,) * v.ndim].set(bad) if k == name else v for k, v in tree.items()}
            assert bool(finite(spoilt)) == (not tree)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("what", WHAT)
@spared("data-inf", "done-nan", "reward-nan", "success-inf", "obs-inf")
def test_an_instance_that_is_not_finite_fails_and_is_reset(what, bad):
    """It breaks after step 3, the first of the second decision; its neighbour plays on."""
    seen = played(Fragile(what, bad), ({"when": 3}, {}))
    floats = [x for x in jax.tree.leaves(seen) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(np.isfinite(x).all() for x in floats)
    np.testing.assert_array_equal(seen.info["diverged"], [[0, 0], [1, 0], [0, 0], [1, 0]])
    np.testing.assert_array_equal(seen.done, [[0, 0], [1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(seen.metrics["success"], [[0, 0], [0, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(seen.metrics["reward"], [[2, 2], [0, 2], [2, 2], [0, 2]])
    np.testing.assert_array_equal(seen.info["final_obs"][..., 0], [[2, 2], [2, 4], [2, 6], [2, 2]])
    np.testing.assert_array_equal(seen.info["final_steps"], [[2, 2], [3, 4], [2, 6], [3, 2]])
    np.testing.assert_array_equal(seen.info["final_mode"][1], [-1, -1])
    np.testing.assert_array_equal(seen.info["truncation"], np.zeros((4, 2)))
    np.testing.assert_array_equal(seen.data["t"], [[2, 2], [0, 4], [2, 0], [0, 2]])  # reset with the others


def test_a_start_that_is_not_finite_fails_with_its_first_step():
    seen = played(Fragile("reset"), ({"when": 0}, {}), decisions=2)
    assert np.isfinite(seen.obs).all()
    np.testing.assert_array_equal(seen.info["diverged"], [[1, 0], [1, 0]])
    np.testing.assert_array_equal(seen.info["final_steps"][:, 0], [1, 1])


@pytest.mark.parametrize("mode", ["full", "cached"])
def test_an_episode_that_begins_done_takes_no_step_and_is_paid_nothing(mode):
    seen = played(Fragile(), ({"over": 1.0}, {}), decisions=3, mode=mode)
    np.testing.assert_array_equal(seen.done, [[1, 0], [1, 0], [1, 1]])
    np.testing.assert_array_equal(seen.metrics["success"], [[1, 0], [1, 0], [1, 1]])
    np.testing.assert_array_equal(seen.metrics["reward"][:, 0], np.zeros(3))
    np.testing.assert_array_equal(seen.reward[:, 0], np.zeros(3))
    np.testing.assert_array_equal(seen.info["discount"][:, 0], np.ones(3))
    np.testing.assert_array_equal(seen.info["final_steps"], [[0, 2], [0, 4], [0, 6]])
    np.testing.assert_array_equal(seen.info["final_mode"][:, 0], np.ones(3))
    np.testing.assert_array_equal(seen.info["began"]["over"][:, 0], np.ones(3))
    assert not seen.info["diverged"].any()


@pytest.mark.parametrize("mode", ["full", "cached"])
@pytest.mark.parametrize(("latched", "success"), [(False, 0.0), (True, 1.0)])
def test_success_in_passing_counts_where_it_is_latched(latched, success, mode):
    """Success after step 3 alone: at the end it is 1 where latched, in no later episode before its own step 3."""
    seen = played(Fragile(latched=latched), ({"passing": 3},), decisions=2 * LENGTH, exec_len=1, mode=mode)
    one = [0, 0, 1, *[success] * (LENGTH - 3)]
    np.testing.assert_array_equal(seen.metrics["success"][:, 0], one * 2)
    np.testing.assert_array_equal(seen.done[:, 0], [0, 0, 0, 0, 0, 1] * 2)


def test_a_latched_success_is_lost_with_a_divergence():
    seen = played(Fragile("obs", latched=True), ({"passing": 3, "when": 5},), decisions=6, exec_len=1)
    np.testing.assert_array_equal(seen.metrics["success"][:, 0], [0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(seen.info["diverged"][:, 0], [0, 0, 0, 0, 1, 0])
