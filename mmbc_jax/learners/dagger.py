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
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmbc_jax.core.learning import Parts, Subject
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.sharding import spread
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, Key, Metrics
from mmbc_jax.data.windows import Windows
from mmbc_jax.envs import wrappers
from mmbc_jax.learners._cloning import BCOptions, clone, update
from mmbc_jax.learners._optim import SKIPPED, optimizer, warmup_cosine
from mmbc_jax.learners._relabel import Aggregate, Relabeller
from mmbc_jax.learners._require import require
from mmbc_jax.ops.normalisation import Normalizer
from mmbc_jax.ops.unrolled import rolled, unrolled


@dataclasses.dataclass(frozen=True, kw_only=True)
class DaggerOptions(Options):
    """DAgger; batch size, optimiser and average are those of `bc`."""

    rounds: int = option(4, "rounds of playing, relabelling and training", low=1)
    episodes: int = option(32, "played in each round", low=1)
    steps_per_round: int = option(
        250, "gradient steps after each; the learning rate falls along a cosine in every round", low=1
    )
    beta: float = option(
        0.0,
        "probability, to the power of the round from 1 on, that the expert and not the clone decides",
        low=0.0,
        high=1.0,
        traced=True,
    )


@dataclasses.dataclass(frozen=True)
class DaggerLearner:
    """One training step is a round: play, relabel, aggregate, and descend the policy's loss on the union.

    Attributes:
      options: of the `dagger` section.
      cloning: of the `bc` section.
      relabeller: with the policy.
    """

    options: DaggerOptions
    cloning: BCOptions
    relabeller: Relabeller

    logs: ClassVar[Mapping[str, str]] = {**SKIPPED, "dagger/aggregated": "last", "rollout/diverged": "sum"}
    buffered: ClassVar[bool] = False

    @property
    def env_steps(self) -> int:
        """Control steps of a round: those played, and those that the expert looks ahead."""
        per_decision = self.relabeller.exec_len + self.relabeller.policy.spec.chunk_len
        return self.num_envs * self.relabeller.decisions * per_decision

    @property
    def num_envs(self) -> int:
        """Episodes of a round."""
        return self.options.episodes

    def init(
        self, key: Key, hparams: Hparams, parent: TrainState | None, shared: tuple[Windows, Normalizer]
    ) -> TrainState:
        """The state before the first round: the clone with a fresh optimiser and nothing aggregated.

        Args:
          key: of the stage.
          hparams: "bc.NAME", "policy.NAME", and "learner.NAME" of `DaggerOptions`.
          parent: final state of the clone.
          shared: the demonstrations and their normaliser.

        Raises:
          ConfigError: there is no clone.
        """
        parent = require(parent, "stages", "a stage that clones before the one that relabels")
        capacity = self.options.rounds * self.options.episodes * self.relabeller.decisions
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            key=key,
            params=parent.params,
            opt_state=optimizer(1.0, 0.0, 1.0).init(parent.params),
            ema=parent.ema,
            stats=parent.stats,
            env_state=Aggregate.empty(capacity, self.relabeller.policy.spec),
            hparams=hparams,
        )

    def train_step(self, state: TrainState, shared: tuple[Windows, Normalizer]) -> tuple[TrainState, Metrics]:
        """One round of one run; `state.step` counts rounds."""
        options, cloning = self.options, self.cloning
        key, key_play = jax.random.split(unrolled(state.key))
        beta = state.hparams["learner.beta"] ** (state.step + 1)
        played = self.relabeller.play(clone(state), state.stats["normalizer"], beta, key_play)
        aggregate = state.env_state.add(*played[:2])

        def descend(state: TrainState, step: Array) -> tuple[TrainState, Metrics]:
            key, key_batch, key_loss = jax.random.split(unrolled(state.key), 3)
            batch = spread(aggregate.sample(key_batch, shared[0], cloning.batch_size))
            unit = warmup_cosine(step, options.steps_per_round, 0, cloning.final_lr_fraction)
            return update(self.relabeller.policy, state.replace(key=rolled(key)), batch, key_loss, unit)

        # Without the aggregate, which no step changes; counted in gradient steps, as the average needs it.
        start = state.replace(key=rolled(key), step=state.step * options.steps_per_round, env_state={})
        end, logged = jax.lax.scan(descend, start, jnp.arange(options.steps_per_round))
        metrics = {name: x[-1] if name in SKIPPED else x.mean() for name, x in logged.items()}
        count = aggregate.count.astype(jnp.float32)
        metrics |= {**played[2], "dagger/aggregated": count}
        return end.replace(step=state.step + 1, env_state=aggregate), metrics

    def subject(self, state: TrainState, key: Key) -> Subject:
        """The clone, with its averaged weights."""
        return Subject(key, clone(state), state.stats["normalizer"], {}, {})


@register("learner", DaggerOptions)
def build(options: DaggerOptions, parts: Parts) -> DaggerLearner:
    """A learner that trains a clone of `parts.policy` further, with the expert of `parts.env`."""
    policy = require(parts.policy, "policy.name", "a policy to clone")
    env = require(parts.env, "env.name", "an environment with an expert: dagger plays episodes")
    cloning = require(parts.cloning, "bc", "options of cloning")
    assert isinstance(cloning, BCOptions)
    seen = env if parts.observe == 1 else wrappers.History(env, parts.observe)
    return DaggerLearner(options, cloning, Relabeller(seen, policy, options.episodes, parts.exec_len))
