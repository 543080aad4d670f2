"""What the samplers share: time grids and the loop over their steps."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmbc_jax.core.config import check_range
from mmbc_jax.core.types import Array, PyTree


def check_steps(steps: int) -> None:
    """Raises ConfigError unless there is at least one step."""
    check_range("sampler.steps", steps, 1)


def uniform_grid(steps: int) -> Array:
    """[steps + 1] times from 0 (noise) to 1 (data), evenly spaced.

    Even spacing suits both paths in use: on the linear path dx/dt is a difference of data and noise, and the
    cosine path is parametrised by its angle, so that dx/dt stays of order 1 at both ends. What is singular
    is the recovery of the data from the noise at t=0 and of the noise from the data at t=1. No sampler here
    evaluates a field at t=1, and a field must answer at t=0 (see `min_alpha` of policies/diffusion).
    """
    return jnp.linspace(0.0, 1.0, steps + 1)


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


def run_steps(step: Callable[[Array, PyTree], Array], x0: Array, inputs: PyTree, steps: int) -> Array:
    """x after `step(x, inputs[i])` for i = 0 .. steps-1.

    Args:
      step: one step of the integrator.
      x0: [..., H, A] start.
      inputs: pytree of [steps, ...] arrays.
      steps: number of steps.

    Returns:
      [..., H, A]; reverse-differentiable in `x0` and `inputs`.
    """
    return jax.lax.scan(lambda x, item: (step(x, item), None), x0, inputs, length=steps)[0]
