"""Generalised advantage estimation that tells an end from a cut."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float

from mmbc_jax.core.types import Array


def gae(
    reward: Float[Array, "T B"],
    value: Float[Array, "T B"],
    next_value: Float[Array, "T B"],
    final: Float[Array, "T B"],
    done: Float[Array, "T B"],
    discount: Float[Array, "T B"],
    gae_lambda: Float[Array, ""] | float,
    valid: Float[Array, "T B"] | None = None,
) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
    """Advantages and value targets of Schulman et al. 2016, with per-step discounts.

    delta_t = r_t + d_t (1 - final_t) V(s'_t) - V(s_t)
    A_t     = delta_t + d_t lambda (1 - done_t) A_{t+1},   A_T = 0

    An episode that was cut bootstraps from the observation it ended in (`next_value`, of before any reset) and
    stops the sum; after a final step nothing is left to bootstrap from.

    Args:
      reward: [T, B] reward of step t; for a chunk, already discounted inside the chunk.
      value: [T, B] V of the state in which step t was taken.
      next_value: [T, B] V of the state that step t led to, before any reset.
      final: [T, B] 1 where nothing follows: the task ended, or the full horizon of a critic that sees the time.
      done: [T, B] 1 where the episode ended for any reason.
      discount: [T, B] gamma^k with k the control steps executed in step t.
      gae_lambda: in [0, 1].
      valid: [T, B] 0 where a step did not take place, or nothing is known of what it led to; `done` is 1 there. It
        has no advantage, and the step before it bootstraps. None where all did.

    Returns:
      (advantages [T, B], targets [T, B] = advantages + value).
    """
    delta = reward + discount * (1.0 - final) * next_value - value
    delta = delta if valid is None else delta * valid
    decay = discount * gae_lambda * (1.0 - done)

    def backward(carry: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        delta_t, decay_t = step
        advantage = delta_t + decay_t * carry
        return advantage, advantage

    _, advantage = jax.lax.scan(backward, jnp.zeros_like(delta[0]), (delta, decay), reverse=True)
    return advantage, advantage + value
