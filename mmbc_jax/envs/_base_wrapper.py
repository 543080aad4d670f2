"""What every wrapper is made of: delegation, choosing between two trees, and the position that is plotted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core.picturing import HasPlotted
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, State


def where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    """`new` where `condition` ([] or [B] bool, leading axes of every leaf) holds, else `old`: equal trees."""

    def pick(a: Array, b: Array) -> Array:
        if a is b:  # as a leaf that a step hands on
            return a
        shaped = jnp.reshape(condition, condition.shape + (1,) * (jnp.ndim(a) - condition.ndim))
        return jnp.where(shaped, a, b)

    return jax.tree.map(pick, new, old)


def plotted(env: Any, state: State) -> Array:
    """[2] the position to plot, of one instance.

    It is what the environment's own `plotted(state)` says; else the numbers of the observation's vectors that
    `spec.position` names, the first and the second (or the only one twice) where it names none; NaN where nothing
    but images is observed.
    """
    bare, spec = getattr(env, "unwrapped", env), env.spec
    if isinstance(bare, HasPlotted):
        return bare.plotted(state)
    if spec.obs.size == 0:
        return jnp.full((2,), jnp.nan)
    position = spec.position or (0, min(1, spec.obs.size - 1))
    return spec.obs.flat(state.obs)[jnp.asarray(position)]


def expert_action(env: Any, state: State, mode: Array, key: Key) -> Array:
    """[A] in [-1, 1]: what the expert of the environment below all wrappers does in a state of `env`.

    It is shown the state as its own environment would leave it, whatever the wrappers make of the observation.
    """
    below = env.unwrapped_state(state) if isinstance(env, Wrapper) else state
    return jnp.clip(getattr(env, "unwrapped", env).expert(below, mode, key), -1.0, 1.0)


class Wrapper:
    """Hands everything on to the wrapped environment."""

    def __init__(self, env: Any):
        self.env = env

    @property
    def spec(self) -> EnvSpec:
        """Sizes of the wrapped environment."""
        return self.env.spec

    @property
    def unwrapped(self) -> Any:
        """The environment below all wrappers, with its `expert` and `draw`."""
        return getattr(self.env, "unwrapped", self.env)

    def unwrapped_state(self, state: State) -> State:
        """A state with the observation of the environment below all wrappers."""
        return self.env.unwrapped_state(state) if isinstance(self.env, Wrapper) else state

    def default_params(self) -> PyTree:
        """The traced parameters of the wrapped environment."""
        return self.env.default_params()

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """The first state of the wrapped environment."""
        state: State = self.env.reset(key, params)
        return state

    def step(self, state: State, action: Array) -> State:
        """One control step of the wrapped environment."""
        nstate: State = self.env.step(state, action)
        return nstate
