"""k-means, as policies use it on a batch of chunks to place their bins and components before training.

Seeding: the first centre is a random point. For each further one 2 + floor(log k) points are drawn with
probability proportional to the squared distance to the nearest centre so far, and the one that leaves the
smallest inertia sum_i min_k |x_i - c_k|^2 is kept: with a single draw two of eight separated blobs share a
centre more often than not. Then Lloyd's iterations, which never raise the inertia. Pure, of fixed shape, safe
under `jit` and `vmap`.

Source: Arthur and Vassilvitskii 2007 (k-means++ and its greedy variant); Lloyd 1982.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from mmbc_jax.core.types import Array, Key


def kmeans(
    key: Key, x: Float[Array, "n d"], k: int, iterations: int = 10
) -> tuple[Float[Array, "{k} d"], Int32[Array, " n"]]:
    """Seeds k centres and improves them.

    With fewer than k distinct points some centres coincide; points then belong to the first of them.

    Args:
      key: of the seeding.
      x: [n, d] points, n >= 1; k may exceed n.
      k: number of centres.
      iterations: of Lloyd.

    Returns:
      (centres [k, d], assignment [n] int32 of the points to their nearest centre).
    """
    return lloyd(x, seed_centres(key, x, k), iterations)


def seed_centres(key: Key, x: Float[Array, "n d"], k: int) -> Float[Array, "{k} d"]:
    """[k, d] of the points x [n, d], by greedy k-means++."""
    candidates = 2 + int(math.log(k))
    key, key_first = jax.random.split(key)
    first = x[jax.random.randint(key_first, (), 0, x.shape[0])]

    def add(carry: tuple[Array, Key], _: None) -> tuple[tuple[Array, Key], Array]:
        distance, key = carry
        key, key_point = jax.random.split(key)
        # where all distances are 0 every logit is -inf, and the draw is the first point: any is as good
        drawn = x[jax.random.categorical(key_point, jnp.log(distance), shape=(candidates,))]
        left = jnp.minimum(distance, jnp.square(x - drawn[:, None]).sum(-1))
        best = jnp.argmin(left.sum(-1))
        return (left[best], key), drawn[best]

    start = jnp.square(x - first).sum(-1)
    _, rest = jax.lax.scan(add, (start, key), None, length=k - 1)
    return jnp.concatenate([first[None], rest])


def nearest(x: Float[Array, "*batch d"], centres: Float[Array, "k d"]) -> Int32[Array, "*batch"]:
    """[...] int32 index of the centre [k, d] that is nearest to x [..., d]; the first of equally near ones."""
    # |x - c|^2 less |x|^2, with the origin amid the centres so that no digits are lost to their offset
    middle = centres.mean(0)
    moved = centres - middle
    inner = jnp.matmul(x - middle, moved.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.argmin(jnp.square(moved).sum(-1) - 2.0 * inner, -1).astype(jnp.int32)


def lloyd(
    x: Float[Array, "n d"], centres: Float[Array, "k d"], iterations: int
) -> tuple[Float[Array, "k d"], Int32[Array, " n"]]:
    """Moves each centre to the mean of its points, again and again; one without points stays where it is.

    Args:
      x: [n, d] points.
      centres: [k, d] to start from.
      iterations: number of moves.

    Returns:
      (centres [k, d], assignment [n] int32).
    """

    def move(centres: Array, _: None) -> tuple[Array, None]:
        member = jax.nn.one_hot(nearest(x, centres), centres.shape[0])
        count = member.sum(0)[:, None]
        total = jnp.matmul(member.T, x, precision=jax.lax.Precision.HIGHEST)
        return jnp.where(count > 0, total / jnp.maximum(count, 1.0), centres), None

    centres, _ = jax.lax.scan(move, centres, None, length=iterations)
    return centres, nearest(x, centres)
