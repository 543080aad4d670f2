"""Densities of Gaussian actors, squashed into a box or not."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array
from mmbc_jax.ops.capped import capped

# E f(eps) of eps ~ N(0, 1) is sum_i weight_i f(node_i), exact for polynomials up to degree 39.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(20)
_WEIGHTS = _WEIGHTS / math.sqrt(2.0 * math.pi)


def normal_log_prob(x: Array, mean: Array, log_std: Array) -> Array:
    """[..., W] log N(x; mean, exp(log_std)^2) of each entry."""
    return -0.5 * jnp.square((x - mean) * jnp.exp(capped(-log_std))) - log_std - 0.5 * math.log(2 * math.pi)


def squashed_entropy(mean: Array, log_std: Array, box: float) -> Array:
    """Entropy of w = box tanh(x), x ~ N(mean, exp(log_std)^2), in nats; of x itself where `box` is 0.

    H(w) = H(x) + sum_i E[log dw_i/dx_i],   log dw/dx = log box + 2 (log 2 - x - softplus(-2 x))

    with the expectation by Gauss-Hermite quadrature: for standard deviations up to 2 its error is below 0.01
    nats per entry.

    Args:
      mean: [..., W].
      log_std: [..., W].
      box: half-width >= 0.

    Returns:
      [...].
    """
    gaussian = (log_std + 0.5 * math.log(2.0 * math.pi * math.e)).sum(-1)
    if not box:
        return gaussian
    x = mean[..., None] + jnp.exp(capped(log_std))[..., None] * jnp.asarray(_NODES, mean.dtype)
    slope = math.log(box) + 2.0 * (math.log(2.0) - x - jax.nn.softplus(-2.0 * x))
    return gaussian + (slope @ jnp.asarray(_WEIGHTS, mean.dtype)).sum(-1)
