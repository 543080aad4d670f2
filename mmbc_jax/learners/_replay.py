"""Learning from replayed decisions, as one pure training step: everything but the gradient steps.

Both rewards are put together when a decision is replayed: the environment's as it was, the intrinsic one by what q
says now. So a buffer outlives a change of their weights, and a stage takes it over from the stage it starts from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmbc_jax.core.keys import seeded
from mmbc_jax.core.learning import ReparameterisedActor, Transitions
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.learners._codes import with_codes
from mmbc_jax.learners._collect import LOGS, Loop, normalised, rollout_metrics
from mmbc_jax.learners._dual import weighed
from mmbc_jax.learners._optim import SKIPPED, optimizer
from mmbc_jax.learners._reinforced import Reinforced, ReinforcedOptions
from mmbc_jax.learners._replayed_update import ReplayedUpdate
from mmbc_jax.learners._start import alike, episode_horizon, follow, kept_params, stats_from
from mmbc_jax.ops import ring
from mmbc_jax.ops.codes import alive_of
from mmbc_jax.ops.leading_axes import merge_leading
from mmbc_jax.ops.soft_policy import REDUCTIONS, reduce_heads
from mmbc_jax.ops.unrolled import rolled


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayOptions(ReinforcedOptions):
    """Options of every learner that replays.

    Gradient steps per collected decision (the update-to-data ratio) are updates / (num_envs x decisions).
    """

    num_envs: int = option(64, "environments, B", low=1)
    decisions: int = option(4, "taken in each before the updates, T", low=1)
    updates: int = option(32, "gradient steps of an iteration, each on a batch of its own", low=1)
    batch_size: int = option(256, "replayed decisions in a gradient step", low=1)
    capacity: int = option(65536, "decisions in the replay buffer; the oldest make room", low=1, high=2**30)
    warmup: int = option(1024, "decisions in the buffer before the first gradient step", low=0)
    learning_rate: float = option(3e-4, "of the actor", low=0.0, open_low=True, traced=True)
    critic_learning_rate: float = option(1e-3, "of the action values", low=0.0, open_low=True, traced=True)
    discriminator_learning_rate: float = option(
        1e-3, "of the intrinsic reward's parameters", low=0.0, open_low=True, traced=True
    )
    gamma: float = option(0.99, "discount per control step", low=0.0, high=1.0, open_low=True)
    tau: float = option(
        0.01, "share of the critic in its target at every step", low=0.0, high=1.0, traced=True
    )
    heads: int = option(2, "independent action values", low=1, high=1024)
    reduce: str = option("min", "how they become one", choices=tuple(REDUCTIONS))
    clip_norm: float = option(10.0, "of each part's gradient", low=0.0, open_low=True, traced=True)
    critic_hidden: tuple[int, ...] = option((128, 128), "widths of the action values", low=1)
    critic_octaves: int = option(4, "of the observation's features in the action values", low=0, high=16)
    critic_layer_norm: bool = option(True, "normalise before each of their activations")
    iterations_per_epoch: int = option(10, "training steps of one compiled program", low=1)

    def check(self) -> None:
        """Raises ConfigError where the buffer cannot hold what is asked of it."""
        collected = self.num_envs * self.decisions
        if self.capacity < collected:
            raise self.error("capacity", f"at least num_envs x decisions = {collected}")
        if self.warmup > self.capacity:
            raise self.error("warmup", f"at most capacity = {self.capacity}")


@dataclasses.dataclass(frozen=True)
class ReplayLearner(Reinforced):
    """Collects T decisions in B environments, adds them to the buffer, and learns from what the buffer holds.

    Parameters have the parts "actor", "critic", "reward" and those of the update; `ema` holds the target critic
    under "critic"; `env_state` the environments under "loop" and the buffer under "buffer", in physical units;
    `stats` see `_start.stats_from`.

    Attributes:
      options: of its section.
      spec: sizes and observations.
      actor: what is trained.
      reward: the intrinsic one.
      collector: environments and actor.
      update: the gradient steps of one iteration, with the action values.
    """

    options: ReplayOptions
    actor: ReparameterisedActor
    update: ReplayedUpdate

    buffered: ClassVar[bool] = True

    @property
    def logs(self) -> Mapping[str, str]:
        """See `core.learning.Learner`."""
        return {**SKIPPED, **LOGS, **self.options.logged, "replay/buffer": "last"}

    def init(self, key: Key, hparams: Hparams, parent: TrainState | None, shared: PyTree) -> TrainState:
        """The state before the first iteration of one run, with fresh optimisers and environments.

        Args:
          key: of the stage.
          hparams: "learner.NAME" of the options, and "stage." iterations, start_horizon, env_coef, mi_coef and
            train_reward.
          parent: of a stage that cloned the reference; of one that learned by reinforcement, whose
            parameters are kept, and its buffer where it had one of the same kind; or None.
          shared: unused.
        """
        key_walk = None
        if parent is None:
            key, key_walk = jax.random.split(key)
        key_params, key_loop, key = jax.random.split(key, 3)
        stats = stats_from(parent, key_walk, self.collector, self.spec.obs, self.spec.chunk_shape)
        fresh = self._fresh(key_params, stats, hparams)
        params = kept_params(parent, fresh)
        stats = self.adapting(stats, hparams)
        step, tx = jnp.zeros((), jnp.int32), optimizer(1.0, 0.0, 1.0)
        horizon = episode_horizon(step, hparams, self.collector.length)
        loop = self.collector.init(key_loop, stats["normalizer"], horizon, alive_of(params["reward"]))
        target, buffer = jax.tree.map(jnp.copy, params["critic"]), self._empty(loop, params, stats)
        return TrainState(
            step=step,
            key=key,
            params=params,
            opt_state={part: tx.init(of) for part, of in params.items()},
            ema={"critic": _kept(parent, "ema", "critic", target)},
            stats=stats,
            env_state={"loop": loop, "buffer": _kept(parent, "env_state", "buffer", buffer)},
            hparams=hparams,
        )

    def _fresh(self, key: Key, stats: PyTree, hparams: Hparams) -> PyTree:
        key_actor, key_critic, key_q = jax.random.split(key, 3)
        return {
            "actor": self.actor.init(key_actor, stats["reference"]),
            "reward": with_codes(self.reward.init(key_q), self.options, self.reward),
            **self.update.init(key_critic, self.spec, hparams),
        }

    def _empty(self, loop: Loop, params: PyTree, stats: PyTree) -> ring.Ring:
        """A buffer for transitions as the collector returns them."""

        def collected(loop: Loop, params: PyTree, stats: PyTree) -> Transitions:
            scale, horizon = stats["normalizer"], jnp.zeros((), jnp.int32)
            own, key = self.acts_with(params, params["actor"]), seeded(0)
            return self.collector.collect(loop, own, stats["reference"], scale, key, 1, horizon)[1]

        rows = jax.eval_shape(collected, loop, params, stats)
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), rows)
        return ring.init(one, self.options.capacity)

    def train_step(self, state: TrainState, shared: PyTree) -> tuple[TrainState, Metrics]:
        """One iteration of one run; `shared` is unused, the experience is made here."""
        options, stats, fixed = self.options, state.stats, state.hparams
        state = state.replace(hparams=weighed(state))
        key, key_collect, key_reward, key_update, *key_judge = self.keys(state.key)
        loop, visited = self.collected(state, state.env_state["loop"], key_collect)
        seen = normalised(visited, stats["normalizer"])
        intrinsic, metrics = self.reward.pay(state.params["reward"], key_reward, seen, self.update.discount)
        rollout, paid = rollout_metrics(seen, intrinsic * seen.valid, loop.paid)
        rows = merge_leading(visited)
        buffer = ring.add(state.env_state["buffer"], rows)
        stats = follow(stats, visited.obs, self.spec.obs, self.collector.env.spec, visited.valid)
        ready = buffer.filled >= options.warmup
        trained, logged = self.update.run(state.replace(stats=stats), buffer, ready, key_update)
        metrics |= {**rollout, **logged}
        metrics["replay/buffer"] = buffer.filled.astype(jnp.float32)
        stats, params, metrics = self.adapted(
            stats, trained.params, state, seen, metrics, fixed, *key_judge or (None,)
        )
        state = state.replace(
            step=state.step + 1,
            key=rolled(key),
            params=params,
            opt_state=trained.opt_state,
            ema={"critic": trained.target},
            stats=stats,
            env_state={"loop": loop.replace(paid=paid), "buffer": buffer},
            hparams=fixed,
        )
        return state, metrics

    @property
    def player(self) -> Any:
        """Who is played; see `core.acting.HasPlayer`."""
        return self.update.player

    def acts_with(self, params: PyTree, actor: PyTree) -> PyTree:
        """See `ReplayedUpdate.acts_with`."""
        return self.update.acts_with(params, actor)

    def command_value(self, state: TrainState, key: Key, obs: Obs, z: Array) -> Array:
        """[...] Q(s, a, z, 0) at a drawn action a, of the rewards that it is trained on."""
        params, reference = state.params, state.stats["reference"]
        action = self.update.drawn(params, reference, key, obs, z)
        q = self.update.critic.apply(params[self.update.climbs], obs, action, z, jnp.zeros(z.shape))
        return reduce_heads(jnp.asarray(q), self.options.reduce)


def _kept(parent: TrainState | None, field: str, name: str, fresh: PyTree) -> PyTree:
    """What an earlier stage had under a name of a field of its state, where it is of the same kind; else fresh."""
    held: Any = getattr(parent, field) if parent is not None and "reference" in parent.stats else {}
    return held[name] if isinstance(held, dict) and name in held and alike(held[name], fresh) else fresh
