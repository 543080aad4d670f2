"""Min-max normalisation of observations and actions to [-1, 1]."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

# Below this fraction of its magnitude, the range of a dimension is rounding: it counts as constant.
_CONSTANT = 4.0 * float(np.finfo(np.float32).eps)
_TINY = float(np.finfo(np.float32).tiny)


class Normalizer(NamedTuple):
    """Bounds that map to [-1, 1] and back, dimension by dimension.

    With mid = (low + high) / 2 and half = (high - low) / 2 the map is y = (x - mid) / half and its
    inverse x = mid + half y. A constant dimension (half within rounding of 0) maps to 0 whatever x is,
    and back to mid. Values outside the bounds map outside [-1, 1]; nothing is clipped. Float32 carries
    halves from 1e-37 to 8e37 (beyond, their reciprocals are flushed to 0).

    Attributes:
      obs_low: [D] observation that -1 stands for, physical units.
      obs_high: [D] observation that +1 stands for.
      action_low: [A] action that -1 stands for, physical units.
      action_high: [A] action that +1 stands for.
    """

    obs_low: jax.Array
    obs_high: jax.Array
    action_low: jax.Array
    action_high: jax.Array

    def normalize_obs(self, obs: ArrayLike) -> jax.Array:
        """Observations [..., D] in physical units to [-1, 1]."""
        return _normalize(obs, self.obs_low, self.obs_high)

    def denormalize_obs(self, obs: ArrayLike) -> jax.Array:
        """Observations [..., D] in [-1, 1] to physical units."""
        return _denormalize(obs, self.obs_low, self.obs_high)

    def normalize_action(self, action: ArrayLike) -> jax.Array:
        """Actions [..., A] in physical units to [-1, 1]."""
        return _normalize(action, self.action_low, self.action_high)

    def denormalize_action(self, action: ArrayLike) -> jax.Array:
        """Actions [..., A] in [-1, 1] to physical units."""
        return _denormalize(action, self.action_low, self.action_high)


def fit(
    obs: np.ndarray,
    action: np.ndarray,
    action_low: ArrayLike | None = None,
    action_high: ArrayLike | None = None,
) -> Normalizer:
    """Bounds of the data; for actions the environment's physical bounds where it has them.

    Args:
      obs: [n, D] observations, physical units, n > 0.
      action: [n, A] actions, physical units.
      action_low: [A] action that -1 stands for; None or an infinite entry for the smallest recorded.
      action_high: [A] action that +1 stands for; None or an infinite entry for the largest recorded.

    Returns:
      The normaliser, float32.

    Raises:
      ValueError: no rows, bounds of another size than the actions, or low above high.
    """
    obs, action = np.asarray(obs, np.float32), np.asarray(action, np.float32)
    if obs.ndim != 2 or action.ndim != 2 or not len(obs) or not len(action):
        raise ValueError(f"needs rows of obs [n, D] and action [n, A], got {obs.shape} and {action.shape}")
    low = np.asarray(-np.inf if action_low is None else action_low, np.float32)
    high = np.asarray(np.inf if action_high is None else action_high, np.float32)
    low = np.where(np.isfinite(low), low, action.min(axis=0))
    high = np.where(np.isfinite(high), high, action.max(axis=0))
    if low.shape != action.shape[1:] or high.shape != action.shape[1:]:
        raise ValueError(f"action bounds {low.shape} and {high.shape} do not fit actions {action.shape}")
    if (low > high).any():
        raise ValueError(f"action_low {low.tolist()} exceeds action_high {high.tolist()}")
    bounds = (obs.min(axis=0), obs.max(axis=0), low, high)
    return Normalizer(*(jnp.asarray(bound) for bound in bounds))


def _centre(low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    # Halves are taken first: high - low may not fit float32 where its half does.
    mid, half = low / 2 + high / 2, high / 2 - low / 2
    floor = jnp.maximum(_CONSTANT * jnp.maximum(jnp.abs(low), jnp.abs(high)), _TINY)
    return mid, half, half <= floor


def _normalize(x: ArrayLike, low: jax.Array, high: jax.Array) -> jax.Array:
    mid, half, constant = _centre(low, high)
    return jnp.where(constant, 0.0, (jnp.asarray(x, jnp.float32) - mid) / jnp.where(constant, 1.0, half))


def _denormalize(y: ArrayLike, low: jax.Array, high: jax.Array) -> jax.Array:
    mid, half, constant = _centre(low, high)
    return mid + jnp.where(constant, 0.0, half) * jnp.asarray(y, jnp.float32)
