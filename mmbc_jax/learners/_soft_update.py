"""Soft actor-critic: the actor is paid for its entropy, at a temperature that is tuned."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from mmbc_jax.core.acting import rates_of
from mmbc_jax.core.learning import Parts, Transitions
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.state import Hparams
from mmbc_jax.core.types import Array, Key, Metrics, PolicySpec, PyTree
from mmbc_jax.learners._replay import ReplayOptions
from mmbc_jax.learners._replay_parts import actor_of
from mmbc_jax.learners._replayed_update import ReplayedUpdate, Step, Trained
from mmbc_jax.ops import soft_policy as sac
from mmbc_jax.ops import weighted
from mmbc_jax.ops.capped import capped


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftOptions(ReplayOptions):
    """Options of soft actor-critics."""

    temperature: float = option(0.01, "weight of the entropy at first", low=0.0, open_low=True, traced=True)
    temperature_learning_rate: float = option(
        1e-3, "of the temperature's logarithm; 0 leaves it as it is", low=0.0, traced=True
    )
    target_entropy: float = option(
        0.0,
        "entropy that the temperature keeps, in nats per number of an action in units of its box, at most log 2 = "
        "0.69 there: DSRL has 0, SAC's rule of thumb is -1; without a box N(0, 1) has 1.42",
        traced=True,
    )


def soft_actor_of(options: SoftOptions, parts: Parts, needs: tuple[str, ...], allowed: str) -> Any:
    """The actor that is trained, whose entropy can be what the options ask for; see `actor_of`.

    Raises:
      ConfigError: there is none, it lacks one of the methods `needs`, or its box has no room for the entropy.
    """
    actor = actor_of(parts, needs, allowed)
    if actor.box and options.temperature_learning_rate and options.target_entropy >= math.log(2.0):
        raise options.error(
            "target_entropy", "less than log 2 = 0.69, which no number inside its box exceeds"
        )
    return actor


@dataclasses.dataclass(frozen=True)
class SoftUpdate(ReplayedUpdate):
    """Gradient steps of soft actor-critic; "temperature" among the parameters is log alpha [].

    log pi is the density of the action in units of its box: no constant of the box's size is paid, and what a target
    entropy asks for does not depend on it.
    """

    def init(self, key: Key, spec: PolicySpec, hparams: Hparams) -> dict[str, PyTree]:
        """Fresh parameters of "critic" and "temperature"."""
        return {**super().init(key, spec, hparams), "temperature": jnp.log(hparams["learner.temperature"])}

    def played(self, batch: Transitions) -> Array:
        """[B, W] the action."""
        return batch.info["action"]

    def drawn(self, params: PyTree, reference: Any, key: Key, obs: Obs, z: Array) -> Array:
        """[..., W] an action."""
        return self.sampled(params["actor"], reference, key, obs, z)[0]

    def sampled(self, actor: PyTree, reference: Any, key: Key, obs: Obs, z: Array) -> tuple[Array, Array]:
        """(action [..., W], log density [...] of the action in units of its box)."""
        action, log_prob = self.actor.sample(actor, reference, key, obs, z)
        return action, log_prob + sac.box_log_scale(self.actor.box, self.actor.action_size)

    def ahead(
        self, trained: Trained, batch: Transitions, reference: Any, hp: Hparams, key: Key
    ) -> tuple[Array, Array]:
        """(target values [N, B] of a drawn action, alpha log pi [B])."""
        params = trained.params
        action, log_prob = self.sampled(params["actor"], reference, key, batch.obs, batch.z)
        return self.q(trained.target, batch, action), self.alpha(params) * log_prob

    def alpha(self, params: PyTree) -> Array:
        """[] the temperature."""
        return jnp.exp(capped(params["temperature"]))

    def valued(self, step: Step, batch: Transitions, action: Array) -> Array:
        """[N, B] values that the actor climbs."""
        return self.q(step.params[self.climbs], batch, action)

    def improve(self, step: Step, batch: Transitions, reference: Any, hp: Hparams, key: Key) -> Metrics:
        """One step of the actor and of the temperature."""
        alpha, valid = self.alpha(step.params), batch.valid

        def actor_loss(actor: PyTree) -> tuple[Array, tuple[Metrics, Array]]:
            action, log_prob = self.sampled(actor, reference, key, batch.obs, batch.z)
            q = self.valued(step, batch, action)
            loss = weighted.mean(sac.actor_loss(log_prob, q, alpha, self.reduce), valid)
            entropy = -weighted.mean(log_prob, valid)
            return loss, ({"sac/actor_loss": loss, "sac/entropy": entropy}, log_prob)

        rates = rates_of(self.actor, step.params["actor"], hp)
        metrics, log_prob = step.descend("actor", actor_loss, rates=rates)
        wanted = hp["learner.target_entropy"] * self.actor.action_size

        def temperature_loss(log_alpha: Array) -> tuple[Array, Metrics]:
            loss = weighted.mean(sac.temperature_loss(log_alpha, log_prob, wanted), valid)
            return loss, {"sac/temperature": alpha}

        return metrics | step.descend("temperature", temperature_loss)
