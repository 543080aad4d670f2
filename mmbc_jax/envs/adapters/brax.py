"""Environments of brax, named `brax:<name>`, for example `brax:reacher`.

The whole brax state is carried in `State.data`; its own `info` stays there, so it cannot collide with ours.
brax's metrics are handed on beside `success`, which is 0 throughout: brax defines no success. There are no
mode labels (`num_modes` 0, mode -1), no expert and no traced parameters.
Actions are in [-1, 1]; brax's environments scale them to their actuators themselves.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_choice, check_range
from mmbc_jax.core.errors import ConfigError, nearest
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, State

BACKENDS = ("generalized", "positional", "spring", "mjx")


def default_config() -> ConfigDict:
    """backend: physics of brax; episode_length: control steps until truncation."""
    return ConfigDict({"backend": "generalized", "episode_length": 1000})


class BraxEnv:
    """Adapts one brax environment; see the module docstring.

    Args:
      name: as typed in `env.name`.
      env: a brax environment without wrappers.
      episode_length: control steps until truncation.

    Raises:
      ConfigError: the observation is not one vector.
    """

    def __init__(self, name: str, env: Any, episode_length: int):
        self.env = env
        obs_dim = env.observation_size
        if not isinstance(obs_dim, int):
            raise ConfigError("env.name", name, f"needs one observation vector, this one gives {obs_dim}")
        self.spec = EnvSpec(
            name=name,
            obs_dim=obs_dim,
            action_dim=env.action_size,
            episode_length=episode_length,
            num_modes=0,
            action_low=(-1.0,) * env.action_size,
            action_high=(1.0,) * env.action_size,
            control_dt=float(env.dt) if hasattr(env, "sys") else 0.0,  # `fast` has no physics
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
            obs=inner.obs,
            reward=jnp.asarray(inner.reward, jnp.float32),
            done=jnp.asarray(inner.done, jnp.float32),
            metrics=metrics | {"success": jnp.zeros(())},
            info={"mode": jnp.full((), -1, jnp.int32), "params": params},
        )


@register("env", default_config)
def build(cfg: ConfigDict) -> BraxEnv:
    """Builds the brax environment after the colon of `cfg.name`.

    Raises:
      ConfigError: brax knows no such environment or backend, or cannot build it.
    """
    from brax import envs

    check_choice("env.backend", cfg.backend, BACKENDS)
    check_range("env.episode_length", cfg.episode_length, 1)
    _, _, inner = cfg.name.partition(":")
    known = envs._envs  # brax offers no other list of its names
    if inner not in known:
        raise ConfigError("env.name", cfg.name, f"brax:<name>, {nearest(inner, known)}")
    try:
        env = envs.get_environment(inner, backend=cfg.backend)
        return BraxEnv(cfg.name, env, cfg.episode_length)
    except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
        what = f"brax cannot build it here ({' '.join(str(error).split())})"
        raise ConfigError("env.name", cfg.name, what) from error
