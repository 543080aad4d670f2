"""Residual codebooks: nearest codes layer by layer, and their placement by k-means and running averages."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from mmbc_jax.core.types import Array, Key
from mmbc_jax.ops.kmeans import kmeans

_TINY = 1e-8


class Codebook(flax.struct.PyTreeNode):
    """L layers of K codes; each layer codes what the layers before it left over.

    Attributes:
      codes: [L, K, W].
      share: [L, K] running share of the inputs that chose a code.
      total: [L, K, W] running mean over inputs of (chosen ? input : 0), so `codes` is total / share.
    """

    codes: Array
    share: Array
    total: Array


def quantise(codes: Array, z: Array) -> tuple[Array, Array, Array]:
    """Nearest code of every layer: r_0 = z, c_l = argmin_k |r_l - e_lk|, r_{l+1} = r_l - e_{l c_l}.

    Args:
      codes: [L, K, W].
      z: [..., W].

    Returns:
      (indices [..., L] int32, chosen codes [..., L, W], residuals r_l [..., L, W] that they stand for).
    """

    def layer(residual: Array, table: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        distance = jnp.square(residual[..., None, :] - table).sum(-1)
        index = jnp.argmin(distance, -1).astype(jnp.int32)
        return residual - table[index], (index, table[index], residual)

    _, (index, chosen, residual) = jax.lax.scan(layer, z, codes)
    return jnp.moveaxis(index, 0, -1), jnp.moveaxis(chosen, 0, -2), jnp.moveaxis(residual, 0, -2)


def look_up(codes: Array, index: Array) -> Array:
    """Sum over layers [..., W] of the codes [L, K, W] at `index` [..., L] int32."""
    return codes[jnp.arange(codes.shape[0]), index].sum(-2)


def init_codebook(key: Key, z: Array, layers: int, num_codes: int) -> Codebook:
    """Codebooks placed on data, layer by layer on the residuals.

    Args:
      key: of the seeding.
      z: [B, W] latents; B may be smaller than the number of codes.
      layers: L.
      num_codes: K.
    """

    def layer(residual: Array, key: Key) -> tuple[Array, Array]:
        table, owner = kmeans(key, residual, num_codes)
        return residual - table[owner], table

    _, codes = jax.lax.scan(layer, z, jax.random.split(key, layers))
    share = jnp.full(codes.shape[:-1], 1.0 / num_codes)
    return Codebook(codes, share, codes * share[..., None])


def update(
    book: Codebook, key: Key, index: Array, residual: Array, decay: float, revive_below: float
) -> Codebook:
    """One step of the running averages; codes that hardly anybody chooses move onto a random input.

    share <- d share + (1 - d) mean_b 1[c_b = k], total likewise with the inputs, code = total / share.

    Args:
      book: before.
      key: of the inputs that dead codes move to.
      index: [B, L] int32 chosen codes.
      residual: [B, L, W] what they stand for.
      decay: d.
      revive_below: a code is dead where its share falls below this fraction of 1/K.
    """
    num_codes = book.codes.shape[1]
    member = jax.nn.one_hot(index, num_codes)
    share = decay * book.share + (1.0 - decay) * member.mean(0)
    mean = jnp.einsum("blk,blw->lkw", member, residual) / index.shape[0]
    total = decay * book.total + (1.0 - decay) * mean
    codes = total / jnp.maximum(share, _TINY)[..., None]
    pick = jax.random.randint(key, share.shape, 0, index.shape[0])
    candidate = residual[pick, jnp.arange(share.shape[0])[:, None]]
    dead = share < revive_below / num_codes
    codes = jnp.where(dead[..., None], candidate, codes)
    share = jnp.where(dead, 1.0 / num_codes, share)
    return Codebook(codes, share, codes * share[..., None])
