"""The mutual-information reward: the actor is paid for what its path says about the commanded mode.

The payments and their bounds are in `ops.mi_reward`; q is a discriminator, whose parameters are the reward's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Discriminator, Transitions
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.ops import weighted
from mmbc_jax.ops.mi_reward import PAYMENTS, information
from mmbc_jax.ops.picked import picked


@dataclasses.dataclass(frozen=True, kw_only=True)
class MIOptions(Options):
    """The mutual-information reward."""

    payment: str = option(
        "absorbing",
        "absorbing: the mean of log q - log p over the horizon, an ended episode staying where it is; "
        "potential: its value at the end, as a sum of differences",
        choices=tuple(PAYMENTS),
    )
    forfeit: bool = option(
        True, "an episode that terminates without success loses what is to come, or was paid"
    )


@dataclasses.dataclass(frozen=True)
class MIReward:
    """See the module docstring. With one mode it pays nothing and trains nothing.

    Attributes:
      discriminator: q.
      horizon: n, decisions in a full episode.
      payment: one of `PAYMENTS`.
      forfeit: see `MIOptions`.
    """

    discriminator: Discriminator
    horizon: int
    payment: Callable[..., Array]
    forfeit: bool

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

    def features(self, memory: PyTree) -> PyTree:
        """What q sees of the path."""
        return self.discriminator.features(memory)

    def pay(
        self, params: PyTree, key: Key, transitions: Transitions, discount: float
    ) -> tuple[Array, Metrics]:
        """The reward of decisions under the present q.

        Args:
          params: of q.
          key: of q's input noise.
          transitions: [...], in any number of axes.
          discount: of a decision.

        Returns:
          ([...] in nats before lambda, metrics in nats: "mode/mi" [] the mean of phi over the episodes that ended
          with one of these decisions, given their whole paths, NaN where none did; "mode/mi_prefix" [] the mean of
          phi over all decisions, given the path so far). Decisions that are not valid count in neither.
        """
        key_before, key_after = jax.random.split(key)
        failed = transitions.terminated * (1.0 - transitions.success) * float(self.forfeit)
        after = self._phi(params, key_after, transitions.final_features, transitions.z)
        before = self._phi(params, key_before, transitions.features, transitions.z)
        reward = self.payment(
            before, after, transitions.terminated, failed, transitions.remaining, self.horizon, discount
        )
        valid = transitions.valid
        ended = transitions.done * valid
        at_ends = (after * ended).sum() / ended.sum()  # 0 / 0 where no episode ended
        return reward, {"mode/mi": at_ends, "mode/mi_prefix": weighted.mean(after, valid)}

    def loss(self, params: PyTree, key: Key, features: PyTree, z: Array) -> tuple[Array, Metrics]:
        """[...] q's cross-entropy, as "mode/q_loss", too."""
        loss, metrics = self.discriminator.loss(params, key, features, z)
        return loss, {"mode/q_loss": loss, **metrics}

    def _phi(self, params: PyTree, key: Key, features: PyTree, z: Array) -> Array:
        if not self.trains:
            return jnp.zeros(z.shape)
        log_q = self.discriminator.log_prob(params, key, features)
        return information(picked(log_q, z), self.num_modes)


@register("reward", MIOptions)
def build(options: MIOptions, *, discriminator: Discriminator | None, horizon: int) -> MIReward:
    """The reward of what `discriminator` can tell, over episodes of `horizon` decisions.

    Raises:
      ConfigError: there is no discriminator.
    """
    if discriminator is None:
        raise ConfigError("discriminator.name", "", "a discriminator: the mi reward is what it can tell")
    return MIReward(discriminator, horizon, PAYMENTS[options.payment], options.forfeit)
