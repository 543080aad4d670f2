"""Proximal policy optimisation on the environment's and an intrinsic reward, as one pure training step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmbc_jax.core.learning import Parts, Transitions
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.envs import wrappers
from mmbc_jax.learners._codes import with_codes
from mmbc_jax.learners._collect import LOGS, Collector, Loop, normalised
from mmbc_jax.learners._dual import weighed
from mmbc_jax.learners._optim import SKIPPED, optimizer
from mmbc_jax.learners._ppo_batch import prepare
from mmbc_jax.learners._ppo_update import Update
from mmbc_jax.learners._reinforced import Reinforced, ReinforcedOptions
from mmbc_jax.learners._require import require
from mmbc_jax.learners._start import episode_horizon, follow, kept_params, stats_from
from mmbc_jax.learners._values import taken_over, values_of, with_targets
from mmbc_jax.nn.critic import Critic
from mmbc_jax.ops.codes import alive_of
from mmbc_jax.ops.unrolled import rolled


@dataclasses.dataclass(frozen=True, kw_only=True)
class PPOOptions(ReinforcedOptions):
    """PPO (Schulman et al. 2017), with the intrinsic reward's parameters trained beside the actor's."""

    num_envs: int = option(512, "environments, B", low=1)
    decisions: int = option(16, "taken in each before an update, T", low=1)
    epochs: int = option(4, "passes over the B T decisions", low=1)
    minibatches: int = option(8, "gradient steps in a pass; divides B T", low=1)
    learning_rate: float = option(5e-4, "of the actor", low=0.0, open_low=True, traced=True)
    critic_learning_rate: float = option(5e-4, "of the value network", low=0.0, open_low=True, traced=True)
    discriminator_learning_rate: float = option(
        1e-3, "of the intrinsic reward's parameters", low=0.0, open_low=True, traced=True
    )
    clip: float = option(0.2, "of the probability ratio, about 1", low=0.0, open_low=True, traced=True)
    gamma: float = option(0.9987, "discount per control step", low=0.0, high=1.0, open_low=True)
    gae_lambda: float = option(0.95, "of the generalised advantage estimate", low=0.0, high=1.0, traced=True)
    entropy_coef: float = option(0.0, "weight of the actor's entropy", low=0.0, traced=True)
    anchored: bool = option(False, "the actor pays for its divergence from the reference, in nats")
    reference_coef: float = option(0.1, "weight of that payment", low=0.0, traced=True)
    imitates: bool = option(False, "the actor also learns to draw what the reference draws where it comes")
    imitation_coef: float = option(0.1, "weight of that loss", low=0.0, traced=True)
    target_kl: float = option(
        0.3, "KL past which the actor waits for the next iteration", low=0.0, open_low=True, traced=True
    )
    clip_norm: float = option(0.5, "of each part's gradient", low=0.0, open_low=True, traced=True)
    critic_hidden: tuple[int, ...] = option((128, 128), "widths of the value network", low=1)
    normalise_values: bool = option(
        False, "the value network speaks in units of its targets' running deviation, for rewards of any size"
    )
    critic_octaves: int = option(4, "of the observation's features in the value network", low=0, high=16)
    iterations_per_epoch: int = option(10, "training steps of one compiled program", low=1)

    def check(self) -> None:
        """Raises ConfigError where the decisions do not divide into minibatches."""
        samples = self.num_envs * self.decisions
        if samples % self.minibatches:
            raise self.error("minibatches", f"a divisor of num_envs x decisions = {samples}")


@dataclasses.dataclass(frozen=True)
class PPOLearner(Reinforced):
    """Collects T decisions in B environments, then updates on them.

    Parameters have the parts "actor", "critic" and "reward"; `stats` see `_start.stats_from`.

    Attributes:
      options: of its section.
      spec: sizes and observations.
      actor: what is trained.
      reward: the intrinsic one.
      collector: environments and actor.
      critic: the value network.
    """

    options: PPOOptions
    critic: Critic

    buffered: ClassVar[bool] = False

    @property
    def logs(self) -> Mapping[str, str]:
        """See `core.learning.Learner`."""
        return {**SKIPPED, **LOGS, **self.options.logged}

    def init(self, key: Key, hparams: Hparams, parent: TrainState | None, shared: PyTree) -> TrainState:
        """The state before the first iteration of one run, with fresh optimisers and environments.

        Args:
          key: of the stage.
          hparams: "learner.NAME" of `PPOOptions`, and "stage." iterations, start_horizon, env_coef, mi_coef and
            train_reward.
          parent: of a stage that cloned the reference; of one that learned by reinforcement, whose
            parameters are kept; or None.
          shared: unused.
        """
        key_walk = None
        if parent is None:
            key, key_walk = jax.random.split(key)
        key_params, key_state = jax.random.split(key)
        key_loop, key = jax.random.split(key_state)
        stats = stats_from(parent, key_walk, self.collector, self.spec.obs, self.spec.chunk_shape)
        params = kept_params(parent, self._fresh(key_params, stats))
        params["critic"], unit = taken_over(params["critic"], parent, self.options.normalise_values)
        stats = self.adapting({**stats, **unit}, hparams)
        step, tx = jnp.zeros((), jnp.int32), optimizer(1.0, 0.0, 1.0)
        horizon = episode_horizon(step, hparams, self.collector.length)
        return TrainState(
            step=step,
            key=key,
            params=params,
            opt_state={part: tx.init(of) for part, of in params.items()},
            ema={},
            stats=stats,
            env_state=self.collector.init(key_loop, stats["normalizer"], horizon, alive_of(params["reward"])),
            hparams=hparams,
        )

    def _fresh(self, key: Key, stats: PyTree) -> PyTree:
        key_actor, key_critic, key_q = jax.random.split(key, 3)
        example = (self.spec.obs.dummy(1), jnp.zeros((1,), jnp.int32), jnp.zeros((1,)))
        return {
            "actor": self.actor.init(key_actor, stats["reference"]),
            "critic": self.critic.init(key_critic, *example),
            "reward": with_codes(self.reward.init(key_q), self.options, self.reward),
        }

    def train_step(self, state: TrainState, shared: PyTree) -> tuple[TrainState, Metrics]:
        """One iteration of one run; `shared` is unused, the experience is made here."""
        options, stats, fixed = self.options, state.stats, state.hparams
        state = state.replace(hparams=weighed(state))
        key, key_collect, key_reward, key_update, *key_judge = self.keys(state.key)
        loop, visited = self.collected(state, state.env_state, key_collect)
        seen = normalised(visited, stats["normalizer"])
        batch, loop, metrics = self.prepare(state, loop, seen, key_reward)
        state, batch = with_targets(state, batch)
        passes, terms = (options.epochs, options.minibatches), (options.anchored, options.imitates)
        update = Update(*passes, self.actor, self.critic, self.reward, *terms)
        params, opt_state, update_metrics = update.run(state, batch, key_update)
        stats = follow(state.stats, visited.obs, self.spec.obs, self.collector.env.spec, visited.valid)
        logged = {**metrics, **update_metrics}
        stats, params, metrics = self.adapted(
            stats, params, state, seen, logged, fixed, *key_judge or (None,)
        )
        state = state.replace(
            step=state.step + 1,
            key=rolled(key),
            params=params,
            opt_state=opt_state,
            stats=stats,
            env_state=loop,
            hparams=fixed,
        )
        return state, metrics

    def prepare(
        self, state: TrainState, loop: Loop, seen: Transitions, key: Key
    ) -> tuple[PyTree, Loop, Metrics]:
        """What the update gets of a rollout; see `_ppo_batch.prepare`."""
        per_decision = self.options.gamma**self.collector.exec_len
        return prepare(self.reward, self.critic, per_decision, state, loop, seen, key)

    def command_value(self, state: TrainState, key: Key, obs: Obs, z: Array) -> Array:
        """[...] V(s, z, 0), of the rewards that it was trained on, the intrinsic one among them; nothing is drawn."""
        said = jnp.asarray(self.critic.apply(state.params["critic"], obs, z, jnp.zeros(z.shape)))
        return values_of(said, state.stats)


@register("learner", PPOOptions)
def build(options: PPOOptions, parts: Parts) -> PPOLearner:
    """A learner that trains `parts.actor` in `parts.env` on its reward and `parts.reward`."""
    env = require(parts.env, "env.name", "an environment: ppo plays episodes")
    actor = require(parts.actor, "actor.name", "an actor to train")
    reward = require(parts.reward, "reward.name", "an intrinsic reward, or none")
    if options.anchored and not hasattr(actor, "divergence"):
        raise options.error("anchored", "False for an actor that cannot say how far it is from its reference")
    if options.imitates and not hasattr(actor, "imitation"):
        raise options.error("imitates", "False for an actor that trains nothing of the reference")
    collector = Collector(
        env=wrappers.make(env, parts.exec_len, options.gamma, "full", observe=parts.observe),
        act=actor.act,
        reward=reward,
        num_modes=actor.num_modes,
        num_envs=options.num_envs,
        exec_len=parts.exec_len,
        length=env.spec.episode_length,
    )
    critic = Critic(parts.spec.obs, options.critic_hidden, actor.num_modes, options.critic_octaves)
    return PPOLearner(options, parts.spec, actor, reward, collector, critic)
