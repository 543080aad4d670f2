r"""The reward of DIAYN: every decision pays what the discriminator tells after it.

r_t = log q(z | what q sees after decision t) - log p(z),   p uniform over Z modes

It lies in (-inf, log Z], and q follows by cross-entropy. It measures the variational bound of I(Z; S) (Barber &
Agakov 2003), decision by decision: nothing is paid for the time after an end, a failure hands nothing back, and the
sum over an episode grows with its length, up to n log Z for n decisions. So loitering pays, and the lambda that
stands for as much as one of `mi` is that divided by n.

With `discriminator.input=state` it is DIAYN's own; with `final`, which says nothing before the end, it is paid once
an episode: Variational Intrinsic Control. Each decision is paid by itself, so off-policy learners can use it.

Sources: Eysenbach et al. 2019 (arXiv 1802.06070); Gregor et al. 2016 (arXiv 1611.07507).
"""

from __future__ import annotations

import dataclasses

from mmbc_jax.core.learning import Discriminator, Transitions
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.rewards._of_discriminator import OfDiscriminator, logged, required


@dataclasses.dataclass(frozen=True, kw_only=True)
class DIAYNOptions(Options):
    """The reward of DIAYN: nothing to choose but what the discriminator sees."""


@dataclasses.dataclass(frozen=True)
class DIAYNReward(OfDiscriminator):
    """See the module docstring. With one mode it pays nothing and trains nothing."""

    def pay(
        self, params: PyTree, key: Key, transitions: Transitions, discount: float
    ) -> tuple[Array, Metrics]:
        """([...] nats of each decision before lambda, metrics as of `MIReward.pay`); `discount` is unused."""
        after = self.phi(params, key, transitions.final_features, transitions.z)
        return after, logged(after, transitions)


@register("reward", DIAYNOptions)
def build(options: DIAYNOptions, *, discriminator: Discriminator | None, horizon: int) -> DIAYNReward:
    """The reward of what `discriminator` can tell.

    Raises:
      ConfigError: there is no discriminator.
    """
    return DIAYNReward(required(discriminator, "diayn"))
