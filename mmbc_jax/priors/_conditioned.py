"""What priors that see the observation share: network options, and inputs of autoregressive networks."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range, check_widths
from mmbc_jax.core.types import Array

_MAX_LOG_VARIANCE = 8.0


def network_config() -> dict[str, Any]:
    """Defaults: widths of the MLP's hidden layers, and octaves of the observation's Fourier features."""
    return {"hidden": (128, 128), "fourier_octaves": 4}


def check_network(cfg: ConfigDict) -> None:
    """Raises ConfigError where an option of `network_config` cannot work."""
    check_widths("prior.hidden", cfg.hidden)
    check_range("prior.fourier_octaves", cfg.fourier_octaves, 0, 16)


def bounded_std(raw: Array) -> Array:
    """Standard deviations [...] of raw log variances [...]: log v = 8 tanh(raw / 8), so within [.018, 55]."""
    return jnp.exp(0.5 * _MAX_LOG_VARIANCE * jnp.tanh(raw / _MAX_LOG_VARIANCE))


def flat_pair(value: Array, event_shape: tuple[int, ...], obs: Array) -> tuple[Array, Array]:
    """Flattens events and gives both arrays the same leading axes.

    Args:
      value: [..., *event_shape].
      event_shape: of a sample.
      obs: [..., D], leading axes broadcast against those of `value`.

    Returns:
      (value [..., n] with n the product of `event_shape`, obs [..., D]).
    """
    lead = jnp.broadcast_shapes(value.shape[: value.ndim - len(event_shape)], obs.shape[:-1])
    value = jnp.broadcast_to(value, (*lead, *event_shape)).reshape(*lead, math.prod(event_shape))
    return value, jnp.broadcast_to(obs, (*lead, obs.shape[-1]))


def earlier_entries(values: Array, features: Array) -> Array:
    """Input of one network for all conditionals p(x_i | x_<i, s).

    Row i holds the entries before i with zeros in the place of the others, i as a one-hot vector, and the
    features of the observation.

    Args:
      values: [..., n, E] the n entries of x.
      features: [..., F] of the observation.

    Returns:
      [..., n, n * E + n + F].
    """
    *lead, n, _ = values.shape
    before = jnp.tril(jnp.ones((n, n)), -1)[..., None] * values[..., None, :, :]
    position = jnp.broadcast_to(jnp.eye(n), (*lead, n, n))
    shared = jnp.broadcast_to(features[..., None, :], (*lead, n, features.shape[-1]))
    return jnp.concatenate([before.reshape(*lead, n, -1), position, shared], -1)
