r"""Over or under one obstacle: the smallest closed-loop task where the mean of two experts is wrong.

Mode 0 ("low") and 1 ("high") run from (.05, .5) to (.95, .5), x uniform over 100 positions, with
y = .5 -/+ h sin^2(pi s). The box of half size (.1, .4 h) around (.5, .5) stands between them. Both modes share the
start, so that a policy of the position has to commit. The expert is described in `_tracking`.
Source: the third and fifth experiment of "Behavioral Cloning Breaks in Predictable Ways".
"""

from __future__ import annotations

import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PyTree, State
from mmbc_jax.envs.synthetic._tracking_task import TrackedPath, tracking_config

COMMITTED = 0.03


def default_config() -> ConfigDict:
    """As `tracking_config`, and height: h."""
    return ConfigDict({**tracking_config(), "height": 0.25})


class HighLow(TrackedPath):
    """See the module docstring; `State.data` also holds "side" [] float: -1, 1, and 0 before any.

    The metric "switches" counts changes of the side. A side is taken beyond .03 from y = .5 and kept until the other
    one is.
    """

    def __init__(self, cfg: ConfigDict):
        check_range("env.height", cfg.height, 0.0, 0.5, open_low=True)
        super().__init__(cfg, ("low", "high"))

    def point(self, params: PyTree, mode: Array, phase: Array) -> Array:
        """Mean path [..., 2] of `mode` [...] at `phase` [...]."""
        y = 0.5 + (2.0 * mode - 1.0) * params["height"] * jnp.sin(jnp.pi * phase) ** 2
        return jnp.stack(jnp.broadcast_arrays(0.05 + 0.9 * phase, y), axis=-1)

    def boxes(self, params: PyTree) -> tuple[Array, Array]:
        """(centres [1, 2], half sizes [1, 2])."""
        return jnp.full((1, 2), 0.5), jnp.stack([jnp.asarray(0.1), 0.4 * params["height"]])[None]

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """As every tracked path, without a switch."""
        state = super().reset(key, params)
        side = _side(state.data["position"], jnp.zeros(()))
        return state.replace(
            data=state.data | {"side": side}, metrics=state.metrics | {"switches": jnp.zeros(())}
        )

    def step(self, state: State, action: Array) -> State:
        """As every tracked path, counting switches."""
        nstate, before = super().step(state, action), state.data["side"]
        side = _side(nstate.data["position"], before)
        switches = state.metrics["switches"] + (before * side < 0)
        return nstate.replace(
            data=nstate.data | {"side": side}, metrics=nstate.metrics | {"switches": switches}
        )


def _side(position: Array, before: Array) -> Array:
    """[] the side that `position` [2] commits to, else `before`."""
    height = position[1] - 0.5
    return jnp.where(jnp.abs(height) > COMMITTED, jnp.sign(height), before)


@register("env", default_config)
def build(cfg: ConfigDict) -> HighLow:
    """Builds the task; see the module docstring."""
    return HighLow(cfg)
