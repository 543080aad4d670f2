"""Where all randomness starts: a seed means the same bits whatever the shell says of JAX.

JAX reads its generator, the order of its bits and the width of its numbers from the environment
(`JAX_DEFAULT_PRNG_IMPL`, `JAX_THREEFRY_PARTITIONABLE`, `JAX_ENABLE_X64`). Other draws under the same seed are another
run. So keys are made here, the first two are pinned for whatever libraries draw, and the third is refused.
"""

from __future__ import annotations

from typing import Any

import jax

from mmbc_jax.core.errors import UserError
from mmbc_jax.core.types import Array, Key

IMPL = "threefry2x32"
RANDOM = f"{IMPL}, partitionable"
"""What decides about the bits of a seed, as checkpoints record it."""


def seeded(seed: Any) -> Key:
    """The key of a seed, [] int of any kind, traced or not."""
    return jax.random.key(seed, impl=IMPL)


def wrapped(words: Array) -> Key:
    """Keys [...] of the words [..., 2] that `jax.random.key_data` gives of ours."""
    keys: Key = jax.random.wrap_key_data(words, impl=IMPL)
    return keys


def pin_randomness() -> None:
    """Has JAX draw what `RANDOM` says, also from keys that libraries make.

    Raises:
      UserError: numbers have 64 bits, of which draws are others, and which nothing here is made for.
    """
    if jax.config.values["jax_enable_x64"]:
        raise UserError(
            "JAX_ENABLE_X64 is set: draws and sums in 64 bits are not those of a seed here; unset it, or set it to 0"
        )
    jax.config.update("jax_default_prng_impl", IMPL)
    jax.config.update("jax_threefry_partitionable", True)
