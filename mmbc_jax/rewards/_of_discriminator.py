"""What rewards that are paid for what a discriminator tells have in common: its memory, its training, phi."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Discriminator, Transitions
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.seeing import Played, remembered
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.ops import weighted
from mmbc_jax.ops.codes import against_all, alive_of
from mmbc_jax.ops.mi_reward import information
from mmbc_jax.ops.picked import picked


@dataclasses.dataclass(frozen=True)
class OfDiscriminator:
    """All of a reward but `pay`. With one mode phi is 0 and nothing is trained.

    Attributes:
      discriminator: q.
    """

    discriminator: Discriminator

    logs: ClassVar[Mapping[str, str]] = {"mode/mi": "known"}

    @property
    def num_modes(self) -> int:
        """Z."""
        return self.discriminator.num_modes

    @property
    def trains(self) -> bool:
        """Whether there is more than one mode to tell."""
        return self.num_modes > 1

    def init(self, key: Key) -> PyTree:
        """Parameters of q."""
        return self.discriminator.init(key)

    def init_memory(self, obs: Obs) -> PyTree:
        """q's memory at the first observation."""
        return self.discriminator.init_memory(obs)

    def remember(self, memory: PyTree, obs: Obs) -> PyTree:
        """q's memory after the decision that led to `obs`."""
        return self.discriminator.remember(memory, obs)

    def remember_played(self, memory: PyTree, obs: Obs, played: Played) -> PyTree:
        """q's memory after the decision `played`, which led to `obs`."""
        return remembered(self.discriminator, memory, obs, played)

    def features(self, memory: PyTree) -> PyTree:
        """What q sees of the path."""
        return self.discriminator.features(memory)

    def loss(self, params: PyTree, key: Key, features: PyTree, z: Array) -> tuple[Array, Metrics]:
        """[...] q's cross-entropy, as "mode/q_loss", too."""
        loss, metrics = self.discriminator.loss(params, key, features, z)
        return loss, {"mode/q_loss": loss, **metrics}

    def phi(self, params: PyTree, key: Key, features: PyTree, z: Array) -> Array:
        """[...] log q(z | what q sees) - log p(z) in nats; `key` is of q's input noise."""
        if not self.trains:
            return jnp.zeros(z.shape)
        log_q, alive = self.discriminator.log_prob(params, key, features), alive_of(params)
        if alive is None:
            return information(picked(log_q, z), self.num_modes)
        # of the commands there are; a decision of one that is no more says nothing
        there = picked(jnp.broadcast_to(alive, log_q.shape), z) > 0
        return jnp.where(there, information(picked(against_all(log_q, alive), z), self.num_modes), 0.0)


def logged(after: Array, transitions: Transitions) -> Metrics:
    """What is logged of phi [...] after decisions [...]; see `MIReward.pay`."""
    valid = transitions.valid
    ended = transitions.done * valid
    at_ends = (after * ended).sum() / ended.sum()  # 0 / 0 where no episode ended
    return {"mode/mi": at_ends, "mode/mi_prefix": weighted.mean(after, valid)}


def required(discriminator: Discriminator | None, reward: str) -> Discriminator:
    """The discriminator, where there is one.

    Raises:
      ConfigError: there is none.
    """
    if discriminator is None:
        raise ConfigError(
            "discriminator.name", "", f"a discriminator: the {reward} reward is what it can tell"
        )
    return discriminator
