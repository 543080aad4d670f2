r"""Over or under one obstacle: the smallest closed-loop task where the mean of two experts is wrong.

Mode 0 ("low") and 1 ("high") run from (.05, .5) to (.95, .5), x uniform over 100 positions, with
y = .5 -/+ h sin^2(pi s). The box of half size (.1, .4 h) around (.5, .5) stands between them. Both modes share the
start, so that a policy of the position has to commit. The expert is described in `_tracking_task`.
Source: the third and fifth experiment of "Behavioral Cloning Breaks in Predictable Ways".
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PyTree, State
from mmbc_jax.envs.synthetic._tracking_task import TrackedPath, TrackedPathOptions

COMMITTED = 0.03


@dataclasses.dataclass(frozen=True, kw_only=True)
class HighLowOptions(TrackedPathOptions):
    """Options of the task."""

    height: float = option(0.25, "h", low=0.0, high=0.5, open_low=True)


class HighLow(TrackedPath):
    """See the module docstring; `State.data` also holds "side" [] float: -1, 1, and 0 before any.

    The metric "switches" counts changes of the side. A side is taken beyond .03 from y = .5 and kept until the other
    one is.
    """

    def __init__(self, options: HighLowOptions):
        super().__init__(options, ("low", "high"))

    def point(self, params: PyTree, mode: Array, phase: Array) -> Array:
        """Mean path [..., 2] of `mode` [...] at `phase` [...]."""
        y = 0.5 + (2.0 * mode - 1.0) * params["height"] * jnp.sin(jnp.pi * phase) ** 2
        return jnp.stack(jnp.broadcast_arrays(0.05 + 0.9 * phase, y), axis=-1)

    def boxes(self, params: PyTree) -> tuple[Array, Array]:
        """(centres [1, 2], half sizes [1, 2])."""
        return jnp.full((1, 2), 0.5), jnp.stack([jnp.asarray(0.1), 0.4 * params["height"]])[None]

    def begin(self, key: Key, params: PyTree | None) -> State:
        """As every tracked path, without a switch."""
        state = super().begin(key, params)
        side = _side(state.data["position"], jnp.zeros(()))
        return state.replace(
            data=state.data | {"side": side}, metrics=state.metrics | {"switches": jnp.zeros(())}
        )

    def advance(self, state: State, action: Array) -> State:
        """As every tracked path, counting switches."""
        nstate, before = super().advance(state, action), state.data["side"]
        side = _side(nstate.data["position"], before)
        switches = state.metrics["switches"] + (before * side < 0)
        return nstate.replace(
            data=nstate.data | {"side": side}, metrics=nstate.metrics | {"switches": switches}
        )


def _side(position: Array, before: Array) -> Array:
    """[] the side that `position` [2] commits to, else `before`."""
    height = position[1] - 0.5
    return jnp.where(jnp.abs(height) > COMMITTED, jnp.sign(height), before)


@register("env", HighLowOptions)
def build(options: HighLowOptions) -> HighLow:
    """Builds the task; see the module docstring."""
    return HighLow(options)
