r"""DAgger: the scripted expert relabels the states that the clone itself visits, and the clone learns from both.

From the clone pi_0 of the demonstrations D_0 on, round i = 1, 2, ... takes

  pi~_i = beta^i expert + (1 - beta^i) pi_{i-1}      one of the two decides on each chunk
  D_i   = {(s, the H actions that the expert would take from s on) : s visited by pi~_i}
  pi_i  = pi_{i-1}, trained further on the union of D_0 .. D_i, drawn uniformly.

So the clone is trained under the distribution of states that it causes: its error over T steps grows as
O(T), where that of cloning the expert's own states can grow as O(T^2). In the round of the demonstrations
beta^0 = 1; the default beta = 0 is the form without parameters.

An expert with K modes is asked for the mode that the episode is pursuing,

  k* = argmin_k sum over the decisions so far of |a - expert_k(s)|^2,

a the first action of the executed chunk: the likeliest mode, were experts Gaussian. Ties (the first decision,
modes that have not forked) go to a mode drawn uniformly at the start of the episode. A clone that
has chosen a side is thus shown how to stay on it, and never told to change.

Everything happens inside one compiled step per round. Source: Ross, Gordon and Bagnell 2011,
https://arxiv.org/abs/1011.0686.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, Batch, Key, Metrics, State, Variables
from mmbc_jax.data.windows import Windows
from mmbc_jax.envs import wrappers
from mmbc_jax.learners import bc
from mmbc_jax.learners._optim import optimizer, warmup_cosine
from mmbc_jax.ops.normalisation import Normalizer

TRACED = ("dagger.beta",)


def default_config() -> ConfigDict:
    """Settings of DAgger; those in `TRACED` can be swept without recompiling.

    rounds: N. episodes: played in each. steps_per_round: gradient steps after each, with the batch size,
      optimiser and average of `bc`; the learning rate falls along a cosine from its peak in every round.
    beta: probability, to the power of the round from 1 on, that the expert and not the clone decides.
    """
    return ConfigDict({"rounds": 4, "episodes": 32, "steps_per_round": 250, "beta": 0.0})


def check_config(cfg: ConfigDict, prefix: str = "dagger") -> None:
    """Raises ConfigError where a field is out of range."""
    for field in ("rounds", "episodes", "steps_per_round"):
        check_range(f"{prefix}.{field}", cfg[field], 1)
    check_range(f"{prefix}.beta", cfg.beta, 0.0, 1.0)


class Aggregate(flax.struct.PyTreeNode):
    """The relabelled windows of all rounds so far.

    Attributes:
      windows: [C] rows, as a batch of cloning; those from `count` on are not filled.
      count: [] int32.
    """

    windows: Batch
    count: Array

    @staticmethod
    def empty(capacity: int, obs_dim: int, chunk_shape: tuple[int, int]) -> Aggregate:
        """Room for C = `capacity` windows."""
        windows = Batch(
            obs=jnp.zeros((capacity, obs_dim)),
            chunk=jnp.zeros((capacity, *chunk_shape)),
            mask=jnp.zeros((capacity, chunk_shape[0])),
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
        """`size` windows drawn uniformly with replacement from the union with the demonstrations."""
        first = len(demonstrations)
        index = jax.random.randint(key, (size,), 0, first + self.count)
        shown = demonstrations.batch(jnp.minimum(index, first - 1))
        own = jax.tree.map(lambda leaf: leaf[jnp.maximum(index - first, 0)], self.windows)
        return wrappers.where(index < first, shown, own)


@dataclasses.dataclass(frozen=True)
class Relabeller:
    """Plays episodes with a clone and asks the expert at every decision.

    Attributes:
      env: bare environment with an expert.
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
        return jnp.clip(getattr(self.env, "unwrapped", self.env).expert(state, mode, key), -1.0, 1.0)

    def label(self, state: State, mode: Array, key: Key) -> tuple[Array, Array]:
        """What the expert would do from a state on, in a copy of the environment.

        Args:
          state: of one chunked instance.
          mode: [] int32 that it is to pursue.
          key: for the expert.

        Returns:
          (chunk [H, A] in [-1, 1], mask [H]): as in `Windows`, past the episode's end the last action repeats
          and the mask is 0.
        """
        start = state.replace(info={name: x for name, x in state.info.items() if name != "path"})

        def body(carry: tuple[State, Array], key: Key) -> tuple[tuple[State, Array], tuple[Array, Array]]:
            state, before = carry
            alive = state.done == 0
            action = jnp.where(alive, self.act(state, mode, key), before)
            state = wrappers.where(alive, self.episode.step(state, action), state)
            return (state, action), (action, alive.astype(jnp.float32))

        horizon, action_dim = self.policy.spec.chunk_shape
        keys = jax.random.split(key, horizon)
        return jax.lax.scan(body, (start, jnp.zeros(action_dim)), keys)[1]

    def play(
        self, variables: Variables, normalizer: Normalizer, beta: Array, key: Key
    ) -> tuple[Batch, Array, Metrics]:
        """Plays E episodes to their end and labels what they visit.

        Args:
          variables: of the clone.
          normalizer: of observations.
          beta: [] probability that the expert decides.
          key: for resets, modes, actions and the expert.

        Returns:
          (windows with T E rows, valid [T E] bool: 0 after an episode's end, metrics).
        """
        env = wrappers.Vectorised(wrappers.Chunk(self.episode, self.exec_len, 1.0))
        key_reset, key_mode, key_decide = jax.random.split(key, 3)
        state = env.reset(jax.random.split(key_reset, self.episodes))
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
            played = wrappers.where(asked, chunk, self.policy.transport(variables, obs, w))
            error = jnp.clip(played[:, :1], -1.0, 1.0) - first
            visited = (Batch(obs, chunk, mask), state.done == 0, state.metrics.get("deviation"))
            return (env.step(state, played), missed + jnp.square(error).sum(-1)), visited

        start = (state, jnp.zeros((self.episodes, len(modes))))
        (last, _), visited = jax.lax.scan(decide, start, jax.random.split(key_decide, self.decisions))
        windows, valid, deviation = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), visited)
        success = (last.metrics["success"] > 0) & (last.done > 0)
        metrics = {"dagger/success_rate": success.mean()}
        if deviation is not None:
            metrics["dagger/deviation"] = (deviation * valid).sum() / valid.sum()
        return windows, valid, metrics


def init_state(
    parent: TrainState, key: Key, relabeller: Relabeller, cfg: ConfigDict, hparams: Hparams
) -> TrainState:
    """The state before the first round: the clone with a fresh optimiser and nothing aggregated.

    Args:
      parent: final state of the clone.
      key: of the stage.
      relabeller: of the stage.
      cfg: the `dagger` section.
      hparams: traced scalars of the stage.
    """
    capacity = cfg.rounds * cfg.episodes * relabeller.decisions
    spec = relabeller.policy.spec
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=parent.params,
        opt_state=optimizer(1.0, 0.0, 1.0).init(parent.params),
        ema=parent.ema,
        stats=parent.stats,
        env_state=Aggregate.empty(capacity, spec.obs_dim, spec.chunk_shape),
        hparams=hparams,
    )


def make_train_step(
    relabeller: Relabeller, bc_cfg: ConfigDict, cfg: ConfigDict
) -> Callable[[TrainState, tuple[Windows, Normalizer]], tuple[TrainState, Metrics]]:
    """One round: play, relabel, aggregate, and descend the policy's loss on the union.

    Args:
      relabeller: with the policy.
      bc_cfg: the `bc` section.
      cfg: the `dagger` section.

    Returns:
      `step(state, (demonstrations, normaliser)) -> (state, metrics)`, pure; `state.step` counts rounds.
    """

    def train_step(state: TrainState, shared: tuple[Windows, Normalizer]) -> tuple[TrainState, Metrics]:
        key, key_play = jax.random.split(state.key)
        beta = state.hparams["dagger.beta"] ** (state.step + 1)
        played = relabeller.play(bc.reference(state), state.stats["normalizer"], beta, key_play)
        aggregate = state.env_state.add(*played[:2])

        def descend(state: TrainState, step: Array) -> tuple[TrainState, Metrics]:
            key, key_batch, key_loss = jax.random.split(state.key, 3)
            batch = aggregate.sample(key_batch, shared[0], bc_cfg.batch_size)
            unit = warmup_cosine(step, cfg.steps_per_round, 0, bc_cfg.final_lr_fraction)
            return bc.update(relabeller.policy, state.replace(key=key), batch, key_loss, unit)

        # Without the aggregate, which no step changes; counted in gradient steps, as the average needs it.
        start = state.replace(key=key, step=state.step * cfg.steps_per_round, env_state={})
        end, logged = jax.lax.scan(descend, start, jnp.arange(cfg.steps_per_round))
        metrics = {name: x[-1] if name.startswith("train/") else x.mean() for name, x in logged.items()}
        count = aggregate.count.astype(jnp.float32)
        metrics |= {**played[2], "dagger/aggregated": count}
        return end.replace(step=state.step + 1, env_state=aggregate), metrics

    return train_step
