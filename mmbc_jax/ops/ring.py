"""A replay buffer on the device: a ring of the last `capacity` rows.

Arrays of fixed shape only, so it lives in a training state, under `jit`, `scan` and `vmap`. `add` writes in
place where the ring is donated or carried by a loop; sample from the ring that `add` returns, since an older one
that is still read forces a copy of all rows.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmbc_jax.core.types import Array, Key, PyTree

_MAX_CAPACITY = 2**30  # cursor + rows added stay below twice this, inside int32


class Ring(NamedTuple):
    """The last rows added.

    Attributes:
      storage: tree of [capacity, ...], zeros where nothing was written yet.
      cursor: [] int32 where the next row goes.
      filled: [] int32 rows that hold something.
    """

    storage: PyTree
    cursor: Array
    filled: Array


def init(example: PyTree, capacity: int) -> Ring:
    """An empty ring.

    Args:
      example: tree of one row; of each leaf only shape and dtype count, and both are kept.
      capacity: rows, in [1, 2^30].

    Raises:
      ValueError: the capacity is out of range.
    """
    if not 1 <= capacity <= _MAX_CAPACITY:
        raise ValueError(f"capacity {capacity} is not in [1, 2^30]")
    storage = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), example)
    # two arrays, not one twice: a donated buffer may appear only once
    return Ring(storage, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def capacity(ring: Ring) -> int:
    """Rows that the ring of one run can hold."""
    return int(jax.tree.leaves(ring.storage)[0].shape[0])


def size(ring: Ring) -> Array:
    """[] int32 rows that hold something."""
    return ring.filled


def add(ring: Ring, batch: PyTree) -> Ring:
    """Writes B rows at once over the oldest ones.

    Args:
      ring: of one run.
      batch: the storage's tree with leaves [B, ...] of the same dtypes, 1 <= B <= capacity.

    Returns:
      The ring afterwards.

    Raises:
      ValueError: another tree, shape or dtype than the storage's, or more rows than it holds.
    """
    rows, total = _check(ring, batch), capacity(ring)
    index = (ring.cursor + jnp.arange(rows, dtype=jnp.int32)) % total

    def write(stored: Array, new: Array) -> Array:
        return stored.at[index].set(new, mode="promise_in_bounds", unique_indices=True)

    return Ring(
        storage=jax.tree.map(write, ring.storage, batch),
        cursor=(ring.cursor + rows) % total,
        filled=jnp.minimum(ring.filled + rows, total),
    )


def sample(ring: Ring, key: Key, n: int) -> PyTree:
    """n rows drawn uniformly, with replacement, from those that hold something; zeros from an empty ring.

    Args:
      ring: of one run.
      key: for the rows.
      n: static.

    Returns:
      Tree of [n, ...].
    """
    index = jax.random.randint(key, (n,), 0, jnp.maximum(ring.filled, 1))
    return jax.tree.map(lambda stored: stored.at[index].get(mode="promise_in_bounds"), ring.storage)


def _check(ring: Ring, batch: PyTree) -> int:
    """The number of rows of a batch that fits."""
    wanted: PyTree = jax.tree.structure(ring.storage)
    found: PyTree = jax.tree.structure(batch)
    if found != wanted:
        raise ValueError(f"a batch {found} where {wanted} belongs")
    stored, new = jax.tree.leaves(ring.storage), jax.tree.leaves(batch)
    rows = new[0].shape[0] if new[0].ndim else 0
    for old, leaf in zip(stored, new, strict=True):
        shape = (rows, *old.shape[1:])
        if leaf.shape != shape or leaf.dtype != old.dtype:
            raise ValueError(f"a leaf {leaf.dtype}{list(leaf.shape)} where {old.dtype}{list(shape)} belongs")
    if not 1 <= rows <= capacity(ring):
        raise ValueError(f"{rows} rows at once into a ring of {capacity(ring)}")
    return rows
