"""The last observations instead of the last one, as a wrapper."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp

from mmbc_jax.core.config import check_range
from mmbc_jax.core.observations import Obs, with_history
from mmbc_jax.core.protocols import Env
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, State
from mmbc_jax.envs._base_wrapper import Wrapper


class History(Wrapper):
    """Observes the last `length` control steps; for one bare instance.

    o'_t = (o_{t-T+1}, ..., o_t), vectors one after another and images along their channels, the oldest first; before
    the episode's start o_0 stands in. The observation holds all that is remembered, so whatever resets it
    resets the memory.

    Args:
      env: a bare environment; its `step` sees the newest observation alone.
      length: T >= 1.
    """

    def __init__(self, env: Env, length: int):
        check_range("chunk.observe", length, 1)
        super().__init__(env)
        self.length = length

    @cached_property
    def spec(self) -> EnvSpec:
        """That of the environment with `with_history` observations; the position is the newest."""
        spec, offset = self.env.spec, 0
        newest: dict[int, int] = {}
        for _, entry in spec.obs.entries:
            if entry.kind == "vector":
                size = entry.shape[0]
                newest |= {offset + i: (offset + size) * self.length - size + i for i in range(size)}
                offset += size
        return dataclasses.replace(
            spec,
            obs=with_history(spec.obs, self.length),
            obs_dim=spec.obs_dim * self.length,
            position=tuple(newest[i] for i in spec.position),
        )

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """Starts an episode; the first observation T times."""
        state = self.env.reset(key, params)
        repeated = jax.tree.map(lambda new: jnp.concatenate([new] * self.length, -1), state.obs)
        return state.replace(obs=repeated)

    def step(self, state: State, action: Array) -> State:
        """One control step; the oldest observation is forgotten."""
        nstate = self.env.step(state.replace(obs=self._newest(state.obs)), action)
        return nstate.replace(obs=jax.tree.map(self._pushed, state.obs, nstate.obs))

    def unwrapped_state(self, state: State) -> State:
        """With the newest observation, and that as it is below."""
        return super().unwrapped_state(state.replace(obs=self._newest(state.obs)))

    def _newest(self, obs: Obs) -> Obs:
        """The last of the observations that `obs` holds."""
        return jax.tree.map(lambda old: old[..., -(old.shape[-1] // self.length) :], obs)

    def _pushed(self, old: Array, new: Array) -> Array:
        """`old` without its first and with `new` behind its last."""
        return jnp.concatenate([old[..., new.shape[-1] :], new], -1)
