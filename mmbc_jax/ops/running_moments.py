"""Mean and variance of a stream of numbers, batch by batch."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from mmbc_jax.core.types import Array


class Moments(NamedTuple):
    """Moments of all rows so far.

    Attributes:
      rows: [] float32 how many.
      mean: [D].
      variance: [D] of the population: the mean of squared differences from `mean`.
    """

    rows: Float[Array, ""]
    mean: Float[Array, " D"]
    variance: Float[Array, " D"]


def moments_of(rows: Float[Array, "*batch D"], weight: Float[Array, "*batch"] | None = None) -> Moments:
    """Moments of one batch [..., D] of at least one row: of those with a `weight` of 1 and not 0; None for all."""
    flat = rows.reshape(-1, rows.shape[-1])
    if weight is None:
        return Moments(jnp.asarray(float(flat.shape[0])), flat.mean(0), flat.var(0))
    own = weight.reshape(-1, 1)
    count = own.sum()
    mean = (flat * own).sum(0) / jnp.maximum(count, 1.0)
    return Moments(count, mean, (jnp.square(flat - mean) * own).sum(0) / jnp.maximum(count, 1.0))


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of two batches together (Chan, Golub and LeVeque 1979, in shares of the count).

    With f = n_b / (n_a + n_b) and d = mean_b - mean_a: mean = mean_a + f d and
    variance = (1 - f) variance_a + f variance_b + f (1 - f) d^2. No sum grows with the count, so float32 carries
    it for as long as the count itself is exact to a few digits.
    """
    rows = a.rows + b.rows
    share = b.rows / jnp.maximum(rows, 1.0)
    step = b.mean - a.mean
    variance = (1.0 - share) * a.variance + share * b.variance + share * (1.0 - share) * jnp.square(step)
    return Moments(rows, a.mean + share * step, variance)
