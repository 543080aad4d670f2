"""Collecting experience: T decisions in vmapped, self-resetting environments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from mmbc_jax.core.learning import Reward, Transitions
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.seeing import Played, remembered
from mmbc_jax.core.types import Array, Key, Metrics, PyTree, State, Variables
from mmbc_jax.envs import wrappers
from mmbc_jax.ops import codes, weighted
from mmbc_jax.ops.mi_reward import remaining_decisions
from mmbc_jax.ops.normalisation import Normalizer

Act = Callable[[PyTree, Variables | None, Key, Obs, Array], tuple[Array, PyTree]]
"""(params, reference, key, normalised observation, z) to (chunk, what is remembered of the decision)."""


class Loop(flax.struct.PyTreeNode):
    """What runs on from one rollout to the next.

    Attributes:
      env: [B] environment states.
      z: [B] int32 the mode commanded for the running episode.
      memory: what the intrinsic reward remembers of each running episode.
      paid: {"env", "intrinsic"}: [B] reward of each running episode up to here, as of `rollout_metrics`.
    """

    env: State
    z: Array
    memory: PyTree
    paid: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Collector:
    """Runs an actor in an environment.

    Attributes:
      env: batched, chunked and self-resetting (see `envs.wrappers.make`).
      act: who decides.
      reward: keeps the memory of the path.
      num_modes: Z.
      num_envs: B.
      exec_len: h control steps of every chunk are executed.
      length: control steps in a full episode.
    """

    env: Any
    act: Act
    reward: Reward
    num_modes: int
    num_envs: int
    exec_len: int
    length: int

    @property
    def horizon(self) -> int:
        """Decisions in a full episode."""
        return -(-self.length // self.exec_len)

    def init(self, key: Key, normalizer: Normalizer, horizon: Array, alive: Array | None = None) -> Loop:
        """B fresh episodes, truncated after `horizon` [] int32 control steps; `alive` as in `collect`."""
        key_env, key_z = jax.random.split(key)
        env = self.env.reset(jax.random.split(key_env, self.num_envs), horizon=horizon)
        z = self._commanded(key_z, (self.num_envs,), alive)
        memory = self.reward.init_memory(normalizer.normalize_obs(env.obs))
        paid = {name: jnp.zeros(self.num_envs) for name in ("env", "intrinsic")}
        return Loop(env, z, memory, paid)

    def _commanded(self, key: Key, shape: tuple[int, ...], alive: Array | None) -> Array:
        """[...] int32 z, uniform over those there are."""
        if alive is None:
            return jax.random.randint(key, shape, 0, self.num_modes)
        return codes.draw(key, alive, shape)

    def collect(
        self,
        loop: Loop,
        params: PyTree,
        reference: Variables | None,
        normalizer: Normalizer,
        key: Key,
        decisions: int,
        horizon: Array,
        alive: Array | None = None,
    ) -> tuple[Loop, Transitions]:
        """Takes T = `decisions` decisions.

        z is drawn once per episode from a uniform p(z), and the path memory starts anew with it.

        Args:
          loop: where the environments stand.
          params: of the actor.
          reference: frozen variables of the cloned policy, or None.
          normalizer: of observations, and of the actor's chunks.
          key: for actions, resets and modes.
          decisions: T, static.
          horizon: [] int32 control steps after which episodes that start from now on are truncated.
          alive: [Z] 1 for the modes that are commanded; None for all.

        Returns:
          (the loop afterwards, [T, B] transitions whose observations are in physical units: see `normalised`).
        """

        def decide(loop: Loop, key: Key) -> tuple[Loop, Transitions]:
            return self._decide(loop, params, reference, normalizer, key, horizon, alive)

        return jax.lax.scan(decide, loop, jax.random.split(key, decisions))

    def _decide(
        self,
        loop: Loop,
        params: PyTree,
        reference: Variables | None,
        normalizer: Normalizer,
        key: Key,
        horizon: Array,
        alive: Array | None,
    ) -> tuple[Loop, Transitions]:
        key_act, key_env, key_z = jax.random.split(key, 3)
        obs = normalizer.normalize_obs(loop.env.obs)
        chunk, info = self.act(params, reference, key_act, obs, loop.z)
        env = self.env.step(loop.env, normalizer.to_box(chunk), key=key_env, horizon=horizon)
        done = env.done
        led_to = normalizer.normalize_obs(env.info["final_obs"])
        memory = remembered(self.reward, loop.memory, led_to, Played(chunk[:, : self.exec_len], done))
        terminated = done * (1.0 - env.info["truncation"])
        full = (env.info["final_steps"] >= self.length).astype(jnp.float32)
        transitions = Transitions(
            obs=loop.env.obs,
            final_obs=env.info["final_obs"],
            z=loop.z,
            time=loop.env.info["steps"].astype(jnp.float32) / self.length,
            final_time=env.info["final_steps"].astype(jnp.float32) / self.length,
            remaining=remaining_decisions(env.info["final_steps"], self.length, self.exec_len),
            info=info,
            features=self.reward.features(loop.memory),
            final_features=self.reward.features(memory),
            reward=env.reward,
            discount=env.info["discount"],
            terminated=terminated,
            final=jnp.maximum(terminated, done * full),
            done=done,
            success=env.metrics["success"] * done,
            diverged=env.info["diverged"],
            valid=(1.0 - loop.env.info["began"]["over"]) * (1.0 - env.info["diverged"]),
        )
        new_z = self._commanded(key_z, loop.z.shape, alive)
        fresh = self.reward.init_memory(normalizer.normalize_obs(env.obs))
        ended = done > 0
        memory = wrappers.where(ended, fresh, memory)
        return loop.replace(env=env, z=jnp.where(ended, new_z, loop.z), memory=memory), transitions

    def wander(self, key: Key, decisions: int, chunk_shape: tuple[int, int]) -> tuple[Obs, Array]:
        """Chunks drawn uniformly from the environment's box.

        Returns:
          ([T, B, ...] observations in physical units, [T, B] 0 where the decision led to a divergence, else 1).
        """
        key_env, key_decide = jax.random.split(key)
        start = self.env.reset(jax.random.split(key_env, self.num_envs))

        def decide(env: State, key: Key) -> tuple[State, tuple[Obs, Array]]:
            key_chunk, key_env = jax.random.split(key)
            chunk = jax.random.uniform(key_chunk, (self.num_envs, *chunk_shape), minval=-1.0, maxval=1.0)
            after = self.env.step(env, chunk, key=key_env)
            return after, (env.obs, 1.0 - after.info["diverged"])

        return jax.lax.scan(decide, start, jax.random.split(key_decide, decisions))[1]


def normalised(transitions: Transitions, normalizer: Normalizer) -> Transitions:
    """Transitions as everything but a collector and a replay buffer sees them."""
    return transitions.replace(
        obs=normalizer.normalize_obs(transitions.obs),
        final_obs=normalizer.normalize_obs(transitions.final_obs),
    )


def means(metrics: Metrics, valid: Array) -> Metrics:
    """Metrics of each example as their means over those that count (`valid` [...] 1); those of all as they are."""
    return {
        name: value if jnp.ndim(value) == 0 else weighted.mean(value, valid)
        for name, value in metrics.items()
    }


LOGS = {
    "rollout/env_reward": "known",
    "rollout/mi_reward": "known",
    "rollout/success_rate": "known",
    "rollout/diverged": "sum",
}
"""How the figures of `rollout_metrics` become one of a row; see `core.learning.COMBINE`."""


def rollout_metrics(
    transitions: Transitions, intrinsic: Array, paid: dict[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """What is logged of a rollout: of its ended episodes, over their whole length.

    Args:
      transitions: [T, B].
      intrinsic: [T, B] reward of each decision.
      paid: {"env", "intrinsic"}: [B] what the episodes that were running before had been paid.

    Returns:
      (metrics, `paid` for the next rollout). Per ended episode are "rollout/env_reward", "rollout/mi_reward" and
      "rollout/success_rate", NaN where none ended; counts are "rollout/episodes" and, of those that diverged and are
      in none of the others, "rollout/diverged".
    """
    done, diverged = transitions.done, transitions.diverged
    good = done * (1.0 - diverged)
    ended = good.sum()
    # of each decision the nearest end that is still to come, and with the last digit whether that is a good one
    left = jnp.arange(done.shape[0], 0, -1, dtype=done.dtype)[:, None]
    end = jax.lax.cummax(done * (2.0 * left + good), axis=0, reverse=True)
    running, counts = (end == 0).astype(done.dtype), end % 2.0
    found, kept = {}, {}
    for name, reward in (("env", transitions.reward), ("intrinsic", intrinsic)):
        total = (reward * counts).sum() + (paid[name] * counts[0]).sum()
        kept[name] = paid[name] * running[0] + (reward * running).sum(0)
        found[name] = total / ended  # 0 / 0 where none ended
    metrics = {
        "rollout/env_reward": found["env"],
        "rollout/mi_reward": found["intrinsic"],
        "rollout/success_rate": (transitions.success * good).sum() / ended,
        "rollout/episodes": ended,
        "rollout/diverged": diverged.sum(),
    }
    return metrics, kept
