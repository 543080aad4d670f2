"""One entry of the last axis for each index."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Int

from mmbc_jax.core.types import Array


def picked(values: Array, index: Int[Array, "*batch"]) -> Array:
    """[...] entries `index` [...] of `values` [..., K], such as the log-probabilities of what was drawn."""
    return jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]
