"""What the policies with Gaussian densities share: bounded standard deviations and masked densities."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from mmbc_jax.core.options import option
from mmbc_jax.core.types import Array
from mmbc_jax.nn.backbone import NetworkOptions

LOG_2PI = math.log(2.0 * math.pi)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DensityOptions(NetworkOptions):
    """Options of every policy with Gaussian densities."""

    min_std: float = option(0.01, "lower bound of sigma, in normalised units", low=0.0, open_low=True)
    max_std: float = option(1.0, "upper bound of sigma", low=0.0, open_low=True)

    def check(self) -> None:
        """Raises ConfigError where options do not go together."""
        super().check()
        if not self.max_std > self.min_std:
            raise self.error("max_std", f"more than {self.section}.min_std = {self.min_std}")


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
