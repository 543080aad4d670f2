"""Normalisation of observations and actions to [-1, 1], and from a policy's scale of actions to an environment's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mmbc_jax.core.observations import Obs, ObsEntry, ObsSpec
from mmbc_jax.core.types import Array
from mmbc_jax.ops.action_scale import NEARLY_CONSTANT, ROUNDING, action_scale, widened

if TYPE_CHECKING:  # no checker can tell at run time what numpy takes for an array
    from numpy.typing import ArrayLike

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
      action_low: [A] action that -1 stands for in the policy, physical units.
      action_high: [A] action that +1 stands for in the policy.
      box: ([A], [A]) actions that -1 and +1 stand for in the environment; None where they are the policy's, or where
        there is no environment.
    """

    obs_low: Obs
    obs_high: Obs
    action_low: Float[Array, " A"]
    action_high: Float[Array, " A"]
    box: tuple[Float[Array, " A"], Float[Array, " A"]] | None = None

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

    def to_box(self, action: Array) -> Array:
        """Actions [..., A] of a policy as the environment takes them, [-1, 1] over its box; as they are without one.

        What a policy answers beyond its own scale stays beyond it; an environment clips at its box.
        """
        return action if self.box is None else _normalize(self.denormalize_action(action), *self.box)

    def from_box(self, action: Array) -> Array:
        """Actions [..., A] in the environment's scale, such as an expert's, in the policy's; inverse of `to_box`."""
        return action if self.box is None else self.normalize_action(_denormalize(action, *self.box))


def fit(
    obs: np.ndarray | Mapping[str, np.ndarray],
    action: np.ndarray,
    action_low: ArrayLike | None = None,
    action_high: ArrayLike | None = None,
    spec: ObsSpec | None = None,
    scale: str = "box",
) -> Normalizer:
    """Bounds of the data; of actions as `action_scale` says.

    Angles and quaternions keep their values: their bounds are -1 and 1. An observed column that varies by less than
    a hundredth of its largest magnitude, or of the range that `spec` declares, gets bounds that far apart: else what
    a policy meets in play beside the recorded values would be blown up. One that does not vary at all maps to 0.

    Args:
      obs: [n, D] observations, physical units, n > 0; or {entry: [n, ...]}, of which rows of vectors have two axes.
      action: [n, A] actions, physical units.
      action_low: [A] action that -1 stands for in the environment; None or an infinite entry where it has no bound.
      action_high: [A] action that +1 stands for there.
      spec: of the observations, for their angles and quaternions; None where there are none.
      scale: of actions; one of `action_scale.SCALES`.

    Returns:
      The normaliser, float32.

    Raises:
      ValueError: no rows, entries that `spec` does not have, bounds of another size than the actions, or low above
        high.
    """
    action = np.asarray(action, np.float32)
    if action.ndim != 2 or not len(action):
        raise ValueError(f"needs rows of action [n, A], got {action.shape}")
    low = np.asarray(np.full(action.shape[1], -np.inf) if action_low is None else action_low, np.float32)
    high = np.asarray(np.full(action.shape[1], np.inf) if action_high is None else action_high, np.float32)
    if low.shape != action.shape[1:] or high.shape != action.shape[1:]:
        raise ValueError(f"action bounds {low.shape} and {high.shape} do not fit actions {action.shape}")
    if (low > high).any():
        raise ValueError(f"action_low {low.tolist()} exceeds action_high {high.tolist()}")
    found = action_scale(action, low, high, scale)
    bounds = jnp.asarray(found.low), jnp.asarray(found.high)
    box = (jnp.asarray(found.box_low), jnp.asarray(found.box_high)) if found.own.any() else None
    if not isinstance(obs, Mapping):
        return Normalizer(*_vector_bounds(obs, spec.entries[0][1] if spec else None), *bounds, box)
    entries = dict(spec.entries) if spec else {}
    if spec and set(entries) != set(obs):
        raise ValueError(f"observations have entries {sorted(obs)}, not {sorted(entries)}")
    vectors = {name: _vector_bounds(x, entries.get(name)) for name, x in obs.items() if np.ndim(x) == 2}
    obs_low, obs_high = ({name: pair[i] for name, pair in vectors.items()} for i in (0, 1))
    return Normalizer(obs_low, obs_high, *bounds, box)


def _vector_bounds(obs: ArrayLike, entry: ObsEntry | None) -> tuple[Array, Array]:
    obs = np.asarray(obs, np.float32)
    if obs.ndim != 2 or not len(obs):
        raise ValueError(f"needs rows of obs [n, D], got {obs.shape}")
    low, high = _not_too_narrow(obs.min(axis=0), obs.max(axis=0), entry)
    if entry is not None:
        low[list(entry.kept)], high[list(entry.kept)] = -1.0, 1.0
    return jnp.asarray(low), jnp.asarray(high)


def _not_too_narrow(low: np.ndarray, high: np.ndarray, entry: ObsEntry | None) -> list[np.ndarray]:
    magnitude = np.maximum(np.abs(low), np.abs(high))
    least = NEARLY_CONSTANT * magnitude
    if entry is not None and entry.low and entry.high:
        declared = np.subtract(entry.high, entry.low, dtype=np.float32)
        least = np.maximum(least, np.where(np.isfinite(declared), NEARLY_CONSTANT * declared, 0.0))
    constant = high / 2 - low / 2 <= ROUNDING * magnitude
    wide = widened(low, high, least)
    return [
        np.where(constant, own, end).astype(np.float32) for own, end in zip((low, high), wide, strict=True)
    ]


def _centre(low: Array, high: Array) -> tuple[Array, Array, Array]:
    # Halves are taken first: high - low may not fit float32 where its half does.
    mid, half = low / 2 + high / 2, high / 2 - low / 2
    floor = jnp.maximum(ROUNDING * jnp.maximum(jnp.abs(low), jnp.abs(high)), _TINY)
    return mid, half, half <= floor


def _normalize(x: ArrayLike, low: Array, high: Array) -> Array:
    mid, half, constant = _centre(low, high)
    return jnp.where(constant, 0.0, (jnp.asarray(x, jnp.float32) - mid) / jnp.where(constant, 1.0, half))


def _denormalize(y: ArrayLike, low: Array, high: Array) -> Array:
    mid, half, constant = _centre(low, high)
    return mid + jnp.where(constant, 0.0, half) * jnp.asarray(y, jnp.float32)
