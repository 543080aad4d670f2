r"""What may go wrong between any environment and what acts in it: noise on both ways, and actions that come late.

With x the environment's observation, a the action that is given at control step t, and e standard normal,

  seen  x + obs_noise e             played  clip(a[t - action_delay] + action_noise e, -1, 1)

An action before the first one is 0, the middle of the environment's box. Noise of an observation is on the free
numbers of its vectors, in their own units; angles, quaternions and images are seen as they are.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.keys import wrapped
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.types import Array, Key, PyTree, State
from mmbc_jax.envs._base_wrapper import Wrapper

_OWN = 0x70657274  # folded into the key of a reset: none of the numbers that environments split it into
_INFO = "perturbed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerturbedOptions(Options):
    """The parameters that every environment can be given."""

    obs_noise: float = option(0.0, "standard deviation of noise on observed numbers, in their units", low=0.0)
    action_noise: float = option(0.0, "standard deviation of noise on actions, whose box is [-1, 1]", low=0.0)
    action_delay: int = option(0, "control steps by which actions come late", low=0, high=1000)


class Perturbed(Wrapper):
    """Adds the parameters of `PerturbedOptions` that an environment does not have; for one bare instance.

    At 0 an episode is that of the environment under the same key. `info["perturbed"]` holds the key, the step, the
    last actions and the observation without noise.

    Args:
      env: whose parameters are a mapping.
      most: the largest delay, in control steps; longer ones count as this.
    """

    def __init__(self, env: Any, most: int = 0):
        super().__init__(env)
        self.most = most
        names = [field.name for field, _ in PerturbedOptions.stated()]
        self.added = tuple(name for name in names if name not in env.default_params())

    def default_params(self) -> PyTree:
        """Those of the environment, and those that are added: 0."""
        zeros = {name: jnp.asarray(getattr(PerturbedOptions(), name)) for name in self.added}
        return {**self.env.default_params(), **zeros}

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """Starts an episode; no action is on its way."""
        params = self.default_params() if params is None else params
        noise_key = jax.random.fold_in(key, _OWN)
        state = self.env.reset(key, params)
        held = jnp.zeros((self.most, self.spec.action_dim))
        own = {"key": jax.random.key_data(noise_key), "step": jnp.zeros((), jnp.int32), "held": held}
        return self._seen(state, params, own)

    def step(self, state: State, action: Array) -> State:
        """One control step with the action that arrives now."""
        own, params = state.info[_INFO], state.info["params"]
        inner = {name: value for name, value in state.info.items() if name != _INFO}
        given = jnp.concatenate([action[None], own["held"]])  # the newest first
        late = jnp.minimum(self._value(params, "action_delay"), self.most)
        played = (given * (jnp.arange(len(given)) == late)[:, None]).sum(0)
        step = own["step"] + 1
        noise = jax.random.normal(self._key(own, 2 * step), action.shape)
        played = jnp.clip(played + self._value(params, "action_noise") * noise, -1.0, 1.0)
        nstate = self.env.step(state.replace(obs=own["obs"], info=inner), played)
        return self._seen(nstate, params, {**own, "step": step, "held": given[: self.most]})

    def unwrapped_state(self, state: State) -> State:
        """With the observation without noise."""
        return super().unwrapped_state(state.replace(obs=state.info[_INFO]["obs"]))

    def _value(self, params: PyTree, name: str) -> Array:
        """A parameter of this wrapper; 0 for one that is the environment's."""
        return params[name] if name in self.added else jnp.zeros((), jnp.int32)

    def _key(self, own: PyTree, number: Array) -> Key:
        return jax.random.fold_in(wrapped(own["key"]), number)

    def _seen(self, state: State, params: PyTree, own: PyTree) -> State:
        spec = self.spec.obs
        seen: Obs = state.obs
        if "obs_noise" in self.added and spec.size:
            named, key = dict(spec.named(state.obs)), self._key(own, 2 * own["step"] + 1)
            for number, (name, entry) in enumerate(spec.entries):
                if entry.kind == "vector":
                    noise = jax.random.normal(jax.random.fold_in(key, number), named[name].shape)
                    free = ~np.isin(np.arange(entry.shape[0]), entry.kept)
                    named[name] = named[name] + params["obs_noise"] * jnp.where(free, noise, 0.0)
            seen = spec.joined(named)
        return state.replace(obs=seen, info=state.info | {_INFO: {**own, "obs": state.obs}})
