"""Soft actor-critic on replayed decisions, as one pure training step.

The action is what the actor calls so: the initial noise of a reference policy (`steer`; this is then diffusion
steering by reinforcement, DSRL, Wagenmaker et al. 2025, with its critic on the noise), or the chunk (`gaussian`).
Both rewards are put together when a decision is replayed: the environment's as it was, the intrinsic one by what q
says now. So a buffer outlives a change of their weights, and a stage takes it over from the stage it starts from.

Source: Haarnoja et al. 2018 (arXiv 1812.05905).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmbc_jax.core.acting import exploring
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.keys import seeded
from mmbc_jax.core.learning import Parts, ReparameterisedActor, Reward, Subject, Transitions
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, Key, Metrics, PolicySpec, PyTree, Variables
from mmbc_jax.envs import wrappers
from mmbc_jax.learners._collect import LOGS, Act, Collector, Loop, normalised, rollout_metrics
from mmbc_jax.learners._optim import SKIPPED, optimizer
from mmbc_jax.learners._require import require
from mmbc_jax.learners._sac_update import SoftUpdate
from mmbc_jax.learners._start import alike, episode_horizon, follow, kept_params, stats_from, tuned_subject
from mmbc_jax.nn.critic import ActionCritic
from mmbc_jax.ops import ring
from mmbc_jax.ops.leading_axes import merge_leading
from mmbc_jax.ops.soft_policy import REDUCTIONS, reduce_heads
from mmbc_jax.ops.unrolled import rolled, unrolled


@dataclasses.dataclass(frozen=True, kw_only=True)
class SACOptions(Options):
    """Soft actor-critic, with the intrinsic reward's parameters trained beside the actor's.

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
    temperature: float = option(0.01, "weight of the entropy at first", low=0.0, open_low=True, traced=True)
    temperature_learning_rate: float = option(
        1e-3, "of the temperature's logarithm; 0 leaves it as it is", low=0.0, traced=True
    )
    target_entropy: float = option(
        0.0,
        "entropy that the temperature keeps, in nats per number of an action; N(0, 1) has 1.42",
        traced=True,
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
class SACLearner:
    """Collects T decisions in B environments, adds them to the buffer, and learns from what the buffer holds.

    Parameters have the parts "actor", "critic", "reward" and "temperature" (its logarithm); `ema` holds the target
    critic under "critic"; `env_state` the environments under "loop" and the buffer under "buffer", in physical
    units; `stats` see `_start.stats_from`.

    Attributes:
      options: of its section.
      spec: sizes and observations.
      actor: what is trained.
      reward: the intrinsic one.
      collector: environments and actor.
      critic: the action values.
    """

    options: SACOptions
    spec: PolicySpec
    actor: ReparameterisedActor
    reward: Reward
    collector: Collector
    critic: ActionCritic

    logs: ClassVar[Mapping[str, str]] = {**SKIPPED, **LOGS, "sac/buffer": "last"}
    buffered: ClassVar[bool] = True

    @property
    def env_steps(self) -> int:
        """Control steps of one iteration."""
        return self.num_envs * self.options.decisions * self.collector.exec_len

    @property
    def num_envs(self) -> int:
        """B."""
        return self.options.num_envs

    @property
    def update(self) -> SoftUpdate:
        """The gradient steps of one iteration."""
        o = self.options
        per_decision = o.gamma**self.collector.exec_len
        return SoftUpdate(
            o.updates, o.batch_size, o.reduce, per_decision, self.actor, self.critic, self.reward
        )

    def init(self, key: Key, hparams: Hparams, parent: TrainState | None, shared: PyTree) -> TrainState:
        """The state before the first iteration of one run, with fresh optimisers and environments.

        Args:
          key: of the stage.
          hparams: "learner.NAME" of `SACOptions`, and "stage." iterations, start_horizon, env_coef, mi_coef and
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
        step, tx = jnp.zeros((), jnp.int32), optimizer(1.0, 0.0, 1.0)
        horizon = episode_horizon(step, hparams, self.collector.length)
        loop = self.collector.init(key_loop, stats["normalizer"], horizon)
        target, buffer = jax.tree.map(jnp.copy, params["critic"]), self._empty(loop, params["actor"], stats)
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
        obs, action = self.spec.obs.dummy(1), jnp.zeros((1, self.actor.action_size))
        return {
            "actor": self.actor.init(key_actor, stats["reference"]),
            "critic": self.critic.init(key_critic, obs, action, jnp.zeros((1,), jnp.int32), jnp.zeros((1,))),
            "reward": self.reward.init(key_q),
            "temperature": jnp.log(hparams["learner.temperature"]),
        }

    def _empty(self, loop: Loop, actor: PyTree, stats: PyTree) -> ring.Ring:
        """A buffer for transitions as the collector returns them."""

        def collected(loop: Loop, actor: PyTree, stats: PyTree) -> Transitions:
            scale, horizon = stats["normalizer"], jnp.zeros((), jnp.int32)
            key = seeded(0)
            return self.collector.collect(loop, actor, stats["reference"], scale, key, 1, horizon)[1]

        rows = jax.eval_shape(collected, loop, actor, stats)
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), rows)
        return ring.init(one, self.options.capacity)

    def train_step(self, state: TrainState, shared: PyTree) -> tuple[TrainState, Metrics]:
        """One iteration of one run; `shared` is unused, the experience is made here."""
        options, stats = self.options, state.stats
        key, key_collect, key_reward, key_update = jax.random.split(unrolled(state.key), 4)
        loop, visited = self.collector.collect(
            state.env_state["loop"],
            exploring(self.actor, state.params["actor"], state.step * options.decisions),
            stats["reference"],
            stats["normalizer"],
            key_collect,
            options.decisions,
            episode_horizon(state.step, state.hparams, self.collector.length),
        )
        seen = normalised(visited, stats["normalizer"])
        intrinsic, metrics = self.reward.pay(state.params["reward"], key_reward, seen, self.update.discount)
        rollout, paid = rollout_metrics(seen, intrinsic * seen.valid, loop.paid)
        rows = merge_leading(visited)
        buffer = ring.add(state.env_state["buffer"], rows)
        stats = follow(stats, visited.obs, self.spec.obs, self.collector.env.spec, visited.valid)
        ready = buffer.filled >= options.warmup
        trained, logged = self.update.run(state.replace(stats=stats), buffer, ready, key_update)
        metrics |= {**rollout, **logged}
        metrics["sac/buffer"] = buffer.filled.astype(jnp.float32)
        state = state.replace(
            step=state.step + 1,
            key=rolled(key),
            params=trained.params,
            opt_state=trained.opt_state,
            ema={"critic": trained.target},
            stats=stats,
            env_state={"loop": loop.replace(paid=paid), "buffer": buffer},
        )
        return state, metrics

    def command_value(self, state: TrainState, key: Key, obs: Obs, z: Array) -> Array:
        """[...] Q(s, w, z, 0) at a drawn action w, of the rewards that it is trained on."""
        reference, params = state.stats["reference"], state.params
        action, _ = self.actor.sample(params["actor"], reference, key, obs, z)
        q = self.critic.apply(params["critic"], obs, action, z, jnp.zeros(z.shape))
        return reduce_heads(jnp.asarray(q), self.options.reduce)

    def subject(self, state: TrainState, key: Key) -> Subject:
        """The actor on its reference, with the intrinsic reward's parameters."""
        return tuned_subject(state, key)


def _kept(parent: TrainState | None, field: str, name: str, fresh: PyTree) -> PyTree:
    """What an earlier stage had under a name of a field of its state, where it is of the same kind; else fresh."""
    held: Any = getattr(parent, field) if parent is not None and "reference" in parent.stats else {}
    return held[name] if isinstance(held, dict) and name in held and alike(held[name], fresh) else fresh


def _acting(actor: ReparameterisedActor) -> Act:
    """An actor that remembers its action and nothing else."""

    def act(
        params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, PyTree]:
        key_action, key_path = jax.random.split(key)
        action, _ = actor.sample(params, reference, key_action, obs, z)
        return actor.chunk(reference, key_path, obs, action), {"action": action}

    return act


@register("learner", SACOptions)
def build(options: SACOptions, parts: Parts) -> SACLearner:
    """A learner that trains `parts.actor` in `parts.env` on its reward and `parts.reward`.

    Raises:
      ConfigError: a part is missing, or the actor's action is no differentiable function of its parameters.
    """
    env = require(parts.env, "env.name", "an environment: sac plays episodes")
    actor: Any = require(parts.actor, "actor.name", "an actor to train")
    reward = require(parts.reward, "reward.name", "an intrinsic reward, or none")
    if not all(hasattr(actor, name) for name in ("sample", "chunk", "action_size")):
        name = getattr(getattr(actor, "options", None), "name", "")
        raise ConfigError(
            "actor.name", name, "an actor that sac can differentiate, such as steer or gaussian"
        )
    collector = Collector(
        env=wrappers.make(env, parts.exec_len, options.gamma, "full", observe=parts.observe),
        act=_acting(actor),
        reward=reward,
        num_modes=actor.num_modes,
        num_envs=options.num_envs,
        exec_len=parts.exec_len,
        length=env.spec.episode_length,
    )
    critic = ActionCritic(
        parts.spec.obs,
        options.critic_hidden,
        actor.num_modes,
        options.heads,
        options.critic_octaves,
        options.critic_layer_norm,
    )
    return SACLearner(options, parts.spec, actor, reward, collector, critic)
