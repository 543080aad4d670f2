r"""Commands that hold two ways: one whose paths fall apart into two clusters gives one to a command that is free.

Of each command the last P = 32 paths x_i are kept, as points. With s_i their scores along the leading principal axis,
cut where the sum of squares within the two sides is smallest (each of P / 8 paths or more),

  gap = (mean of the upper side - mean of the lower) / sqrt(sum of squares within / (P - 2)).

Of a Gaussian of any dimension it is 2.9 (median), above 4 in 1 % of samples and above 4.5 in .1 %; of a uniform, the
widest that has no valley, above 4.5 in 4.5 %; of two modes six standard deviations apart, three to seven, above 4.5
in 98 %. `tests/ops/test_splitting.py` measures that.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from mmbc_jax.core.types import Array

PLACES = 32
"""P."""
_LEAST = PLACES // 8
_TURNS = 30  # of the power iteration
_FAR = 1e30


class Paths(NamedTuple):
    """The last paths of each command.

    Attributes:
      points: [Z, P, E], a ring each.
      number: [Z] paths since it began anew; `min(number, P)` places hold one.
    """

    points: Float[Array, "Z P E"]
    number: Int[Array, " Z"]


class Division(NamedTuple):
    """What splitting did.

    Attributes:
      alive: [Z] 1 for the commands there are now.
      donor: [] int32 the command that was split.
      heir: [] int32 the one that got a half.
      happened: [] bool; False leaves everything as it was.
    """

    alive: Float[Array, " Z"]
    donor: Int[Array, ""]
    heir: Int[Array, ""]
    happened: Bool[Array, ""]


def empty(num_modes: int, size: int) -> Paths:
    """No paths yet, of E = `size` numbers."""
    return Paths(jnp.zeros((num_modes, PLACES, size)), jnp.zeros((num_modes,), jnp.int32))


def kept(paths: Paths, z: Int[Array, " N"], new: Float[Array, "N E"], ended: Bool[Array, " N"]) -> Paths:
    """The last P paths of each command, with those of `new` [N, E] where `ended`, in their order."""
    own = jax.nn.one_hot(z, len(paths.number), dtype=jnp.int32) * ended[:, None].astype(jnp.int32)
    total = own.sum(0)
    rank = (own.cumsum(0) * own).sum(1) - 1  # among the new ones of its command
    stays = ended & (rank >= total[z] - PLACES)
    place = jnp.where(stays, (paths.number[z] + rank) % PLACES, PLACES)  # one beyond the end is dropped
    return Paths(paths.points.at[z, place].set(new, mode="drop"), paths.number + total)


def halves(points: Float[Array, "P E"]) -> tuple[Float[Array, ""], Bool[Array, " P"]]:
    """(the gap above, [P] which paths are on the upper side)."""
    number = len(points)
    centred = points - points.mean(0)
    gram = jnp.matmul(centred, centred.T, precision=jax.lax.Precision.HIGHEST)

    def turn(v: Array, _: None) -> tuple[Array, None]:
        v = jnp.matmul(gram, v, precision=jax.lax.Precision.HIGHEST)
        return v / jnp.maximum(jnp.linalg.norm(v), 1e-30), None

    start = gram[jnp.argmax(jnp.diagonal(gram))]
    start = start / jnp.maximum(jnp.linalg.norm(start), 1e-30)
    score = jax.lax.scan(turn, start, None, length=_TURNS)[0]
    score = score - score.mean()
    ordered = jnp.sort(score)
    below = jnp.arange(_LEAST, number - _LEAST + 1)
    low = ordered.cumsum()[below - 1] / below
    high = -low * below / (number - below)  # the scores' mean is 0
    within = jnp.square(ordered).sum() - below * jnp.square(low) - (number - below) * jnp.square(high)
    best = jnp.argmin(within)
    spread = jnp.sqrt(jnp.maximum(within[best], 1e-10) / (number - 2))
    upper = score >= ordered[below[best]]
    return (high - low)[best] / spread, upper


def divided(alive: Float[Array, " Z"], paths: Paths, threshold: float) -> Division:
    """Splits the command with the widest gap above the threshold, where one is free; one at a time.

    The smaller half is given away, to the free command whose own last paths were nearest to it on average, since that
    one knows how to go there; to one that was never commanded where there is no other.

    Args:
      alive: [Z] 1 for those there are.
      paths: of all commands, those that are no more with their last ones.
      threshold: of the gap.
    """
    gap, upper = jax.vmap(halves)(paths.points)
    gap = jnp.where((alive > 0) & (paths.number >= PLACES), gap, -1.0)
    donor = jnp.argmax(gap).astype(jnp.int32)
    side = upper[donor]
    given = jnp.where(side.sum() * 2 <= PLACES, side, ~side).astype(jnp.float32)
    wanted = given @ paths.points[donor] / jnp.maximum(given.sum(), 1.0)
    held = (jnp.arange(PLACES) < paths.number[:, None]).astype(jnp.float32)
    mean = (held[..., None] * paths.points).sum(1) / jnp.maximum(held.sum(1), 1.0)[:, None]
    away = jnp.where(paths.number > 0, jnp.square(mean - wanted).sum(-1), _FAR)
    free = alive == 0
    heir = jnp.argmin(jnp.where(free, away, jnp.inf)).astype(jnp.int32)
    happened = (gap[donor] > threshold) & free.any()
    return Division(jnp.where(happened, alive.at[heir].set(1.0), alive), donor, heir, happened)


def begun(paths: Paths, division: Division) -> Paths:
    """The paths with both commands of a division beginning anew."""
    touched = jnp.arange(len(paths.number))
    touched = (touched == division.donor) | (touched == division.heir)
    return paths._replace(number=jnp.where(touched & division.happened, 0, paths.number))
