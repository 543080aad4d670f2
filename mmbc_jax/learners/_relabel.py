"""Playing episodes with a clone, asking the expert at every decision, and keeping what it says."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.sharding import spread
from mmbc_jax.core.types import Array, Batch, Key, Metrics, PolicySpec, State, Variables
from mmbc_jax.data.windows import Windows, drawn
from mmbc_jax.envs import wrappers
from mmbc_jax.ops.leading_axes import merge_leading
from mmbc_jax.ops.normalisation import Normalizer


class Aggregate(flax.struct.PyTreeNode):
    """The relabelled windows of all rounds so far.

    Attributes:
      windows: [C] rows, as a batch of cloning; those from `count` on are not filled.
      count: [] int32.
    """

    windows: Batch
    count: Array

    @staticmethod
    def empty(capacity: int, spec: PolicySpec) -> Aggregate:
        """Room for C = `capacity` windows."""
        windows = Batch(
            obs=spec.obs.dummy(capacity),
            chunk=jnp.zeros((capacity, *spec.chunk_shape)),
            mask=jnp.zeros((capacity, spec.chunk_len)),
        )
        return Aggregate(windows, jnp.zeros((), jnp.int32))

    def add(self, windows: Batch, valid: Array) -> Aggregate:
        """Appends the rows of `windows` [n] where `valid` [n] bool holds; n further rows must be free."""
        order = jnp.argsort(~valid, stable=True)  # the others come last, and the next rows overwrite them
        rows = jax.tree.map(
            lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new[order], self.count, 0),
            self.windows,
            windows,
        )
        return Aggregate(rows, self.count + valid.sum(dtype=jnp.int32))

    def sample(self, key: Key, demonstrations: Windows, size: int) -> Batch:
        """`size` windows drawn with replacement from the union with the demonstrations, files by their shares."""
        first, shown_row = len(demonstrations), None
        if demonstrations.files is not None:
            key, key_row = jax.random.split(key)
            shown_row = drawn(key_row, demonstrations, size)
        index = jax.random.randint(key, (size,), 0, first + self.count)
        shown = demonstrations.batch(jnp.minimum(index, first - 1) if shown_row is None else shown_row)
        own = jax.tree.map(lambda leaf: leaf[jnp.maximum(index - first, 0)], self.windows)
        return wrappers.where(index < first, shown, own)


@dataclasses.dataclass(frozen=True)
class Relabeller:
    """Plays episodes with a clone and asks the expert at every decision.

    Attributes:
      env: bare environment with an expert, or one that observes its history.
      policy: the clone's.
      episodes: E, played at once.
      exec_len: h.
    """

    env: Any
    policy: Policy
    episodes: int
    exec_len: int

    @cached_property
    def episode(self) -> wrappers.Episode:
        """One environment that ends at its limit, for the expert to look ahead in."""
        return wrappers.Episode(self.env, self.env.spec.episode_length)

    @property
    def decisions(self) -> int:
        """T, in a full episode."""
        return -(-self.env.spec.episode_length // self.exec_len)

    def act(self, state: State, mode: Array, key: Key) -> Array:
        """[A] the expert's action for one instance, clipped to [-1, 1] as in the demonstrations."""
        return wrappers.expert_action(self.env, state, mode, key)

    def label(self, state: State, mode: Array, key: Key) -> tuple[Array, Array]:
        """What the expert would do from a state on, in a copy of the environment.

        Args:
          state: of one chunked instance.
          mode: [] int32 that it is to pursue.
          key: for the expert.

        Returns:
          (chunk [H, A] in the environment's [-1, 1], mask [H]): as in `Windows`, past the episode's end the last
          action repeats and the mask is 0.
        """

        def body(carry: tuple[State, Array], key: Key) -> tuple[tuple[State, Array], tuple[Array, Array]]:
            state, before = carry
            alive = state.done == 0
            action = jnp.where(alive, self.act(state, mode, key), before)
            state = wrappers.where(alive, self.episode.step(state, action), state)
            return (state, action), (action, alive.astype(jnp.float32))

        horizon, action_dim = self.policy.spec.chunk_shape
        keys = jax.random.split(key, horizon)
        return jax.lax.scan(body, (state, jnp.zeros(action_dim)), keys)[1]

    def play(
        self, variables: Variables, normalizer: Normalizer, beta: Array, key: Key
    ) -> tuple[Batch, Array, Metrics]:
        """Plays E episodes to their end and labels what they visit.

        Args:
          variables: of the clone.
          normalizer: of observations, and of the clone's chunks, in whose scale the windows are.
          beta: [] probability that the expert decides.
          key: for resets, modes, actions and the expert.

        Returns:
          (windows with T E rows, valid [T E] bool: 0 after an episode's end, metrics).
        """
        env = wrappers.Vectorised(wrappers.Chunk(self.episode, self.exec_len, 1.0))
        key_reset, key_mode, key_decide = jax.random.split(key, 3)
        state = spread(env.reset(jax.random.split(key_reset, self.episodes)))
        modes = jnp.arange(self.env.spec.num_modes)
        drawn = jax.random.randint(key_mode, (self.episodes,), 0, len(modes))

        def one(state: State, missed: Array, drawn: Array, key: Key) -> tuple[Array, Array, Array]:
            """(chunk, mask, first action of every mode [K, A]) of one instance."""
            key_first, key_label = jax.random.split(key)
            # The same noise for all modes: what is left is the difference between them.
            first = jax.vmap(self.act, in_axes=(None, 0, None))(state, modes, key_first)
            order = (drawn + modes) % len(modes)
            return *self.label(state, order[jnp.argmin(missed[order])], key_label), first

        def decide(carry: tuple[State, Array], key: Key) -> tuple[tuple[State, Array], tuple]:
            state, missed = carry
            key_expert, key_act, key_mix = jax.random.split(key, 3)
            obs = normalizer.normalize_obs(state.obs)
            keys = jax.random.split(key_expert, self.episodes)
            chunk, mask, first = jax.vmap(one)(state, missed, drawn, keys)
            w = self.policy.base_distribution(variables, obs).sample(seed=key_act)
            asked = jax.random.bernoulli(key_mix, beta, (self.episodes,))
            own = normalizer.to_box(self.policy.transport(variables, obs, w))
            played = wrappers.where(asked, chunk, own)
            error = jnp.clip(played[:, :1], -1.0, 1.0) - first
            visited = (
                Batch(obs, normalizer.from_box(chunk), mask),
                state.done == 0,
                state.metrics.get("deviation"),
            )
            return (env.step(state, played), missed + jnp.square(error).sum(-1)), visited

        start = (state, jnp.zeros((self.episodes, len(modes))))
        (last, _), visited = jax.lax.scan(decide, start, jax.random.split(key_decide, self.decisions))
        windows, valid, deviation = merge_leading(visited)
        success = (last.metrics["success"] > 0) & (last.done > 0)
        metrics = {"dagger/success_rate": success.mean(), "rollout/diverged": last.info["diverged"].sum()}
        if deviation is not None:
            metrics["dagger/deviation"] = (deviation * valid).sum() / valid.sum()
        return windows, valid, metrics
