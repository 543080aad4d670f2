r"""The mutual-information reward of Behavioral Mode Discovery, paid without a gain from loitering.

Source: arXiv 2605.11387; the payments and `forfeit` are ours.

phi_t = log q(z | path up to decision t) - log p(z); its expectation is a lower bound of I(Z; path) (Barber
& Agakov 2003), at most log Z. With n decisions in the horizon an episode earns, before lambda and discounting,

- `absorbing`: the mean of phi over the horizon. Every decision pays phi/n; a terminated episode stays in
  its last state, so its last decision pays for all that remain (`remaining_decisions`).
- `potential`: phi at the end, as the sum of differences phi_{t+1} - phi_t (a potential-based shaping,
  Ng et al. 1999).

Either way an episode's total lies below log Z whatever its length, so that lambda is read against a task
reward of order 1. With `forfeit`, an episode that terminates without success ends at phi = 0: it is paid
nothing for the rest (`absorbing`), or hands back what it was paid (`potential`). Otherwise failing in a
recognisable way would pay.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Float, Int

from mmbc_jax.core.types import Array


def information(log_q: Float[Array, "*batch"], num_modes: int) -> Float[Array, "*batch"]:
    """phi = log q(z|path) - log p(z) for uniform p(z), in nats.

    Args:
      log_q: [...] log q of the commanded z.
      num_modes: Z.

    Returns:
      [...], at most log Z.
    """
    return log_q + jnp.log(float(num_modes))


def remaining_decisions(steps: Int[Array, "*batch"], length: int, exec_len: int) -> Int[Array, "*batch"]:
    """Decisions left of the n = ceil(length / h) of a full episode, once `steps` control steps were taken.

    They took ceil(steps / h) decisions, the last of them perhaps cut short, so ceil(length / h) - ceil(steps / h)
    are left. ceil((length - steps) / h) would count the cut one a second time.

    Args:
      steps: [...] control steps, in [0, length].
      length: control steps in a full episode.
      exec_len: h, control steps of a decision.

    Returns:
      [...] int32, >= 0.
    """
    taken = -(-steps // exec_len)
    return (-(-length // exec_len) - taken).astype(jnp.int32)


def absorbing_weight(
    terminated: Float[Array, "*batch"],
    remaining: Int[Array, "*batch"],
    discount: Float[Array, ""] | float,
) -> Float[Array, "*batch"]:
    """How many discounted decisions the reward of one decision stands for.

    Args:
      terminated: [...] 1 where the task ended.
      remaining: [...] decisions left until the horizon, >= 0.
      discount: g in (0, 1], per decision.

    Returns:
      [...] 1 where not terminated; where terminated 1 + g + ... + g^remaining.
    """
    discount = jnp.asarray(discount, jnp.float32)
    count = remaining.astype(jnp.float32) + 1.0
    undiscounted = discount >= 1.0
    geometric = (1.0 - discount**count) / jnp.where(undiscounted, 1.0, 1.0 - discount)
    return jnp.where(terminated > 0, jnp.where(undiscounted, count, geometric), 1.0)


def absorbing(
    before: Float[Array, "*batch"],
    after: Float[Array, "*batch"],
    terminated: Float[Array, "*batch"],
    failed: Float[Array, "*batch"],
    remaining: Int[Array, "*batch"],
    horizon: int,
    discount: float,
) -> Float[Array, "*batch"]:
    """phi after the decision over n, for every decision that it stands for.

    Args:
      before: unused; every payment has the same arguments.
      after: [...] phi of the path including the decision.
      terminated: [...] 1 where the task ended with this decision.
      failed: [...] 1 where it ended without success and that forfeits the reward; zeros to switch this off.
      remaining: [...] decisions left until the horizon.
      horizon: n, decisions in a full episode.
      discount: per decision.

    Returns:
      [...] reward in nats, before lambda.
    """
    return after * absorbing_weight(terminated, remaining, discount) * (1.0 - failed) / horizon


def potential(
    before: Float[Array, "*batch"],
    after: Float[Array, "*batch"],
    terminated: Float[Array, "*batch"],
    failed: Float[Array, "*batch"],
    remaining: Int[Array, "*batch"],
    horizon: int,
    discount: float,
) -> Float[Array, "*batch"]:
    """The difference of phi that the decision made; arguments and result as of `absorbing`, not all used.

    Args:
      before: [...] phi of the path up to the decision.
      after: [...] phi of the path including it.
      terminated: unused.
      failed: [...] as of `absorbing`.
      remaining: unused.
      horizon: unused.
      discount: unused.
    """
    return after * (1.0 - failed) - before


PAYMENTS: dict[str, Callable[..., Array]] = {"absorbing": absorbing, "potential": potential}
"""(before, after, terminated, failed, remaining, horizon, discount) to the reward of each decision."""
