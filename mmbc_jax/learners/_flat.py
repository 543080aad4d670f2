"""Parameters and the state of their optimiser as vectors, while many gradient steps are taken.

A step of AdamW is a handful of operations for every array; of a vector it is one handful.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from mmbc_jax.core.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class Flat:
    """Between trees like one of parameters and vectors of as many numbers.

    Attributes:
      kind: structure, shapes and types of the parameters.
      restore: a vector as such a tree.
    """

    kind: Any
    restore: Callable[[Array], PyTree]

    @classmethod
    def like(cls, params: PyTree) -> Flat:
        """For trees with the structure, shapes and types of `params`."""
        return cls(_kind(params), ravel_pytree(params)[1])

    def pack(self, tree: PyTree) -> PyTree:
        """The tree with a vector for each part of it that is like the parameters, gradients and moments."""

        def alike(part: PyTree) -> bool:
            return bool(_kind(part) == self.kind)

        return jax.tree.map(lambda part: ravel_pytree(part)[0] if alike(part) else part, tree, is_leaf=alike)

    def unpack(self, tree: PyTree) -> PyTree:
        """What `pack` was given; all vectors in the tree are those that it made."""
        return jax.tree.map(lambda leaf: self.restore(leaf) if jnp.ndim(leaf) == 1 else leaf, tree)


def _kind(tree: PyTree) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
