"""Distances to nearest neighbours of another class, in blocks of rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from mmbc_jax.core.types import Array

_BLOCK = 256  # rows whose distances are held at once


def neighbour_distance(
    points: Float[Array, "N E"],
    label: Int[Array, " N"],
    others: Float[Array, "M E"],
    other_label: Int[Array, " M"],
    counts: Float[Array, " M"],
    k: int,
) -> Float[Array, " N"]:
    """Mean Euclidean distance to the k nearest of the `others` that have another label.

    Squares are `|x|^2 + |y|^2 - 2 x.y` about the mean of the others, cut off at 0; so the error of a distance is up
    to about 1e-3 of the spread of the points, far less where it is of their order. Memory is that of 256 M numbers.

    Args:
      points: [N, E].
      label: [N] int32.
      others: [M, E].
      other_label: [M] int32.
      counts: [M] 1 where one of the others may be a neighbour, else 0.
      k: >= 1.

    Returns:
      [N]; over as many neighbours as there are where they are fewer than k, 0 where there are none.
    """
    k = min(k, others.shape[0])
    centre = others.mean(0)
    points, others = points - centre, others - centre
    squares = jnp.square(others).sum(-1)

    def row(one: tuple[Array, Array]) -> Array:
        point, own = one
        apart = jnp.square(point).sum() + squares - 2.0 * (others @ point)
        may = (counts > 0) & (other_label != own)
        least = -jax.lax.top_k(jnp.where(may, -jnp.maximum(apart, 0.0), -jnp.inf), k)[0]
        known = jnp.isfinite(least)
        return jnp.sqrt(jnp.where(known, least, 0.0)).sum() / jnp.maximum(known.sum(), 1)

    return jnp.asarray(jax.lax.map(row, (points, label), batch_size=_BLOCK))
