"""Probe environments: each asks one question of the learner, and its answer can be written down.

All of them are one environment with other parameters, so that one compiled program asks every question at
once. An observation is (x, previous action, phase): x = -1 or +1 for the whole episode, phase the share of
`steps` passed. A control step with action a pays

  constant + observed x + delayed [last step] - aimed (a - target - slope x)^2
  - recalled [last step] (a before - target - slope x)^2

and the episode terminates after `steps` steps; with more than `LENGTH` of them it is truncated instead.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import distrax
import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.core.types import Array, Batch, EnvSpec, Key, PolicySpec, PyTree, State, Variables

LENGTH = 4
NEVER = 99
DEFAULTS = {
    "constant": 0.0,
    "observed": 0.0,
    "delayed": 0.0,
    "aimed": 0.0,
    "recalled": 0.0,
    "target": 0.0,
    "slope": 0.0,
    "steps": 1.0,
}


def probe(**changes: float) -> PyTree:
    """Parameters of a probe."""
    assert changes.keys() <= DEFAULTS.keys()
    return {name: jnp.asarray(changes.get(name, value)) for name, value in DEFAULTS.items()}


class Probe:
    """See the module docstring."""

    spec = EnvSpec("probe", 3, 1, LENGTH, 0, (-1.0,), (1.0,))

    def default_params(self) -> PyTree:
        return probe()

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        params = self.default_params() if params is None else params
        x = jax.random.rademacher(key, (), jnp.float32)
        return State(
            data={"step": jnp.zeros(())},
            obs=jnp.stack([x, jnp.zeros(()), jnp.zeros(())]),
            reward=jnp.zeros(()),
            done=jnp.zeros(()),
            metrics={"success": jnp.zeros(())},
            info={"mode": jnp.full((), -1, jnp.int32), "params": params},
        )

    def step(self, state: State, action: Array) -> State:
        p, x = state.info["params"], state.obs[0]
        step = state.data["step"] + 1
        last = (step >= p["steps"]).astype(jnp.float32)
        wanted = p["target"] + p["slope"] * x
        reward = p["constant"] + p["observed"] * x + p["delayed"] * last
        reward = reward - p["aimed"] * (action[0] - wanted) ** 2
        reward = reward - p["recalled"] * last * (state.obs[1] - wanted) ** 2
        return state.replace(
            data={"step": step},
            obs=jnp.stack([x, action[0], jnp.minimum(step / p["steps"], 1.0)]),
            reward=reward,
            done=last,
            metrics={"success": last},
        )


@dataclasses.dataclass(frozen=True)
class Commanded:
    """An intrinsic reward that depends on the command: price z - aimed (a - target (2 z - 1))^2 of the last action a.

    It has nothing to train: its parameters are those three numbers, so that each run can have its own.
    """

    num_modes: int

    discriminator = None
    trains = False
    logs: ClassVar[dict[str, str]] = {}

    def init(self, key: Key) -> PyTree:
        return {name: jnp.zeros(()) for name in ("aimed", "target", "price")}

    def init_memory(self, obs: Array) -> PyTree:
        return {}

    def remember(self, memory: PyTree, obs: Array) -> PyTree:
        return memory

    def features(self, memory: PyTree) -> PyTree:
        return {}

    def pay(
        self, params: PyTree, key: Key, transitions: Any, discount: float
    ) -> tuple[Array, dict[str, Array]]:
        action, z = transitions.final_obs[..., 1], transitions.z.astype(jnp.float32)
        miss = action - params["target"] * (2.0 * z - 1.0)
        return params["price"] * z - params["aimed"] * miss**2, {}

    def loss(self, params: PyTree, key: Key, features: PyTree, z: Array) -> tuple[Array, dict[str, Array]]:
        return jnp.zeros(z.shape), {}


class Remote(Probe):
    """The probe in units that no network could use as they are: it observes 500 + 1000 o."""

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        state = super().reset(key, params)
        return state.replace(obs=500.0 + 1000.0 * state.obs)

    def step(self, state: State, action: Array) -> State:
        stepped = super().step(state.replace(obs=(state.obs - 500.0) / 1000.0), action)
        return stepped.replace(obs=500.0 + 1000.0 * stepped.obs)


class Pictured(Probe):
    """The probe as a dict: {"image": [16, 16, 1] uint8, bright on the left where x = -1, "last": (action, phase)}."""

    obs = ObsSpec.of({"image": ObsEntry((16, 16, 1), "image"), "last": ObsEntry((2,))})
    spec = dataclasses.replace(Probe.spec, obs_dim=2, obs=obs)

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        return self._seen(super().reset(key, params))

    def step(self, state: State, action: Array) -> State:
        plain = jnp.concatenate([state.data["x"][None], state.obs["last"]])
        return self._seen(super().step(state.replace(obs=plain, data={"step": state.data["step"]}), action))

    def _seen(self, state: State) -> State:
        x, columns = state.obs[0], jnp.arange(16)
        bright = (columns < 8) == (x < 0)
        image = jnp.broadcast_to(jnp.where(bright, 255, 0)[None, :, None], (16, 16, 1)).astype(jnp.uint8)
        obs = {"image": image, "last": state.obs[1:]}
        return state.replace(obs=obs, data={**state.data, "x": x})


@dataclasses.dataclass(frozen=True)
class IdentityPolicy:
    """The chunk is the noise: w ~ N(0, I), chunk = w."""

    spec: PolicySpec

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        return Variables({})

    def base_distribution(self, variables: Variables, obs: Array) -> Any:
        zeros = jnp.zeros((*self.spec.obs.batch_shape(obs), *self.spec.chunk_shape))
        return distrax.Independent(distrax.Normal(zeros, jnp.ones_like(zeros)), 2)

    def transport(self, variables: Variables, obs: Array, w: PyTree) -> Array:
        return w
