"""How the arrays of a state lie in a checkpoint: a few long ones in place of many, and the way back."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.runs.mesh import is_key


def data_of(leaf: Any) -> Any:
    """A leaf as numbers: of a key its integers."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def stored(leaf: Any) -> np.ndarray:
    """A leaf as it is written: on the host, so that nothing of a device is; one without elements as its shape."""
    data = data_of(leaf)
    return np.asarray(data.shape, np.int16) if data.size == 0 else np.asarray(data)


def packed(tree: PyTree) -> dict[str, np.ndarray]:
    """{type: all numbers of that type, leaf by leaf} of a tree of host arrays.

    A hundred small arrays take orbax five times as long as these few, and for each that it writes tensorstore 0.1.86
    keeps memory: in a long run of short epochs the process grew by 70 kB a checkpoint.
    """
    found: dict[str, list[np.ndarray]] = {}
    for leaf in jax.tree.leaves(tree):
        found.setdefault(str(leaf.dtype), []).append(leaf.reshape(-1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def room_for(like: PyTree) -> dict[str, np.ndarray]:
    """Arrays of the shapes and types that `packed` makes of a tree like this one, in no memory."""
    sizes: dict[str, int] = {}
    for leaf in jax.tree.leaves(like):
        sizes[str(leaf.dtype)] = sizes.get(str(leaf.dtype), 0) + leaf.size
    return {name: np.broadcast_to(np.zeros((), name), size) for name, size in sizes.items()}


def unpacked(packed: dict[str, np.ndarray], like: PyTree) -> PyTree:
    """The tree that `packed` was given, with the structure, shapes and types of `like`."""
    at = dict.fromkeys(packed, 0)

    def next_of(leaf: np.ndarray) -> np.ndarray:
        name = str(leaf.dtype)
        start = at[name]
        at[name] = start + leaf.size
        return np.asarray(packed[name][start : start + leaf.size]).reshape(leaf.shape)

    return jax.tree.map(next_of, like)


def empty_like(leaf: Any) -> np.ndarray:
    """An array of the leaf's shape and type as it is stored, in no memory: orbax then reads into the host's."""
    data = jax.eval_shape(data_of, leaf)
    shape, dtype = ((len(data.shape),), jnp.int16) if data.size == 0 else (data.shape, data.dtype)
    return np.broadcast_to(np.zeros((), dtype), shape)


def check_alike(saved: np.ndarray, leaf: Any) -> None:
    """Raises ValueError where a leaf without elements was saved as another."""
    if leaf.size == 0 and tuple(saved) != leaf.shape:
        raise ValueError(f"an array of shape {saved.tolist()} where {list(leaf.shape)} belongs")


def revived(saved: np.ndarray, leaf: Any) -> Array:
    """The array as a computation would have left it.

    Not pinned to its device: programs for pinned arguments are other programs, and a resumed run would find none of
    its own in the compilation cache.
    """
    data = jnp.array(saved) if leaf.size else jnp.zeros(leaf.shape, leaf.dtype)
    if not is_key(leaf):
        return data
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(jnp.empty((), leaf.dtype)))
