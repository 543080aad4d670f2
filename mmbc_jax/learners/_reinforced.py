"""What learners by reinforcement have in common: how they collect, and what they adapt besides their networks."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from mmbc_jax.core.acting import exploring
from mmbc_jax.core.learning import Actor, Reward, Subject, Transitions
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Key, Metrics, PolicySpec, PyTree
from mmbc_jax.learners._codes import CodesOptions, judged, unseen
from mmbc_jax.learners._collect import Collector, Loop
from mmbc_jax.learners._dual import DualOptions, followed, weighable
from mmbc_jax.learners._start import episode_horizon, tuned_subject
from mmbc_jax.ops.codes import alive_of
from mmbc_jax.ops.unrolled import unrolled


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReinforcedOptions(DualOptions, CodesOptions):
    """Options of every learner by reinforcement."""


@dataclasses.dataclass(frozen=True)
class Reinforced:
    """A learner by reinforcement without its gradient steps.

    Attributes:
      options: of its section.
      spec: sizes and observations.
      actor: what is trained.
      reward: the intrinsic one.
      collector: environments and actor.
    """

    options: Any
    spec: PolicySpec
    actor: Actor
    reward: Reward
    collector: Collector

    @property
    def env_steps(self) -> int:
        """Control steps of one iteration."""
        return self.num_envs * self.options.decisions * self.collector.exec_len

    @property
    def num_envs(self) -> int:
        """B."""
        return int(self.options.num_envs)

    def subject(self, state: TrainState, key: Key) -> Subject:
        """Who is played on its reference, with the intrinsic reward's parameters."""
        subject, params = tuned_subject(state, key), state.params
        return subject.replace(actor=self.acts_with(params, params["actor"]))

    def acts_with(self, params: PyTree, actor: PyTree) -> PyTree:
        """What is acted with, of the parameters of all parts and those of the actor: the actor's."""
        return actor

    def keys(self, key: Key) -> Key:
        """[4] keys: the next, of the collection, the reward and the update; and a fifth where commands are judged."""
        return jax.random.split(unrolled(key), 5 if self.options.judges else 4)

    def adapting(self, stats: dict[str, Any], hparams: Hparams) -> dict[str, Any]:
        """Stats of a stage's first iteration, with what sets lambda and judges commands, where that is wanted."""
        return unseen(weighable(stats, self.options, hparams), self.options, self.reward)

    def collected(self, state: TrainState, loop: Loop, key: Key) -> tuple[Loop, Transitions]:
        """The decisions of an iteration, as of `Collector.collect`."""
        explores = exploring(self.actor, state.params["actor"], state.step * self.options.decisions)
        return self.collector.collect(
            loop,
            self.acts_with(state.params, explores),
            state.stats["reference"],
            state.stats["normalizer"],
            key,
            self.options.decisions,
            episode_horizon(state.step, state.hparams, self.collector.length),
            alive_of(state.params["reward"]),
        )

    def adapted(
        self,
        stats: dict[str, Any],
        params: PyTree,
        state: TrainState,
        seen: Transitions,
        metrics: Metrics,
        fixed: Hparams,
        key: Key | None,
    ) -> tuple[dict[str, Any], PyTree, Metrics]:
        """(stats, params, metrics) with the commands there still are and the next lambda.

        Args:
          stats, params: after the update.
          state: before it, with the weights of the iteration.
          seen: [T, B] of the rollout, normalised.
          metrics: of the iteration.
          fixed: hparams of the stage.
          key: the fifth of `keys`; None without one.
        """
        if key is not None:
            stats, params, counted = judged(stats, params, self.options, self.reward, state, seen, key)
            metrics = {**metrics, **counted}
        stats, metrics = followed(stats, self.options, fixed, metrics)
        return stats, params, metrics
