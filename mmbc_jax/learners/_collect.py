"""Collecting experience: T decisions of an actor in vmapped, self-resetting environments."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from mmbc_jax.core.learning import Actor, Discriminator
from mmbc_jax.core.types import Array, Key, PyTree, State, Variables
from mmbc_jax.ops.normalisation import Normalizer


class Loop(flax.struct.PyTreeNode):
    """What runs on from one rollout to the next.

    Attributes:
      env: [B] environment states.
      z: [B] int32 the mode commanded for the running episode.
      memory: what the discriminator remembers of each running episode.
    """

    env: State
    z: Array
    memory: PyTree


class Trajectory(flax.struct.PyTreeNode):
    """T decisions in B environments, time-major.

    Attributes:
      obs: [T, B, D] normalised observation at the decision.
      final_obs: [T, B, D] normalised observation it led to, before any reset.
      z: [T, B] int32.
      time: [T, B] fraction of the full horizon passed at the decision.
      final_time: [T, B] the same after it.
      remaining: [T, B] int32 decisions left until the full horizon, after it.
      info: what the actor remembers.
      features: [T, B, F] the discriminator's input before the decision.
      final_features: [T, B, F] and after it.
      reward: [T, B] the environment's, discounted inside the chunk.
      discount: [T, B] gamma^k.
      terminated: [T, B] 1 where the task ended.
      done: [T, B] 1 where the episode ended.
      success: [T, B] 1 where it ended in success.
    """

    obs: Array
    final_obs: Array
    z: Array
    time: Array
    final_time: Array
    remaining: Array
    info: PyTree
    features: Array
    final_features: Array
    reward: Array
    discount: Array
    terminated: Array
    done: Array
    success: Array


@dataclasses.dataclass(frozen=True)
class Collector:
    """Runs an actor in an environment.

    Attributes:
      env: batched, chunked and self-resetting (see `envs.wrappers.make`).
      actor: who decides.
      discriminator: keeps the path memory.
      num_envs: B.
      exec_len: h control steps of every chunk are executed.
      length: control steps in a full episode.
    """

    env: Any
    actor: Actor
    discriminator: Discriminator
    num_envs: int
    exec_len: int
    length: int

    @property
    def horizon(self) -> int:
        """Decisions in a full episode."""
        return -(-self.length // self.exec_len)

    def init(self, key: Key, normalizer: Normalizer, horizon: Array) -> Loop:
        """B fresh episodes, truncated after `horizon` [] int32 control steps."""
        key_env, key_z = jax.random.split(key)
        env = self.env.reset(jax.random.split(key_env, self.num_envs), horizon=horizon)
        z = jax.random.randint(key_z, (self.num_envs,), 0, self.discriminator.num_modes)
        memory = self.discriminator.init_memory(normalizer.normalize_obs(env.obs))
        return Loop(env, z, memory)

    def collect(
        self,
        loop: Loop,
        params: PyTree,
        reference: Variables,
        normalizer: Normalizer,
        key: Key,
        decisions: int,
        horizon: Array,
    ) -> tuple[Loop, Trajectory]:
        """Takes T = `decisions` decisions.

        z is drawn once per episode from a uniform p(z), and the path memory starts anew with it.

        Args:
          loop: where the environments stand.
          params: of the actor.
          reference: frozen variables of the cloned policy.
          normalizer: of observations.
          key: for actions, resets and modes.
          decisions: T, static.
          horizon: [] int32 control steps after which episodes that start from now on are truncated.

        Returns:
          (the loop afterwards, the trajectory).
        """

        def decide(loop: Loop, key: Key) -> tuple[Loop, Trajectory]:
            return self._decide(loop, params, reference, normalizer, key, horizon)

        return jax.lax.scan(decide, loop, jax.random.split(key, decisions))

    def _decide(
        self,
        loop: Loop,
        params: PyTree,
        reference: Variables,
        normalizer: Normalizer,
        key: Key,
        horizon: Array,
    ) -> tuple[Loop, Trajectory]:
        key_act, key_env, key_z = jax.random.split(key, 3)
        obs = normalizer.normalize_obs(loop.env.obs)
        chunk, info = self.actor.act(params, reference, key_act, obs, loop.z)
        env = self.env.step(loop.env, chunk, key=key_env, horizon=horizon)
        done = env.done
        final_obs = normalizer.normalize_obs(env.info["final_obs"])
        memory = self.discriminator.remember(loop.memory, final_obs)
        left = (self.length - env.info["final_steps"]).astype(jnp.float32) / self.exec_len
        trajectory = Trajectory(
            obs=obs,
            final_obs=final_obs,
            z=loop.z,
            time=loop.env.info["steps"].astype(jnp.float32) / self.length,
            final_time=env.info["final_steps"].astype(jnp.float32) / self.length,
            remaining=jnp.ceil(left).astype(jnp.int32),
            info=info,
            features=self.discriminator.features(loop.memory),
            final_features=self.discriminator.features(memory),
            reward=env.reward,
            discount=env.info["discount"],
            terminated=done * (1.0 - env.info["truncation"]),
            done=done,
            success=env.metrics["success"] * done,
        )
        new_z = jax.random.randint(key_z, loop.z.shape, 0, self.discriminator.num_modes)
        fresh = self.discriminator.init_memory(normalizer.normalize_obs(env.obs))
        ended = done > 0
        memory = jax.tree.map(
            lambda new, old: jnp.where(ended.reshape(ended.shape + (1,) * (old.ndim - 1)), new, old),
            fresh,
            memory,
        )
        return Loop(env, jnp.where(ended, new_z, loop.z), memory), trajectory
