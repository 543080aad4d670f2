"""The unit in which a value network speaks: that of its targets so far (PopArt, van Hasselt et al. 2016).

V = mean + std x of the network's output x, with running moments of the targets. When they move, the last layer moves
against them, so that no value changes but by the very first; the loss is of x, whatever the size of the rewards.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.nn.critic import rescaled
from mmbc_jax.ops.running_moments import Moments, merge, moments_of

_MEMORY = 9.0  # batches that the moments remember beside the new one
_TINY = 1e-6  # deviation below which targets count as constant


def no_targets() -> Moments:
    """Before any target: values are what the network says."""
    return Moments(jnp.zeros(()), jnp.zeros(1), jnp.ones(1))


def taken_over(
    critic: PyTree, parent: TrainState | None, normalised: bool
) -> tuple[PyTree, dict[str, Moments]]:
    """What a stage begins with: (parameters of a `Critic`, {"values": its unit} where values are `normalised`).

    A critic that is the parent's says the same values as there, in whatever unit each of the two stages has.
    """
    if parent is None or critic is not parent.params.get("critic"):
        return critic, {"values": no_targets()} if normalised else {}
    before = parent.stats.get("values")
    if normalised:
        return critic, {"values": before or Moments(jnp.ones(()), jnp.zeros(1), jnp.ones(1))}
    if before is None:
        return critic, {}
    return rescaled(critic, scale_of(before), (jnp.zeros(()), jnp.ones(()))), {}


def scale_of(moments: Moments) -> tuple[Array, Array]:
    """(mean [], std []) of values."""
    std = jnp.sqrt(moments.variance[0])
    return moments.mean[0], jnp.where(std > _TINY, std, 1.0)


def follow_targets(
    params: PyTree, moments: Moments, target: Array, weight: Array
) -> tuple[PyTree, Moments, Array]:
    """Takes in the targets of a batch.

    Args:
      params: of a `Critic`.
      moments: of the targets before it.
      target: [...] physical units.
      weight: [...] 1, or 0 where there is no target.

    Returns:
      (params that say the same values in the new unit, new moments, targets in that unit).
    """
    new = moments_of(target[..., None], weight)
    kept = moments._replace(rows=jnp.minimum(moments.rows, _MEMORY * new.rows))
    moved = merge(kept, new)
    mean, std = scale_of(moved)
    kept_values = rescaled(params, scale_of(moments), (mean, std))
    # before the first target the network says nothing that is worth keeping
    params = jax.tree.map(lambda new, old: jnp.where(moments.rows > 0, new, old), kept_values, params)
    return params, moved, (target - mean) / std


def values_of(said: Array, stats: dict[str, Any]) -> Array:
    """Values [...] of what a network said, in the unit of `stats`, where there is one."""
    if "values" not in stats:
        return said
    mean, std = scale_of(stats["values"])
    return mean + std * said


def with_targets(state: TrainState, batch: dict[str, Any]) -> tuple[TrainState, dict[str, Any]]:
    """The state after the targets of a batch were taken in, and the batch with them in its unit."""
    if "values" not in state.stats:
        return state, batch
    critic, values, target = follow_targets(
        state.params["critic"], state.stats["values"], batch["target"], batch["valid"]
    )
    state = state.replace(params={**state.params, "critic": critic}, stats={**state.stats, "values": values})
    return state, {**batch, "target": target}
