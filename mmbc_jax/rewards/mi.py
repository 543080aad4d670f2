"""The mutual-information reward: the actor is paid for what its path says about the commanded mode.

The payments and their bounds are in `ops.mi_reward`; q is a discriminator, whose parameters are the reward's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Discriminator, Transitions
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.seeing import at_ends
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.ops.mi_reward import PAYMENTS
from mmbc_jax.rewards._of_discriminator import OfDiscriminator, logged, required


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
class MIReward(OfDiscriminator):
    """See the module docstring. With one mode it pays nothing and trains nothing.

    Attributes:
      discriminator: q.
      horizon: n, decisions in a full episode.
      payment: one of `PAYMENTS`.
      forfeit: see `MIOptions`.
    """

    horizon: int
    payment: Callable[..., Array]
    forfeit: bool

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
        after = self.phi(params, key_after, transitions.final_features, transitions.z)
        before = self.phi(params, key_before, transitions.features, transitions.z)
        reward = self.payment(
            before, after, transitions.terminated, failed, transitions.remaining, self.horizon, discount
        )
        return reward, logged(after, transitions)


@register("reward", MIOptions)
def build(options: MIOptions, *, discriminator: Discriminator | None, horizon: int) -> MIReward:
    """The reward of what `discriminator` can tell, over episodes of `horizon` decisions.

    Raises:
      ConfigError: there is no discriminator, or one that speaks of whole episodes is to be paid along the way.
    """
    q = required(discriminator, "mi")
    if options.payment == "absorbing" and at_ends(q):
        raise ConfigError(
            "discriminator.input",
            "final",
            "one that speaks along the way, or reward.payment=potential, or reward.name=diayn: "
            "the absorbing payment is a mean over the horizon",
        )
    return MIReward(q, horizon, PAYMENTS[options.payment], options.forfeit)
