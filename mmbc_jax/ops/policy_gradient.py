"""The clipped surrogate of proximal policy optimisation and what is logged beside it."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Float

from mmbc_jax.core.types import Array
from mmbc_jax.ops.capped import capped


def clipped_surrogate(
    log_ratio: Float[Array, "B R"], advantage: Float[Array, " B"], clip: Float[Array, ""] | float
) -> tuple[Float[Array, " B"], Float[Array, ""], Float[Array, ""]]:
    """PPO's objective with one ratio for each factor of the action's probability.

    L = -E[ min(rho A, clip(rho, 1 - eps, 1 + eps) A) ],   rho = exp(log_ratio)

    Log ratios above `ops.capped.MOST` count as that.

    Args:
      log_ratio: [B, R] log of new over old probability; R is 1 for steering, the number of
        fine-tuned denoising steps for a chain.
      advantage: [B] advantage, shared by the R factors.
      clip: eps > 0.

    Returns:
      (loss [B], the mean of -min(...) over R; clip fraction [];
      approximate KL [] = E[(rho - 1) - log rho] >= 0, Schulman's low-variance estimate of KL(old || new),
      with the R factors of one action summed).
    """
    log_ratio = capped(log_ratio)
    ratio = jnp.exp(log_ratio)
    advantage = advantage[..., None]
    clipped = jnp.clip(ratio, 1.0 - clip, 1.0 + clip)
    loss = -jnp.minimum(ratio * advantage, clipped * advantage).mean(-1)
    clip_fraction = (jnp.abs(ratio - 1.0) > clip).astype(jnp.float32).mean()
    approx_kl = (jnp.expm1(log_ratio) - log_ratio).sum(-1).mean()  # exp(.) - 1 would round at 1e-7
    return loss, clip_fraction, approx_kl


def normalise_advantage(advantage: Float[Array, "*batch"], eps: float = 1e-8) -> Float[Array, "*batch"]:
    """Advantages with mean 0 and standard deviation 1 over the whole batch."""
    return (advantage - advantage.mean()) / (advantage.std() + eps)


def explained_variance(value: Float[Array, "*batch"], target: Float[Array, "*batch"]) -> Float[Array, ""]:
    """1 - Var(target - value) / Var(target); 0 where the target does not vary."""
    variance = target.var()
    return jnp.where(variance > 0, 1.0 - (target - value).var() / jnp.where(variance > 0, variance, 1.0), 0.0)
