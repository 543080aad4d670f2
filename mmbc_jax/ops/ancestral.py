"""The Gaussian posterior of a diffusion between two of its levels."""

from __future__ import annotations

import jax.numpy as jnp

from mmbc_jax.core.types import Array


def ancestral_coefficients(
    now: tuple[Array, Array], after: tuple[Array, Array]
) -> tuple[Array, Array, Array]:
    """The Gaussian posterior between two levels of one path: q(x_s | x_t, x1) with t before s.

    With a = alpha_t / alpha_s and r^2 = sigma_t^2 - a^2 sigma_s^2, the variance of x_t given x_s,

      mean = (a sigma_s^2 / sigma_t^2) x_t + (alpha_s r^2 / sigma_t^2) x1,
      variance = r^2 sigma_s^2 / sigma_t^2

    (Ho et al. 2020 in the notation of Kingma et al. 2021). At s=1 it is a point mass on x1.

    Args:
      now: (alpha_t, sigma_t), sigma_t > 0.
      after: (alpha_s, sigma_s), alpha_s > 0.

    Returns:
      (factor of x_t, factor of x1, standard deviation).
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = now, after
    ratio = alpha_t / alpha_s
    variance = jnp.maximum(sigma_t**2 - (ratio * sigma_s) ** 2, 0.0)
    scale = 1.0 / sigma_t**2
    return ratio * sigma_s**2 * scale, alpha_s * variance * scale, jnp.sqrt(variance * scale) * sigma_s
