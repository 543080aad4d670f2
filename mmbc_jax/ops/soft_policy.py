r"""Soft actor-critic: targets, losses, and the policy density, squashed into a box or not.

Sources: Haarnoja et al. 2018 (arXiv 1812.05905); the box of noise as action space is that of DSRL (Wagenmaker
et al. 2025). In a box of half-width b, with x = m + sigma eps and eps ~ N(0, I),

  w = b tanh(x),   log pi(w) = sum_i [ log N(x_i; m_i, sigma_i^2) - log b - 2 (log 2 - x_i - softplus(-2 x_i)) ]

where the last bracket is log(1 - tanh^2 x_i), which stays exact where 1 - tanh^2 rounds to 0. Box 0 switches the
squashing off: w = x. `log pi` is the density of w itself; `box_log_scale` converts to that of w / b, in which
target entropies are stated.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from mmbc_jax.core.types import Array, Key, PyTree
from mmbc_jax.ops.capped import capped

REDUCTIONS: dict[str, Callable[..., Array]] = {"min": jnp.min, "mean": jnp.mean}
"""How the heads of a critic become one value."""


def reduce_heads(q: Float[Array, " N *batch"], how: str) -> Float[Array, "*batch"]:
    """[...] one value from the heads [N, ...]; `how` is a key of `REDUCTIONS`."""
    return REDUCTIONS[how](q, axis=0)


def soft_target(
    reward: Float[Array, "*batch"],
    discount: Float[Array, "*#batch"] | float,
    final: Float[Array, "*batch"],
    next_q: Float[Array, " N *batch"],
    next_log_prob: Float[Array, "*batch"],
    alpha: Float[Array, ""] | float,
    reduce: str = "min",
) -> Float[Array, "*batch"]:
    """What the critic is regressed on; carries no gradient.

    y = r + d (1 - final) (reduce_j Q_j(s', w') - alpha log pi(w' | s')),   w' ~ pi(. | s')

    An episode that was cut bootstraps from the observation it ended in, before any reset; a final decision
    does not bootstrap.

    Args:
      reward: [...] for a chunk, already discounted inside the chunk.
      discount: [...] gamma^k with k the control steps executed.
      final: [...] 1 where nothing follows: the task ended, or the full horizon of a critic that sees the time.
      next_q: [N, ...] target heads at (s', w').
      next_log_prob: [...] log pi(w' | s') in nats.
      alpha: temperature >= 0.
      reduce: a key of `REDUCTIONS`.

    Returns:
      [...].
    """
    value = reduce_heads(next_q, reduce) - alpha * next_log_prob
    return jax.lax.stop_gradient(reward + discount * (1.0 - final) * value)


def critic_loss(
    q: Float[Array, " N *batch"], target: Float[Array, "*batch"] | Float[Array, " N *batch"]
) -> Float[Array, "*batch"]:
    """sum_j (Q_j - y)^2 / 2, the target held fixed.

    Args:
      q: [N, ...] every head.
      target: [...] the same y for all heads, or [N, ...] one for each (distilling one critic into another).

    Returns:
      [...].
    """
    return 0.5 * jnp.square(q - jax.lax.stop_gradient(target)).sum(0)


def actor_loss(
    log_prob: Float[Array, "*batch"],
    q: Float[Array, " N *batch"],
    alpha: Float[Array, ""] | float,
    reduce: str = "min",
) -> Float[Array, "*batch"]:
    """alpha log pi(w | s) - reduce_j Q_j(s, w) at a reparameterised w; alpha is held fixed.

    Differentiate with respect to the actor alone: w and log pi carry its gradient, the critic's parameters
    must be constants.

    Args:
      log_prob: [...] log pi(w | s) of `sample`.
      q: [N, ...] heads at (s, w).
      alpha: temperature >= 0.
      reduce: a key of `REDUCTIONS`.

    Returns:
      [...].
    """
    return jax.lax.stop_gradient(alpha) * log_prob - reduce_heads(q, reduce)


def temperature_loss(
    log_alpha: Float[Array, "*#batch"],
    log_prob: Float[Array, "*batch"],
    target_entropy: Float[Array, ""] | float,
) -> Float[Array, "*batch"]:
    """-log alpha (log pi + target), which moves the policy's entropy towards the target.

    The gradient in log alpha is entropy - target on average: alpha grows while the policy is less random than
    asked. This is the form that implementations use; the paper's has alpha in front, which scales the
    gradient by alpha.

    Args:
      log_alpha: [] or [...].
      log_prob: [...] log pi(w | s) in nats, held fixed.
      target_entropy: in nats, of the same w as `log_prob`.

    Returns:
      [...].
    """
    return -log_alpha * jax.lax.stop_gradient(log_prob + target_entropy)


def polyak(target: PyTree, online: PyTree, tau: Float[Array, ""] | float) -> PyTree:
    """(1 - tau) target + tau online, leaf by leaf; tau in [0, 1]."""
    return jax.tree.map(lambda t, o: (1.0 - tau) * t + tau * o, target, online)


def squash(x: Float[Array, "*shape"], box: float) -> Float[Array, "*shape"]:
    """box tanh(x), or x itself where `box` is 0; of the mean it is the greedy action."""
    return box * jnp.tanh(x) if box else x


def sample(
    key: Key,
    mean: Float[Array, "*shape"],
    log_std: Float[Array, "*#shape"],
    box: float = 0.0,
    event_dims: int = 1,
) -> tuple[Float[Array, "*shape"], Float[Array, "*batch"]]:
    """A reparameterised draw and its log density.

    Args:
      key: for eps.
      mean: [..., *event] m, before squashing.
      log_std: log sigma, broadcasts against `mean`.
      box: half-width b > 0, static; 0 for no box.
      event_dims: trailing axes that make one action.

    Returns:
      (w [..., *event], log pi(w) [...] in nats).
    """
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    x = mean + jnp.exp(capped(log_std)) * noise
    return squash(x, box), _log_density(x, noise, log_std, box, event_dims)


def log_prob(
    w: Float[Array, "*shape"],
    mean: Float[Array, "*#shape"],
    log_std: Float[Array, "*#shape"],
    box: float = 0.0,
    event_dims: int = 1,
) -> Float[Array, "*batch"]:
    """Log density of a given action.

    Inside a box it needs atanh(w / b), whose error grows as 1 / (1 - |w| / b) towards the walls; a w on or
    beyond a wall counts as the last number inside it. For draws of one's own, take the value that `sample` returns.

    Args:
      w: [..., *event].
      mean: [..., *event] m, before squashing.
      log_std: log sigma, broadcasts against `mean`.
      box: half-width b > 0, static; 0 for no box.
      event_dims: trailing axes that make one action.

    Returns:
      [...] nats.
    """
    x = w
    if box:
        edge = 1.0 - float(jnp.finfo(w.dtype).epsneg)
        x = jnp.arctanh(jnp.clip(w / box, -edge, edge))
    return _log_density(x, (x - mean) * jnp.exp(capped(-log_std)), log_std, box, event_dims)


def box_log_scale(box: float, size: int) -> float:
    """log of the volume by which [-1, 1]^size grows in a box of half-width `box`; 0 without a box.

    log pi(w / b) = log pi(w) + size log b, and the entropy of w is that of w / b plus the same. Written for
    w / b are the target entropies of DSRL (0) and of SAC's rule of thumb (-size).

    Args:
      box: half-width b >= 0.
      size: entries of one action, H A.

    Returns:
      size log b, in nats.
    """
    return size * math.log(box) if box else 0.0


def _log_density(x: Array, noise: Array, log_std: Array, box: float, event_dims: int) -> Array:
    """log pi from the unsquashed x and its standardised `noise`, summed over the event."""
    each = -0.5 * jnp.square(noise) - log_std - 0.5 * math.log(2.0 * math.pi)
    if box:
        each = each - math.log(box) - 2.0 * (math.log(2.0) - x - jax.nn.softplus(-2.0 * x))
    return each.sum(tuple(range(-event_dims, 0)))
