"""The clipped surrogate of proximal policy optimisation and what is logged beside it."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Float

from mmbc_jax.core.types import Array
from mmbc_jax.ops import weighted
from mmbc_jax.ops.capped import capped


def clipped_surrogate(
    log_ratio: Float[Array, "B R"],
    advantage: Float[Array, " B"],
    clip: Float[Array, ""] | float,
    weight: Float[Array, " B"] | None = None,
    factors: tuple[float, ...] = (),
    clips: tuple[float, ...] = (),
    asymmetric: bool = False,
    shares: tuple[float, ...] = (),
) -> tuple[Float[Array, " B"], Float[Array, ""], Float[Array, ""]]:
    """PPO's objective with one ratio for each factor of the action's probability.

    L = -E[ min(rho A, clip(rho, 1 - eps, 1 + eps) A) ],   rho = exp(log_ratio)

    Asymmetric, where A < 0 it is -E[ rho A - |A| (rho - 1)^2 / (2 eps) ] instead, whose gradient does not
    vanish where the ratio has left the band (Xie et al. 2025, SPO; FPO++). Log ratios above `ops.capped.MOST`
    count as that.

    Args:
      log_ratio: [B, R] log of new over old probability; R is 1 for steering, the number of
        fine-tuned denoising steps for a chain.
      advantage: [B] advantage, shared by the R factors.
      clip: eps > 0.
      weight: [B] 0 where an action does not count in the clip fraction and the KL; None where all do.
      factors: R factors of the advantage; empty for 1 each.
      clips: R factors of eps; empty for 1 each.
      asymmetric: see above.
      shares: R factors of what each adds to the approximate KL; empty for 1 each.

    Returns:
      (loss [B], the mean of -min(...) over R; clip fraction [];
      approximate KL [] = E[(rho - 1) - log rho] >= 0, Schulman's low-variance estimate of KL(old || new),
      with the R factors of one action summed, each with its share).
    """
    log_ratio = capped(log_ratio)
    ratio = jnp.exp(log_ratio)
    advantage = advantage[..., None] * jnp.asarray(factors) if factors else advantage[..., None]
    clip = clip * jnp.asarray(clips) if clips else clip
    clipped = jnp.clip(ratio, 1.0 - clip, 1.0 + clip)
    gain = jnp.minimum(ratio * advantage, clipped * advantage)
    if asymmetric:
        held = ratio * advantage + advantage * jnp.square(ratio - 1.0) / (2.0 * clip)
        gain = jnp.where(advantage < 0, held, gain)
    loss = -gain.mean(-1)
    weight = jnp.ones_like(loss) if weight is None else weight
    clip_fraction = weighted.mean((jnp.abs(ratio - 1.0) > clip).astype(jnp.float32).mean(-1), weight)
    apart = jnp.expm1(log_ratio) - log_ratio  # exp(.) - 1 would round at 1e-7
    approx_kl = weighted.mean((apart * jnp.asarray(shares) if shares else apart).sum(-1), weight)
    return loss, clip_fraction, approx_kl


def normalise_advantage(
    advantage: Float[Array, "*batch"], weight: Float[Array, "*batch"] | None = None, eps: float = 1e-8
) -> Float[Array, "*batch"]:
    """Advantages with mean 0 and standard deviation 1 over all of the batch that counts.

    Args:
      advantage: [...].
      weight: [...] 0 where one does not count, else 1; None where all do. What is not finite never counts.
      eps: added to the standard deviation.

    Returns:
      [...], 0 for what does not count.
    """
    counts = jnp.isfinite(advantage) if weight is None else jnp.isfinite(advantage) & (weight > 0)
    advantage, weight = jnp.where(counts, advantage, 0.0), counts.astype(advantage.dtype)
    centred = (advantage - weighted.mean(advantage, weight)) * weight
    return centred / (jnp.sqrt(weighted.mean(jnp.square(centred), weight)) + eps)


def explained_variance(
    value: Float[Array, "*batch"],
    target: Float[Array, "*batch"],
    weight: Float[Array, "*batch"] | None = None,
) -> Float[Array, ""]:
    """1 - Var(target - value) / Var(target) of what has weight 1 (None: of all); 0 where the target does not vary."""
    weight = jnp.ones_like(value) if weight is None else weight
    all_of_it = weighted.variance(target, weight)
    left = weighted.variance(target - value, weight)
    return jnp.where(all_of_it > 0, 1.0 - left / jnp.where(all_of_it > 0, all_of_it, 1.0), 0.0)
