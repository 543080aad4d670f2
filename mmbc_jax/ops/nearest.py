"""Distances to the nearest neighbours in each of several classes, in blocks of rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from mmbc_jax.core.types import Array

_BLOCK = 256  # rows whose distances are held at once


def neighbour_distances(
    points: Float[Array, "N E"],
    others: Float[Array, "M E"],
    label: Int[Array, " M"],
    counts: Float[Array, " M"],
    num_labels: int,
    k: int,
) -> Float[Array, "N Z"]:
    """Mean Euclidean distance to the k nearest of the `others` of each label.

    Squares are `|x|^2 + |y|^2 - 2 x.y` about the mean of the others, cut off at 0; so the error of a distance is up
    to about 1e-3 of the spread of the points, far less where it is of their order. Memory is that of 256 Z M numbers.

    Args:
      points: [N, E].
      others: [M, E].
      label: [M] int32 in [0, Z).
      counts: [M] 1 where one of the others may be a neighbour, else 0.
      num_labels: Z.
      k: >= 1.

    Returns:
      [N, Z]; over as many neighbours as there are where they are fewer than k, 0 where there are none.
    """
    k = min(k, others.shape[0])
    centre = others.mean(0)
    points, others = points - centre, others - centre
    squares = jnp.square(others).sum(-1)
    may = (label == jnp.arange(num_labels)[:, None]) & (counts > 0)

    def row(point: Array) -> Array:
        apart = jnp.maximum(jnp.square(point).sum() + squares - 2.0 * (others @ point), 0.0)
        least = -jax.lax.top_k(jnp.where(may, -apart, -jnp.inf), k)[0]
        known = jnp.isfinite(least)
        return jnp.sqrt(jnp.where(known, least, 0.0)).sum(-1) / jnp.maximum(known.sum(-1), 1)

    return jnp.asarray(jax.lax.map(row, points, batch_size=_BLOCK))
