"""Keys whose random bits are computed in one piece: the bits of JAX's own, in a tenth of the operations.

JAX lowers its Threefry generator to a loop of five rounds on a CPU, some 80 operations of a few words each for every
draw and every split; written out, the rounds are one fused operation. The compiler computes what is fused again for
every use, though, so that draws of more than `LARGEST` numbers are left to the loop.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl
from jaxtyping import UInt32

from mmbc_jax.core.keys import IMPL, seeded, wrapped
from mmbc_jax.core.types import Array, Key, PyTree

Words = UInt32[Array, "..."]

LARGEST = 1024
"""Numbers or keys of one key, before any vmap, that are made in one piece."""

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_NAME = "threefry2x32_unrolled"


def unrolled(key: Key) -> Key:
    """The same key or keys; all that is split off and drawn has the same bits, computed in one piece.

    Keys of another generator, or of JAX's former order of bits (`jax_threefry_partitionable` off), come back as they
    are. Not to be kept in a state, whose type would change: `rolled` before that.
    """
    usual = jax.random.key_impl(key) == IMPL and jax.threefry_partitionable.value
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_UNROLLED) if usual else key


def rolled(tree: PyTree) -> PyTree:
    """A key or a pytree with all keys that `unrolled` made, or that were split off those, as JAX makes them."""

    def usual(leaf: Any) -> Any:
        ours = jax.dtypes.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key) and _NAME in repr(
            jax.random.key_impl(leaf)
        )
        return _usual(jax.random.key_data(leaf)) if ours else leaf

    return jax.tree.map(usual, tree)


def threefry(key: tuple[Words, Words], words: tuple[Words, Words]) -> tuple[Words, Words]:
    """Threefry-2x32 in 20 rounds (Salmon et al. 2011) of pairs of words, broadcast against the key's."""
    keys = (*key, key[0] ^ key[1] ^ jnp.uint32(_PARITY))
    x, y = words[0] + keys[0], words[1] + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << jnp.uint32(rotation)) | (y >> jnp.uint32(32 - rotation)))
        x, y = x + keys[(group + 1) % 3], y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y


def _usual(key: Words) -> Key:
    return jnp.asarray(wrapped(key))


def _seed(seed: Array) -> Words:
    return jax.random.key_data(seeded(seed))


def _counted(key: Words, shape: tuple[int, ...]) -> tuple[Words, Words]:
    """Both words of the counters 0, 1, ... of `shape`, hashed."""
    low = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return threefry((key[0], key[1]), (jnp.zeros_like(low), low))


def _split(key: Words, shape: tuple[int, ...]) -> Words:
    if math.prod(shape) > LARGEST:
        return jax.random.key_data(jax.random.split(_usual(key), shape))
    return jnp.stack(_counted(key, shape), -1)


def _random_bits(key: Words, bit_width: int, shape: tuple[int, ...]) -> Array:
    dtype = {8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32, 64: jnp.uint64}[bit_width]
    if math.prod(shape) > LARGEST or bit_width == 64:
        return jax.random.bits(_usual(key), shape, dtype)
    high, low = _counted(key, shape)
    return (high ^ low).astype(dtype)


def _fold_in(key: Words, data: Any) -> Words:
    word = jnp.asarray(data).astype(jnp.uint32)
    return jnp.stack(threefry((key[0], key[1]), (jnp.zeros_like(word), word)))


_UNROLLED: Any = define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name=_NAME,
    tag="unrolled",
)
