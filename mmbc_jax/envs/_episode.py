"""One episode: steps are counted, its end is decided, and nothing leaves it that is not finite."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from mmbc_jax.core.config import check_range
from mmbc_jax.core.protocols import Env
from mmbc_jax.core.types import Array, Key, PyTree, State
from mmbc_jax.envs._base_wrapper import Wrapper, where
from mmbc_jax.envs._obs_history import History

_WRITTEN_OUT = 16
"""Numbers of a leaf up to which each is looked at by itself: no reduction, but a part of what computes the leaf."""


def finite(tree: PyTree) -> Array:
    """[] bool whether all numbers in the float leaves are finite."""
    few, many = jnp.ones((), bool), []
    for leaf in map(jnp.asarray, jax.tree.leaves(tree)):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        flat = jnp.isfinite(leaf).ravel()
        if flat.size > _WRITTEN_OUT:
            many.append(flat)
        else:
            few = functools.reduce(jnp.logical_and, [flat[i] for i in range(flat.size)], few)
    return few & jnp.concatenate(many).all() if many else few


class Episode(Wrapper):
    """Counts steps, truncates, and ends an episode that is no longer finite; for one instance.

    A step after which the environment's data, observation, reward, done or success is not finite is not taken: data,
    observation and metrics stay what they were, the reward is 0, and the episode ends without success and without a
    mode, with info["diverged"] set.

    Args:
      env: the environment.
      length: control steps after which an episode is truncated; the default of `horizon`.
    """

    def __init__(self, env: Env | History, length: int):
        check_range("env.episode_length", length, 1)
        super().__init__(env)
        self.length = length

    def reset(self, key: Key, params: PyTree | None = None, horizon: Array | int | None = None) -> State:
        """Starts an episode.

        Args:
          key: for the initial state.
          params: traced environment parameters; None for the defaults.
          horizon: [] int32 (traced) limit of this episode; None for `length`.

        Returns:
          The state, with every key of `Episode` in `info` and `metrics["reward"]`. What is not finite of its
          observation is 0; it diverges with the first step, if not before.
        """
        state = self.env.reset(key, params)
        zero = jnp.zeros((), jnp.int32)
        obs = jax.tree.map(_finite_part, state.obs)
        over = (state.done > 0).astype(jnp.float32)
        info = state.info | {
            "horizon": jnp.asarray(self.length if horizon is None else horizon, jnp.int32),
            "steps": zero,
            "truncation": jnp.zeros(()),
            "diverged": jnp.zeros(()),
            "discount": jnp.ones(()),
            "final_obs": obs,
            "final_mode": state.info["mode"],
            "final_steps": zero,
            "began": {"over": over, "success": jnp.asarray(state.metrics["success"], jnp.float32)},
        }
        metrics = state.metrics | {"reward": jnp.zeros(())}
        return state.replace(obs=obs, reward=jnp.zeros(()), done=over, info=info, metrics=metrics)

    def step(self, state: State, action: Array) -> State:
        """One control step; `done` is set where the environment ended, diverged, or the horizon is reached."""
        nstate = self.env.step(state, action)
        good = finite((nstate.data, nstate.obs, nstate.reward, nstate.done, nstate.metrics["success"]))
        began, metrics = state.info["began"], nstate.metrics
        if self.spec.latched:
            metrics = metrics | {"success": jnp.maximum(began["success"], metrics["success"])}
        before = {name: state.metrics[name] for name in metrics}
        before["success"] = jnp.zeros_like(metrics["success"])
        new = (nstate.data, nstate.obs, metrics, nstate.info)
        old = (state.data, state.obs, before, {name: state.info[name] for name in nstate.info})
        data, obs, metrics, info = where(good, new, old)
        if self.spec.latched:
            began = began | {"success": metrics["success"]}
        reward = jnp.where(good, nstate.reward, 0.0)
        steps = state.info["steps"] + 1
        terminated = (nstate.done > 0) | ~good
        truncated = (steps >= state.info["horizon"]) & ~terminated
        info |= {
            "horizon": state.info["horizon"],
            "steps": steps,
            "truncation": truncated.astype(jnp.float32),
            "diverged": 1.0 - good.astype(jnp.float32),
            "discount": jnp.ones(()),
            "final_obs": obs,
            "final_mode": jnp.where(good, nstate.info["mode"], -1),
            "final_steps": steps,
            "began": began | {"over": jnp.zeros(())},
        }
        return nstate.replace(
            data=data,
            obs=obs,
            reward=reward,
            done=(terminated | truncated).astype(jnp.float32),
            info=info,
            metrics=metrics | {"reward": reward},
        )


def _finite_part(x: Array) -> Array:
    """`x` with 0 for what is not finite; whole numbers as they are."""
    return jnp.where(jnp.isfinite(x), x, 0.0) if jnp.issubdtype(jnp.result_type(x), jnp.inexact) else x
