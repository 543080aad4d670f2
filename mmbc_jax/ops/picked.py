"""Entries and rows at integer indices, whose gradients are comparisons and products instead of scattered sums.

A scatter on a GPU adds in whatever order its threads arrive, so that a resumed run would not be the same run; and the
gradient of plain indexing is a scatter.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from mmbc_jax.core.types import Array


@jax.custom_jvp
def picked(values: Float[Array, "*batch K"], index: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """[...] entries `index` [...] in [0, K) of `values` [..., K], such as the log-probabilities of what was drawn."""
    return jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]


@picked.defjvp
def _picked_slope(at: tuple[Array, Array], along: tuple[Array, Any]) -> tuple[Array, Array]:
    values, index = at
    own = jnp.arange(values.shape[-1], dtype=index.dtype) == index[..., None]
    return picked(values, index), jnp.where(own, along[0], 0.0).sum(-1)


@jax.custom_jvp
def rows(table: Float[Array, "..."], index: Int[Array, "..."]) -> Float[Array, "..."]:
    """[..., *event] rows `index` [...] in [0, Z) of a table of parameters [Z, *event].

    Forwards a gather: for a table of matrices ten times cheaper than a product with one-hot indices. Differentiated,
    that product: d/d table_k = sum_b 1[index_b = k] slope_b.
    """
    return table[index]


@rows.defjvp
def _rows_slope(at: tuple[Array, Array], along: tuple[Array, Any]) -> tuple[Array, Array]:
    table, index = at
    one_hot = jax.nn.one_hot(index.reshape(-1), table.shape[0], dtype=table.dtype)
    # a GPU would round the factors to ten bits by default
    change = jnp.matmul(one_hot, along[0].reshape(table.shape[0], -1), precision=jax.lax.Precision.HIGHEST)
    return rows(table, index), change.reshape(*index.shape, *table.shape[1:])
