r"""How many commands there are, found while they are learned: those that nobody can tell apart become one.

With c_ij the mean of q(j | path) over paths that i commanded, j is confused with i as far as

  m_ij = min(c_ij / c_ii, c_ji / c_jj),

1 for two commands with the same paths, however many more share them, and 0 for two that q tells apart. Of those with
m_ij >= threshold the one of the lower number stays.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from mmbc_jax.core.types import Array, Key, PyTree

ALIVE = "alive"
"""Of a reward's parameters where commands merge: [Z] 1 for those there are, else 0."""
NEVER = -1e9
"""log probability of a command that is no more."""


def alive_of(params: PyTree) -> Array | None:
    """[Z] 1 for the commands there are, of the parameters of a reward; None where all are."""
    alive: Array | None = params.get(ALIVE)
    return alive


def confusion(seen: Float[Array, "Z Z"]) -> Float[Array, "Z Z"]:
    """m above, of sums of q(j | path) over the paths of i; 0 where one of the two was never commanded."""
    own = jnp.diagonal(seen)
    shares = seen / jnp.maximum(own[:, None], 1e-12)
    both = (own[:, None] > 0) & (own[None] > 0)
    return jnp.where(both, jnp.minimum(shares, shares.T), 0.0)


def merged(
    alive: Float[Array, " Z"],
    seen: Float[Array, "Z Z"],
    count: Float[Array, " Z"],
    threshold: float,
    least: float,
) -> Float[Array, " Z"]:
    """The commands that stay, as 1 and 0.

    A command goes where it is confused with one of a lower number that is itself confused with none of a lower
    number: so nothing merges with what goes in the same moment, and chains of neighbours become one step by step.

    Args:
      alive: [Z] 1 for those there are.
      seen: [Z, Z] sums of q(j | path) over the paths that i commanded.
      count: [Z] those paths.
      threshold: in (0, 1], of m.
      least: paths that a command needs before it is judged.
    """
    known = alive * (count >= least)
    close = (confusion(seen) >= threshold) * known[:, None] * known[None]
    lower = jnp.tril(close, -1)  # [i, j]: i is confused with j < i
    root = (lower.sum(1) == 0).astype(alive.dtype)
    return alive * ((lower * root[None]).sum(1) == 0)


def draw(key: Key, alive: Float[Array, " Z"], shape: tuple[Any, ...]) -> Int[Array, "*shape"]:
    """Commands of those there are, each as likely; sizes of the shape are symbols where a program is exported."""
    return ranked(alive)[jax.random.randint(key, shape, 0, alive.sum().astype(jnp.int32))]


def evenly(alive: Float[Array, " Z"], episodes: int) -> Int[Array, " B"]:
    """[B] commands of those there are, in turn."""
    return ranked(alive)[jnp.arange(episodes, dtype=jnp.int32) % alive.sum().astype(jnp.int32)]


def ranked(alive: Float[Array, " Z"]) -> Int[Array, " Z"]:
    """[Z] those there are, in their order, and then the others."""
    return jnp.argsort(1.0 - alive, stable=True).astype(jnp.int32)


def among(log_q: Float[Array, "*batch Z"], alive: Float[Array, " Z"]) -> Float[Array, "*batch Z"]:
    """log q over those there are; what is not there has `NEVER`."""
    return jax.nn.log_softmax(jnp.where(alive > 0, log_q, NEVER))


def against_all(log_q: Float[Array, "*batch Z"], alive: Float[Array, " Z"]) -> Float[Array, "*batch Z"]:
    """`among`, such that adding log Z gives log q - log p with p uniform over those there are."""
    return among(log_q, alive) + jnp.log(alive.sum() / alive.shape[-1])
