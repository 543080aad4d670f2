"""Two leading axes as one, whatever follows them."""

from __future__ import annotations

import jax

from mmbc_jax.core.types import PyTree


def merge_leading(tree: PyTree) -> PyTree:
    """Leaves [T, B, ...] as [T B, ...], row-major; from their sizes, so that leaves without elements pass too."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)
