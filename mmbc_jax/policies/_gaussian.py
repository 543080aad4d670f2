"""What the policies with Gaussian densities share: bounded standard deviations and masked densities."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.types import Array

LOG_2PI = math.log(2.0 * math.pi)


def check_std(cfg: ConfigDict) -> None:
    """Raises ConfigError unless 0 < cfg.min_std < cfg.max_std."""
    check_range("policy.min_std", cfg.min_std, 0.0, open_low=True)
    check_range("policy.max_std", cfg.max_std, cfg.min_std, open_low=True)


def bounded_log_std(raw: Array, low: float, high: float) -> Array:
    """log std = log low + log(high / low) sigmoid(raw): between the two standard deviations, smoothly."""
    return math.log(low) + math.log(high / low) * jax.nn.sigmoid(raw)


def raw_of_std(std: Array | float, low: float, high: float) -> Array:
    """The argument that `bounded_log_std` maps to log std; std is first moved into the middle .98 of the range.

    At the bounds themselves the sigmoid has no slope, and a network that starts there would not learn.
    """
    share = (jnp.log(std) - math.log(low)) / math.log(high / low)
    share = jnp.clip(share, 0.01, 0.99)
    return jnp.log(share) - jnp.log1p(-share)


def masked_log_prob(chunk: Array, mean: Array, log_std: Array, mask: Array | float = 1.0) -> Array:
    """Log density of the recorded actions under diagonal Gaussians.

    sum_{h,a} m_h [-(x_ha - mu_ha)^2 / 2 sigma_ha^2 - log sigma_ha - log(2 pi) / 2]

    Args:
      chunk: [..., H, A] x.
      mean: [..., H, A].
      log_std: [..., H, A].
      mask: [..., H] of 0 and 1, or 1 for all.

    Returns:
      [...] nats.
    """
    each = -0.5 * jnp.square((chunk - mean) * jnp.exp(-log_std)) - log_std - 0.5 * LOG_2PI
    return (each.sum(-1) * mask).sum(-1)
