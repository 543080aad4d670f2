"""Min-max normalisation of observations and actions to [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mmbc_jax.core.observations import Obs, ObsEntry, ObsSpec
from mmbc_jax.core.types import Array

if TYPE_CHECKING:  # no checker can tell at run time what numpy takes for an array
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

    Where observations are dicts, so are their bounds, of the vectors alone: images pass as they are.

    Attributes:
      obs_low: [D] observation that -1 stands for, physical units; or {entry: [D_entry]}.
      obs_high: [D] observation that +1 stands for; or {entry: [D_entry]}.
      action_low: [A] action that -1 stands for, physical units.
      action_high: [A] action that +1 stands for.
    """

    obs_low: Obs
    obs_high: Obs
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]

    def normalize_obs(self, obs: Obs | ArrayLike) -> Obs:
        """Observations [..., D] in physical units to [-1, 1]; of a dict its vectors."""
        return self._mapped(_normalize, obs)

    def denormalize_obs(self, obs: Obs | ArrayLike) -> Obs:
        """Observations [..., D] in [-1, 1] to physical units; of a dict its vectors."""
        return self._mapped(_denormalize, obs)

    def with_history(self, length: int) -> Normalizer:
        """That of the last `length` observations, one after another, as `core.observations.with_history` has them."""
        if length == 1:
            return self
        low, high = (
            jax.tree.map(lambda bound: jnp.concatenate([bound] * length, -1), bounds)
            for bounds in (self.obs_low, self.obs_high)
        )
        return self._replace(obs_low=low, obs_high=high)

    def without_history(self, length: int) -> Normalizer:
        """That of one observation, of a normaliser of the last `length` observations (see `with_history`)."""
        low, high = (
            jax.tree.map(lambda bound: bound[: bound.shape[0] // length], bounds)
            for bounds in (self.obs_low, self.obs_high)
        )
        return self._replace(obs_low=low, obs_high=high)

    def _mapped(self, scale: Callable[[ArrayLike, Array, Array], Array], obs: Obs | ArrayLike) -> Obs:
        low, high = self.obs_low, self.obs_high
        if isinstance(obs, Mapping) and isinstance(low, Mapping) and isinstance(high, Mapping):
            return {name: scale(x, low[name], high[name]) if name in low else x for name, x in obs.items()}
        if isinstance(obs, Mapping) or isinstance(low, Mapping) or isinstance(high, Mapping):
            raise TypeError("observations and their bounds must both be dicts, or neither")
        return scale(obs, low, high)

    def normalize_action(self, action: ArrayLike) -> Float[Array, "*batch A"]:
        """Actions [..., A] in physical units to [-1, 1]."""
        return _normalize(action, self.action_low, self.action_high)

    def denormalize_action(self, action: ArrayLike) -> Float[Array, "*batch A"]:
        """Actions [..., A] in [-1, 1] to physical units."""
        return _denormalize(action, self.action_low, self.action_high)


def fit(
    obs: np.ndarray | Mapping[str, np.ndarray],
    action: np.ndarray,
    action_low: ArrayLike | None = None,
    action_high: ArrayLike | None = None,
    spec: ObsSpec | None = None,
) -> Normalizer:
    """Bounds of the data; for actions the environment's physical bounds where it has them.

    Angles and quaternions keep their values: their bounds are -1 and 1.

    Args:
      obs: [n, D] observations, physical units, n > 0; or {entry: [n, ...]}, of which rows of vectors have two axes.
      action: [n, A] actions, physical units.
      action_low: [A] action that -1 stands for; None or an infinite entry for the smallest recorded.
      action_high: [A] action that +1 stands for; None or an infinite entry for the largest recorded.
      spec: of the observations, for their angles and quaternions; None where there are none.

    Returns:
      The normaliser, float32.

    Raises:
      ValueError: no rows, entries that `spec` does not have, bounds of another size than the actions, or low above
        high.
    """
    action = np.asarray(action, np.float32)
    if action.ndim != 2 or not len(action):
        raise ValueError(f"needs rows of action [n, A], got {action.shape}")
    low = np.asarray(-np.inf if action_low is None else action_low, np.float32)
    high = np.asarray(np.inf if action_high is None else action_high, np.float32)
    low = np.where(np.isfinite(low), low, action.min(axis=0))
    high = np.where(np.isfinite(high), high, action.max(axis=0))
    if low.shape != action.shape[1:] or high.shape != action.shape[1:]:
        raise ValueError(f"action bounds {low.shape} and {high.shape} do not fit actions {action.shape}")
    if (low > high).any():
        raise ValueError(f"action_low {low.tolist()} exceeds action_high {high.tolist()}")
    bounds = jnp.asarray(low), jnp.asarray(high)
    if not isinstance(obs, Mapping):
        return Normalizer(*_vector_bounds(obs, spec.entries[0][1] if spec else None), *bounds)
    entries = dict(spec.entries) if spec else {}
    if spec and set(entries) != set(obs):
        raise ValueError(f"observations have entries {sorted(obs)}, not {sorted(entries)}")
    vectors = {name: _vector_bounds(x, entries.get(name)) for name, x in obs.items() if np.ndim(x) == 2}
    obs_low, obs_high = ({name: pair[i] for name, pair in vectors.items()} for i in (0, 1))
    return Normalizer(obs_low, obs_high, *bounds)


def _vector_bounds(obs: ArrayLike, entry: ObsEntry | None) -> tuple[Array, Array]:
    obs = np.asarray(obs, np.float32)
    if obs.ndim != 2 or not len(obs):
        raise ValueError(f"needs rows of obs [n, D], got {obs.shape}")
    low, high = obs.min(axis=0), obs.max(axis=0)
    if entry is not None:
        low[list(entry.kept)], high[list(entry.kept)] = -1.0, 1.0
    return jnp.asarray(low), jnp.asarray(high)


def _centre(low: Array, high: Array) -> tuple[Array, Array, Array]:
    # Halves are taken first: high - low may not fit float32 where its half does.
    mid, half = low / 2 + high / 2, high / 2 - low / 2
    floor = jnp.maximum(_CONSTANT * jnp.maximum(jnp.abs(low), jnp.abs(high)), _TINY)
    return mid, half, half <= floor


def _normalize(x: ArrayLike, low: Array, high: Array) -> Array:
    mid, half, constant = _centre(low, high)
    return jnp.where(constant, 0.0, (jnp.asarray(x, jnp.float32) - mid) / jnp.where(constant, 1.0, half))


def _denormalize(y: ArrayLike, low: Array, high: Array) -> Array:
    mid, half, constant = _centre(low, high)
    return mid + jnp.where(constant, 0.0, half) * jnp.asarray(y, jnp.float32)
