"""Threefry against its authors' vectors, and everything drawn from unrolled keys against JAX's own bits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.ops.unrolled import LARGEST, rolled, threefry, unrolled
from tests.toys.products import spared

DRAWS = {
    "bits": lambda key, shape: jax.random.bits(key, shape),
    "bytes": lambda key, shape: jax.random.bits(key, shape, jnp.uint8),
    "uniform": lambda key, shape: jax.random.uniform(key, shape, minval=-1.0),
    "normal": lambda key, shape: jax.random.normal(key, shape),
    "randint": lambda key, shape: jax.random.randint(key, shape, 0, 24),
    "categorical": lambda key, shape: jax.random.categorical(key, jnp.arange(5.0), shape=shape),
    "permutation": lambda key, shape: jax.random.permutation(key, int(np.prod(shape))),
    "split": lambda key, shape: jax.random.key_data(rolled(jax.random.split(key, shape))),
    "fold_in": lambda key, shape: jax.random.normal(jax.random.fold_in(key, len(shape) + 2), shape),
}


@pytest.mark.parametrize(
    ("key", "words", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(key, words, expected):
    """The vectors that come with Random123."""
    found = threefry(*(tuple(map(jnp.uint32, pair)) for pair in (key, words)))
    assert tuple(map(int, found)) == expected


@pytest.mark.parametrize("shape", [(), (4,), (3, 5), (LARGEST + 1,)])
@pytest.mark.parametrize("draw", DRAWS)
@spared("*-shape0", "*-shape2")
def test_every_draw_has_the_bits_of_jax(draw, shape):
    def both(data):
        keys = (jax.random.wrap_key_data(data), unrolled(jax.random.wrap_key_data(data)))
        return [DRAWS[draw](key, shape) for key in keys]

    expected, found = jax.jit(both)(jnp.array([7, 2**32 - 5], jnp.uint32))
    np.testing.assert_array_equal(found, expected)


def test_draws_of_many_keys_have_the_bits_of_jax():
    """As an environment draws: from the key of each instance, its step and four numbers."""
    steps = jnp.arange(6)

    def noise(key, step):
        return jax.random.normal(jax.random.fold_in(key, step), (4,))

    found = jax.jit(jax.vmap(noise))(unrolled(jax.random.split(jax.random.key(1), 6)), steps)
    expected = jax.jit(jax.vmap(noise))(jax.random.split(jax.random.key(1), 6), steps)
    np.testing.assert_array_equal(found, expected)


def test_small_draws_have_no_loop():
    def draw(data, make):
        return jax.random.normal(jax.random.fold_in(make(jax.random.wrap_key_data(data)), 3), (4,))

    texts = [
        jax.jit(draw, static_argnums=1).lower(jnp.zeros(2, jnp.uint32), make).as_text()
        for make in (unrolled, lambda key: key)
    ]
    assert ["stablehlo.while" in text for text in texts] == [False, True]


def test_keys_come_back_as_they_were():
    tree = {"key": unrolled(jax.random.key(5)), "x": jnp.ones(2), "usual": jax.random.key(6)}
    back = rolled(tree)
    assert back["key"].dtype == back["usual"].dtype == jax.random.key(0).dtype != tree["key"].dtype
    np.testing.assert_array_equal(jax.random.key_data(back["key"]), [0, 5])
    assert back["x"] is tree["x"]


def test_other_generators_are_left_alone():
    key = jax.random.key(0, impl="rbg")
    assert unrolled(key).dtype == key.dtype
    with jax.threefry_partitionable(False):
        usual = jax.random.key(0)
        assert unrolled(usual).dtype == usual.dtype
