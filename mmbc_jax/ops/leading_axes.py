"""Leading axes: two as one, and factors that broadcast over what follows them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mmbc_jax.core.types import Array, PyTree


def merge_leading(tree: PyTree) -> PyTree:
    """Leaves [T, B, ...] as [T B, ...], row-major; from their sizes, so that leaves without elements pass too."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)


def over_chunk(t: Array) -> Array:
    """Times [...] as factors of chunks [..., H, A]: [..., 1, 1]; a single time [] as it is."""
    t = jnp.asarray(t)
    return t[..., None, None] if t.ndim else t
