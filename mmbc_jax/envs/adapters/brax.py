"""Environments of brax, named `brax:<name>`, for example `brax:reacher`.

The whole brax state is carried in `State.data`; its own `info` stays there, so it cannot collide with ours.
An observation is brax's own, one vector or a dict of vectors; images, which brax gives as floats, are refused.
brax's metrics are handed on beside `success`, which is 0 throughout: brax defines no success. Those whose name
starts with "reward" are parts of the reward and add up over a chunk. There are no mode labels (`num_modes` 0,
mode -1), no expert and no traced parameters.
Actions are in [-1, 1]; brax's environments scale them to their actuators themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core.errors import ConfigError, nearest
from mmbc_jax.core.keys import seeded
from mmbc_jax.core.noise import without_warp
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, State

BACKENDS = ("generalized", "positional", "spring", "mjx")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BraxOptions(Options):
    """Options of every environment of brax."""

    backend: str = option("generalized", "physics of brax", choices=BACKENDS)
    episode_length: int = option(1000, "control steps until truncation", low=1)


class BraxEnv:
    """Adapts one brax environment; see the module docstring.

    Args:
      name: as typed in `env.name`.
      env: a brax environment without wrappers.
      episode_length: control steps until truncation.

    Raises:
      ConfigError: the observation holds something else than vectors.
    """

    def __init__(self, name: str, env: Any, episode_length: int):
        self.env = env
        first = jax.eval_shape(lambda: env.reset(jax.random.key_data(seeded(0))))
        obs = _described(name, first.obs)
        self.spec = EnvSpec(
            name=name,
            obs_dim=obs.size,
            action_dim=env.action_size,
            episode_length=episode_length,
            num_modes=0,
            action_low=(-1.0,) * env.action_size,
            action_high=(1.0,) * env.action_size,
            control_dt=float(env.dt) if hasattr(env, "sys") else 0.0,  # `fast` has no physics
            obs=obs,
            summed=tuple(sorted(metric for metric in first.metrics if metric.startswith("reward"))),
            has_success=False,
        )

    def default_params(self) -> PyTree:
        """Empty: brax's environments have none."""
        return {}

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """Starts the brax environment; `params` has nothing to set."""
        inner = self.env.reset(
            jax.random.key_data(key)
        )  # brax keeps raw keys, which every tree map can carry
        return self._wrap(inner, {} if params is None else params)

    def step(self, state: State, action: Array) -> State:
        """One control step with `action` [A], clipped to [-1, 1]."""
        return self._wrap(self.env.step(state.data, jnp.clip(action, -1.0, 1.0)), state.info["params"])

    def _wrap(self, inner: Any, params: PyTree) -> State:
        metrics = {k: jnp.asarray(v, jnp.float32) for k, v in inner.metrics.items()}
        return State(
            data=inner,
            obs=dict(inner.obs) if isinstance(inner.obs, Mapping) else inner.obs,
            reward=jnp.asarray(inner.reward, jnp.float32),
            done=jnp.asarray(inner.done, jnp.float32),
            metrics=metrics | {"success": jnp.zeros(())},
            info={"mode": jnp.full((), -1, jnp.int32), "params": params},
        )


def _described(name: str, obs: Any) -> ObsSpec:
    """The observation whose arrays have these shapes."""
    parts = obs if isinstance(obs, Mapping) else {"": obs}
    shapes = {key: getattr(part, "shape", part) for key, part in parts.items()}
    if any(not isinstance(shape, tuple) or len(shape) != 1 for shape in shapes.values()):
        found = ", ".join(f"{key} {shape}".strip() for key, shape in shapes.items())
        raise ConfigError("env.name", name, f"needs observations that are vectors, this one gives {found}")
    if not isinstance(obs, Mapping):
        return ObsSpec.vector(obs.shape[0])
    return ObsSpec.of({key: ObsEntry(shape) for key, shape in shapes.items()})


@register("env", BraxOptions)
def build(options: BraxOptions) -> BraxEnv:
    """Builds the brax environment after the colon of `env.name`.

    Raises:
      ConfigError: brax knows no such environment or backend, or cannot build it.
    """
    with without_warp():
        from brax import envs

    _, _, inner = options.name.partition(":")
    known = envs._envs  # brax offers no other list of its names
    if inner not in known:
        raise ConfigError("env.name", options.name, f"brax:<name>, {nearest(inner, known)}")
    try:
        env = envs.get_environment(inner, backend=options.backend)
        return BraxEnv(options.name, env, options.episode_length)
    except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
        what = f"brax cannot build it here ({' '.join(str(error).split())})"
        raise ConfigError("env.name", options.name, what) from error
