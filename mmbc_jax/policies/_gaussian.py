"""What the policies with Gaussian densities share: bounded standard deviations and masked densities.

The lower bound is a share of the data's own spread (`data_spread`), entry by entry, measured at `init` and kept
among the statistics: a bound in normalised units would be above the spread of precise data in wide coordinates,
and the policy could then do nothing but leave the modes sideways.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from mmbc_jax.core.options import option
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.nn.backbone import NetworkOptions

LOG_2PI = math.log(2.0 * math.pi)
MIN_SHARE = 0.1  # of the data's spread: far enough below it that a policy is never wider than the data for it


@dataclasses.dataclass(frozen=True, kw_only=True)
class DensityOptions(NetworkOptions):
    """Options of every policy with Gaussian densities."""

    min_std: float = option(
        MIN_SHARE,
        "lower bound of sigma, in units of the data's own spread around one way of doing it",
        low=0.0,
        high=1.0,
        open_low=True,
    )
    max_std: float = option(1.0, "upper bound of sigma, in normalised units", low=0.0, open_low=True)

    def bounds(self, stats: PyTree) -> tuple[Array, float]:
        """(lower [H, A], upper) bound of sigma for statistics with "spread" [H, A]; the lower is the lesser."""
        return jnp.minimum(self.min_std * stats["spread"], 0.5 * self.max_std), self.max_std


Bound = Array | float


def bounded_log_std(raw: Array, low: Bound, high: float) -> Array:
    """log std = log low + log(high / low) sigmoid(raw): between the two standard deviations, smoothly."""
    return jnp.log(low) + jnp.log(high / low) * jax.nn.sigmoid(raw)


def raw_of_std(std: Array | float, low: Bound, high: float) -> Array:
    """The argument that `bounded_log_std` maps to log std; std is first moved into the middle .98 of the range.

    At the bounds themselves the sigmoid has no slope, and a network that starts there would not learn.
    """
    share = (jnp.log(std) - jnp.log(low)) / jnp.log(high / low)
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
