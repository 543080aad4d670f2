"""Means and variances of what counts: every number with a weight of 0 or 1.

Where all weights are 1 they are the plain ones. What has weight 0 must still be finite: 0 times NaN is NaN.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Float

from mmbc_jax.core.types import Array


def mean(x: Float[Array, "*batch"], weight: Float[Array, "*batch"]) -> Float[Array, ""]:
    """sum(weight x) / sum(weight); 0 where nothing counts."""
    return (x * weight).sum() / jnp.maximum(weight.sum(), 1.0)


def variance(x: Float[Array, "*batch"], weight: Float[Array, "*batch"]) -> Float[Array, ""]:
    """The mean of squared differences from the mean; 0 where nothing counts."""
    return mean(jnp.square(x - mean(x, weight)), weight)
