"""A decision with its draws as inputs: under those of a key it is the decision under that key."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from mmbc_jax.core.errors import UserError
from mmbc_jax.core.keys import wrapped
from mmbc_jax.deploy.chance import Chance
from tests.deploy._loaded import loaded

WORDS = np.array([3, 9], np.uint32)
OBS = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)


@pytest.mark.parametrize("stage", ["bc", "finetune"])
def test_a_decision_under_the_noise_of_a_key(stage):
    policy, z = loaded(stage), np.zeros(5, np.int32)
    decide = dataclasses.replace(policy.decision(False, bounded=True), num_modes=1).__call__
    chance = Chance(functools.partial(decide, policy.subject), OBS, z)
    noise = chance.drawn(WORDS, OBS, z)
    assert [u.shape for u in noise] == chance.shapes
    assert all(u.min() >= 0 and u.max() < 1 for u in noise)
    given = jax.jit(chance)(noise, OBS, z)
    np.testing.assert_allclose(given, policy(OBS, 0, WORDS), atol=1e-5)
    halves = [np.full_like(u, 0.5) for u in noise]
    assert np.abs(jax.jit(chance)(halves, OBS, z) - given).max() > 1e-3


def draws(words, x):
    """Every kind of draw of a decision, one inside a loop over keys."""
    normal, uniform, choice, loop = jax.random.split(wrapped(words), 4)

    def step(total, key):
        return total + jax.random.normal(key, x.shape), total

    total, before = jax.lax.scan(step, x, jax.random.split(loop, 3), reverse=True)
    first = jax.random.normal(normal, x.shape) + jax.random.uniform(uniform, x.shape, minval=2.0, maxval=3.0)
    return first + total + before.sum(0) + jax.random.categorical(choice, jnp.zeros((*x.shape, 4)))


def test_every_kind_of_draw():
    x = np.zeros((2, 3), np.float32)
    chance = Chance(draws, x)
    assert chance.shapes == [(2, 3)] * 5 + [(2, 3, 4)]
    np.testing.assert_allclose(chance(chance.drawn(WORDS, x), x), draws(WORDS, x), atol=2e-6)


def test_normal_numbers_are_those_of_the_quantile_function_into_the_tails():
    u = np.array([2**-23, 1e-5, 0.01, 0.3, 0.5, 0.9, 0.999, 1 - 2**-23], np.float32)
    chance = Chance(lambda words, x: x + jax.random.normal(wrapped(words), x.shape), np.zeros_like(u))
    found = np.asarray(chance([u], np.zeros_like(u)))
    # what `jax.random.normal` gives erf_inv, in its float32
    low = np.nextafter(np.float32(-1), np.float32(0))
    given = np.maximum(low, u * (np.float32(1) - low) + low).astype(np.float64)
    np.testing.assert_allclose(found, np.sqrt(2) * special.erfinv(given), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda words, x: x + jax.random.randint(wrapped(words), x.shape, 0, 7), "it draws whole numbers"),
        (
            lambda words, x: jax.lax.while_loop(
                lambda x: x < 1, lambda x: x + jax.random.uniform(wrapped(words)), x
            ),
            "in an operation while",
        ),
    ],
)
def test_draws_that_cannot_be_inputs(function, said):
    with pytest.raises(UserError, match=said):
        Chance(function, np.float32(0))


@pytest.mark.parametrize("draw", [jax.random.normal, jax.random.gumbel, jax.random.exponential])
def test_the_largest_number_below_one_is_drawn_from_as_the_one_before(draw):
    """1 + u would round to 2 in float32, and the draw be infinite or no number."""
    x = np.zeros(2, np.float32)
    chance = Chance(lambda words, x: x + draw(wrapped(words), x.shape), x)
    u = np.array([1 - 2**-24, 1 - 2**-23], np.float32)
    found = np.asarray(chance([u], x))
    assert np.isfinite(found).all()
    assert found[0] == found[1]
