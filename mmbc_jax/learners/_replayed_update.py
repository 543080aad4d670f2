"""Gradient steps on batches of replayed decisions: critic, actor and intrinsic reward.

What is left to a method is what its critic sees of a decision, what comes next, and how the actor follows the critic.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mmbc_jax.core.learning import Reward, Transitions
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.sharding import spread
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, Key, Metrics, PolicySpec, PyTree
from mmbc_jax.learners._collect import means, normalised
from mmbc_jax.learners._optim import learning, optimizer, skip_metrics_of
from mmbc_jax.nn.critic import ActionCritic
from mmbc_jax.ops import ring, weighted
from mmbc_jax.ops import soft_policy as sac

RATES = {
    "actor": "learner.learning_rate",
    "critic": "learner.critic_learning_rate",
    "noise_critic": "learner.critic_learning_rate",
    "reward": "learner.discriminator_learning_rate",
    "temperature": "learner.temperature_learning_rate",
}
"""The parts that parameters may have, with their learning rates."""


class Trained(NamedTuple):
    """What gradient steps change.

    Attributes:
      params: by part; "temperature" is log alpha [].
      opt_state: by part.
      target: parameters of the target critic.
    """

    params: PyTree
    opt_state: PyTree
    target: PyTree


@dataclasses.dataclass(frozen=True)
class ReplayedUpdate(abc.ABC):
    """Gradient steps of a method with a critic of actions.

    Attributes:
      updates: gradient steps, each on a batch of its own.
      batch_size: decisions in a batch.
      reduce: how the heads of the critic become one value.
      discount: of a decision, for the intrinsic reward.
      actor: trained on the critic.
      critic: trained on the environment's and the intrinsic reward.
      reward: the intrinsic one, paid anew by its present parameters; trained where it has anything to train.
    """

    updates: int
    batch_size: int
    reduce: str
    discount: float
    actor: Any
    critic: ActionCritic
    reward: Reward

    climbs: ClassVar[str] = "critic"  # the part that values the actor's own actions

    def init(self, key: Key, spec: PolicySpec, hparams: Hparams) -> dict[str, PyTree]:
        """Fresh parameters of the parts that are the update's own: "critic", and what a method adds."""
        return {"critic": self.fresh_critic(key, spec, self.actor.action_size)}

    def fresh_critic(self, key: Key, spec: PolicySpec, size: int) -> PyTree:
        """Parameters of a critic of actions with `size` numbers."""
        none = jnp.zeros((1,), jnp.int32)
        return self.critic.init(key, spec.obs.dummy(1), jnp.zeros((1, size)), none, jnp.zeros((1,)))

    @property
    def player(self) -> Any:
        """Who is played: the actor, where the method adds nothing to it."""
        return self.actor

    def acts_with(self, params: PyTree, actor: PyTree) -> PyTree:
        """What `player` and the collector act with, of the parameters of all parts and those of the actor."""
        return actor

    def ends(self, batch: Transitions) -> Array:
        """[B] 1 where nothing comes after a decision, for this critic."""
        return batch.final

    @abc.abstractmethod
    def played(self, batch: Transitions) -> Array:
        """[B, W] what the critic sees of a decision."""

    @abc.abstractmethod
    def drawn(self, params: PyTree, reference: Any, key: Key, obs: Obs, z: Array) -> Array:
        """[..., W] an action, as the critic `climbs` sees it, of the parameters of all parts."""

    @abc.abstractmethod
    def ahead(
        self, trained: Trained, batch: Transitions, reference: Any, hp: Hparams, key: Key
    ) -> tuple[Array, Array]:
        """(values [N, B] of what the actor would do next, cost [B] of its chance there)."""

    @abc.abstractmethod
    def improve(self, step: Step, batch: Transitions, reference: Any, hp: Hparams, key: Key) -> Metrics:
        """One step of the actor, and of what else a method trains, after that of the critic."""

    def run(self, state: TrainState, buffer: ring.Ring, ready: Array, key: Key) -> tuple[Trained, Metrics]:
        """All gradient steps of an iteration.

        Args:
          state: of one run, with the normaliser of now.
          buffer: rows of transitions with observations in physical units.
          ready: [] bool; False leaves everything as it is.
          key: for batches, actions and noise.

        Returns:
          (what was trained, metrics averaged over the steps).
        """
        end, metrics = self.repeat(self.step, self.updates, state, buffer, ready, key)
        return end, {**metrics, **skip_metrics_of(end.opt_state)}

    def repeat(
        self,
        one: Callable[..., tuple[Trained, Metrics]],
        times: int,
        state: TrainState,
        buffer: ring.Ring,
        ready: Array,
        key: Key,
    ) -> tuple[Trained, Metrics]:
        """`one`, with the arguments of `step`, so many times, each on a batch of its own."""

        def step(before: Trained, key: Key) -> tuple[Trained, Metrics]:
            key_rows, key_step = jax.random.split(key)
            rows = spread(ring.sample(buffer, key_rows, self.batch_size))
            batch = normalised(rows, state.stats["normalizer"])
            after, metrics = one(before, batch, state.stats["reference"], state.hparams, key_step)
            # a mask and not a branch: under vmap every run does the same work
            return jax.tree.map(lambda new, old: jnp.where(ready, new, old), after, before), metrics

        start = Trained(state.params, state.opt_state, state.ema["critic"])
        end, metrics = jax.lax.scan(step, start, jax.random.split(key, times))
        return end, jax.tree.map(jnp.mean, metrics)

    def step(
        self, trained: Trained, batch: Transitions, reference: Any, hp: Hparams, key: Key
    ) -> tuple[Trained, Metrics]:
        """One gradient step of every part, the critic first, on a batch [B] with normalised observations."""
        key_pay, key_next, key_actor, key_reward = jax.random.split(key, 4)
        step = Step(dict(trained.params), dict(trained.opt_state), hp)
        valid = batch.valid
        target = self._target(trained, batch, reference, hp, key_pay, key_next)

        def critic_loss(critic: PyTree) -> tuple[Array, Metrics]:
            q = self.q(critic, batch, self.played(batch))
            loss = weighted.mean(sac.critic_loss(q, target), valid)
            return loss, {"sac/critic_loss": loss, "sac/q": weighted.mean(q.mean(0), valid)}

        metrics: Metrics = step.descend("critic", critic_loss)
        metrics |= self.improve(step, batch, reference, hp, key_actor)

        def reward_loss(reward: PyTree) -> tuple[Array, Metrics]:
            loss, metrics = self.reward.loss(reward, key_reward, batch.final_features, batch.z)
            return weighted.mean(loss, valid), means(metrics, valid)

        if self.reward.trains:
            metrics |= step.descend("reward", reward_loss, hp["stage.train_reward"] > 0)
        followed = sac.polyak(trained.target, step.params["critic"], hp["learner.tau"])
        return Trained(step.params, step.opt_state, followed), metrics

    def _target(
        self,
        trained: Trained,
        batch: Transitions,
        reference: Any,
        hp: Hparams,
        key_pay: Key,
        key_next: Key,
    ) -> Array:
        """[B] what the critic is regressed on."""
        intrinsic, _ = self.reward.pay(trained.params["reward"], key_pay, batch, self.discount)
        reward = hp["stage.env_coef"] * batch.reward + hp["stage.mi_coef"] * intrinsic
        later = batch.replace(obs=batch.final_obs, time=batch.final_time)
        next_q, cost = self.ahead(trained, later, reference, hp, key_next)
        return sac.soft_target(reward, batch.discount, self.ends(batch), next_q, cost, 1.0, self.reduce)

    def q(self, params: PyTree, batch: Transitions, action: Array) -> Array:
        """[N, B] values of actions [B, W] at the decisions of a batch."""
        return jnp.asarray(self.critic.apply(params, batch.obs, action, batch.z, batch.time))


@dataclasses.dataclass
class Step:
    """Parameters and optimisers by part, while one gradient step goes through the parts."""

    params: dict[str, PyTree]
    opt_state: dict[str, PyTree]
    hp: Hparams

    def descend(
        self, part: str, loss: Callable[[PyTree], Any], trains: Array | bool = True, rates: PyTree = None
    ) -> Any:
        """One step of a part on `loss` (params) -> (scalar, aux); returns aux.

        `trains` [] bool can hold it back; `rates` are factors of its updates, None for 1.
        """
        grads, aux = jax.grad(loss, has_aux=True)(self.params[part])
        tx = optimizer(self.hp[RATES[part]], 0.0, self.hp["learner.clip_norm"])
        trains = learning(self.opt_state, self.hp) & trains
        updates, self.opt_state[part] = tx.update(
            grads, self.opt_state[part], self.params[part], trains=trains
        )
        updates = updates if rates is None else jax.tree.map(jnp.multiply, updates, rates)
        self.params[part] = optax.apply_updates(self.params[part], updates)
        return aux
