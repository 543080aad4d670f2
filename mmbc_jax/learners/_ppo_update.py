"""PPO's update on one batch of experience: actor, critic and intrinsic reward side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmbc_jax.core.acting import rates_of, surrogate_of
from mmbc_jax.core.learning import Actor, Reward
from mmbc_jax.core.sharding import spread
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.learners._collect import means
from mmbc_jax.learners._flat import Flat
from mmbc_jax.learners._optim import learning, optimizer, skip_metrics_of
from mmbc_jax.nn.critic import Critic
from mmbc_jax.ops import weighted
from mmbc_jax.ops.policy_gradient import clipped_surrogate

RATES = {
    "actor": "learner.learning_rate",
    "critic": "learner.critic_learning_rate",
    "reward": "learner.discriminator_learning_rate",
}
"""The parts of the parameters, with their learning rates."""


@dataclasses.dataclass(frozen=True)
class Update:
    """Epochs x minibatches of gradient steps.

    Attributes:
      epochs: passes over the batch.
      minibatches: gradient steps in each.
      actor: trained with the clipped surrogate.
      critic: regressed on the value targets.
      reward: trained with its own loss, where it has anything to train.
      anchored: the actor pays for its divergence from the reference.
      imitates: the actor pays for what it would not draw of the reference's draws.
    """

    epochs: int
    minibatches: int
    actor: Actor
    critic: Critic
    reward: Reward
    anchored: bool = False
    imitates: bool = False

    @property
    def trained(self) -> tuple[str, ...]:
        """The parts that have anything to train."""
        return tuple(part for part in RATES if part != "reward" or self.reward.trains)

    def run(self, state: TrainState, batch: PyTree, key: Key) -> tuple[PyTree, PyTree, Metrics]:
        """Updates on a batch.

        Args:
          state: of one run.
          batch: leading axis num_envs x decisions: obs, z, time, info, features, advantage, target, valid.
          key: for the order of the samples and the noise of the reward's loss.

        Returns:
          (params, opt_state, metrics averaged over the minibatches).
        """
        samples = batch["z"].shape[0]
        size = samples // self.minibatches

        def epoch(carry: PyTree, key: Key) -> tuple[PyTree, Metrics]:
            key_order, key_batches = jax.random.split(key)
            order = jax.random.permutation(key_order, samples)
            # gathered once and not minibatch by minibatch, which is an operation per field and minibatch more
            parts = jax.tree.map(lambda x: x[order].reshape(self.minibatches, size, *x.shape[1:]), batch)
            keys = jax.random.split(key_batches, self.minibatches)
            return jax.lax.scan(minibatch, carry, (parts, keys))

        def minibatch(carry: PyTree, xs: tuple[PyTree, Key]) -> tuple[PyTree, Metrics]:
            part, key = xs
            return self._minibatch(carry, spread(part), state, key, flats, factor)

        flats = {part: Flat.like(state.params[part]) for part in self.trained}
        rates = rates_of(self.actor, state.params["actor"], state.hparams)
        factor = None if rates is None else flats["actor"].pack(rates)
        start = [
            {part: flats[part].pack(of[part]) for part in flats} for of in (state.params, state.opt_state)
        ]
        carry: PyTree = (*start, jnp.zeros((), bool))
        (*end, stopped), metrics = jax.lax.scan(epoch, carry, jax.random.split(key, self.epochs))
        trained = [{part: flats[part].unpack(of[part]) for part in flats} for of in end]
        params, opt_state = {**state.params, **trained[0]}, {**state.opt_state, **trained[1]}
        metrics = jax.tree.map(jnp.mean, metrics)
        metrics |= {"ppo/kl_stopped": stopped.astype(jnp.float32), **skip_metrics_of(opt_state)}
        return params, opt_state, metrics

    def _minibatch(
        self,
        carry: PyTree,
        batch: PyTree,
        state: TrainState,
        key: Key,
        flats: Mapping[str, Flat],
        factor: Array | None,
    ) -> tuple[PyTree, Metrics]:
        """One gradient step each of actor, critic and reward, whose parameters and moments are vectors.

        `factor` is that of the actor's updates, None for 1.

        Past the target KL the actor is left as it is for the rest of the iteration; a mask and not a
        branch, since under vmap every run must do the same work.
        """
        vectors, opt_state, stopped = carry
        params = {part: flats[part].restore(vector) for part, vector in vectors.items()}
        hp, valid = state.hparams, batch["valid"]
        key, key_actor = jax.random.split(key) if self.imitates else (key, key)  # without one it needs none

        def critic_loss(critic: PyTree) -> tuple[Array, Metrics]:
            value = jnp.asarray(self.critic.apply(critic, batch["obs"], batch["z"], batch["time"]))
            loss = weighted.mean(jnp.square(value - batch["target"]), valid)
            return loss, {"ppo/value_loss": loss}

        def reward_loss(reward: PyTree) -> tuple[Array, Metrics]:
            loss, metrics = self.reward.loss(reward, key, batch["features"], batch["z"])
            return weighted.mean(loss, valid), means(metrics, valid)

        losses: dict[str, Callable[[PyTree], tuple[Array, Metrics]]] = {
            "actor": lambda actor: self._actor_loss(actor, batch, state, key_actor),
            "critic": critic_loss,
            "reward": reward_loss,
        }
        alive = learning(opt_state, hp)
        trains = {
            "actor": alive & ~stopped,
            "critic": alive,
            "reward": alive & (hp["stage.train_reward"] > 0),
        }
        new_vectors: dict[str, Array] = {}
        new_opt_state: dict[str, PyTree] = {}
        metrics: Metrics = {}
        for part, vector in vectors.items():
            grads, logged = jax.grad(losses[part], has_aux=True)(params[part])
            tx = optimizer(hp[RATES[part]], 0.0, hp["learner.clip_norm"])
            slope = flats[part].pack(grads)
            updates, new_opt_state[part] = tx.update(slope, opt_state[part], vector, trains=trains[part])
            updates = updates * factor if part == "actor" and factor is not None else updates
            new_vectors[part] = optax.apply_updates(vector, updates)
            metrics |= logged
        stopped = stopped | (metrics["ppo/approx_kl"] > hp["learner.target_kl"])
        return (new_vectors, new_opt_state, stopped), metrics

    def _actor_loss(self, actor: PyTree, batch: PyTree, state: TrainState, key: Key) -> tuple[Array, Metrics]:
        """(clipped surrogate, less the entropy, with what an anchor and imitation cost; metrics)."""
        reference, hp, valid = state.stats["reference"], state.hparams, batch["valid"]
        seen = (actor, reference, batch["obs"], batch["z"])
        how = surrogate_of(self.actor)
        loss, clipped, kl = clipped_surrogate(
            self.actor.log_ratio(*seen, batch["info"]),
            batch["advantage"],
            hp["learner.clip"],
            valid,
            how.weight,
            how.clip,
            how.asymmetric,
            how.share,
        )
        entropy = weighted.mean(self.actor.entropy(*seen), valid)
        metrics = {"ppo/clip_fraction": clipped, "ppo/approx_kl": kl, "ppo/entropy": entropy}
        total = weighted.mean(loss, valid) - hp["learner.entropy_coef"] * entropy
        if self.anchored:
            inside: Any = self.actor
            apart = weighted.mean(inside.divergence(*seen, batch["info"]), valid)
            metrics["ppo/reference_kl"] = apart
            total = total + hp["learner.reference_coef"] * apart
        if self.imitates:
            teacher: Any = self.actor
            missed = weighted.mean(teacher.imitation(actor, reference, key, batch["obs"], batch["z"]), valid)
            metrics["ppo/imitation"] = missed
            total = total + hp["learner.imitation_coef"] * missed
        return total, metrics
