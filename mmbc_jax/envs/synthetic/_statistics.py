r"""Closed-form moments of two-dimensional Gaussian noise: Rayleigh and Rice.

With n ~ N(0, s^2 I_2): |n| is Rayleigh, E|n| = s sqrt(pi/2), Std|n| = s sqrt(2 - pi/2). With a displacement
d, |d + n| is Rice, E|d + n| = s sqrt(pi/2) L_{1/2}(-d^2 / 2 s^2), L the Laguerre function (Rice 1945,
https://doi.org/10.1002/j.1538-7305.1945.tb00453.x).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax.scipy.special import i0e, i1e

from mmbc_jax.core.types import Array

RAYLEIGH_MEAN = math.sqrt(math.pi / 2)
RAYLEIGH_STD = math.sqrt(2 - math.pi / 2)
SIGMAS = 5.0  # standard deviations that count as all of a distribution
SMALLEST = 1e-7  # stands for s = 0: the Rice mean is then d to rounding


def rice_mean(distance: Array, std: Array) -> Array:
    r"""E|d + n| for n ~ N(0, s^2 I_2), without overflow at any d / s.

    L_{1/2}(-2u) = exp(-u) [(1 + 2u) I_0(u) + 2u I_1(u)], u = d^2 / 4 s^2, with the exponentially scaled
    Bessel functions.

    Args:
      distance: [...] d >= 0.
      std: [...] s >= 0 per axis, broadcast against `distance`.

    Returns:
      [...] the mean length.
    """
    std = jnp.maximum(std, SMALLEST)
    u = 0.25 * (distance / std) ** 2
    return std * RAYLEIGH_MEAN * ((1.0 + 2.0 * u) * i0e(u) + 2.0 * u * i1e(u))
