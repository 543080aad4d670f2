"""Random parameters: of a network that was only traced, since to compile its initialisation takes longer than to time
it, and of an initialised one, where layers that start at zero would make agreement mean little."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array, PyTree


def random_like(shapes: PyTree, seed: int = 0) -> PyTree:
    """Parameters of the given shapes (as `jax.eval_shape` finds them), none of them zero.

    Kernels have about unit gain, scales of normalisations lie around 1, everything else around 0.
    """
    rng = np.random.default_rng(seed)

    def fill(path: Any, leaf: Any) -> Array:
        size = leaf.shape[0] ** -0.5 if len(leaf.shape) > 1 else 0.1
        centre = 1.0 if getattr(path[-1], "key", None) == "scale" else 0.0
        return jnp.asarray(centre + size * rng.standard_normal(leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def randomise(params: PyTree, seed: int = 1) -> PyTree:
    """Adds noise to every parameter, so that no layer is zero and agreement means something."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [leaf + 0.05 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return tree.unflatten(noisy)
