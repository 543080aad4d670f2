"""Fixed features of time and of observations: no parameters, so they add nothing to a checkpoint."""

from __future__ import annotations

import jax.numpy as jnp

from mmbc_jax.core.observations import ObsEntry
from mmbc_jax.core.types import Array

MAX_TIME_FREQUENCY = 100.0  # rad per unit of generation time; finer than any step that a sampler takes


def time_embedding(t: Array, dim: int) -> Array:
    """Sinusoidal features of the generation time.

    e(t) = [sin(w_i t), cos(w_i t)] with dim/2 frequencies w_i spaced geometrically from 1 to 100 rad
    (Vaswani et al. 2017, with the range fitted to t in [0, 1]).

    Args:
      t: [...] time in [0, 1].
      dim: number of features, even and at least 2.

    Returns:
      [..., dim] features in [-1, 1].
    """
    frequencies = jnp.geomspace(1.0, MAX_TIME_FREQUENCY, dim // 2)
    angle = jnp.asarray(t)[..., None] * frequencies
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def fourier_features(obs: Array, octaves: int) -> Array:
    """The observation beside its sines and cosines at fixed octaves.

    f(o) = [o, sin(2^k pi o), cos(2^k pi o)] for k = 0 .. octaves-1. On [-1, 1] octave 0 has one period,
    so the finest feature repeats every 2^(2-octaves). A plain network on raw coordinates is slow to learn
    the sharp state dependence of multimodal demonstrations (Tancik et al. 2020).

    Args:
      obs: [..., D] normalised to [-1, 1]; larger values alias only in the periodic part.
      octaves: 0 returns `obs` itself.

    Returns:
      [..., D * (1 + 2 * octaves)].
    """
    if octaves == 0:
        return obs
    frequencies = jnp.pi * 2.0 ** jnp.arange(octaves, dtype=obs.dtype)
    angle = (obs[..., None] * frequencies).reshape(*obs.shape[:-1], -1)
    return jnp.concatenate([obs, jnp.sin(angle), jnp.cos(angle)], axis=-1)


def continuous(vector: Array, entry: ObsEntry) -> Array:
    """[..., D'] a vector whose angles and quaternions are replaced by numbers that do not jump.

    An angle a becomes (cos a, sin a). A unit quaternion (w, x, y, z) becomes the first two columns of its rotation
    matrix (Zhou et al. 2019), the same for q and -q. What is neither comes first, in its order.

    Args:
      vector: [..., D].
      entry: says which indices are which.
    """
    if not entry.kept:
        return vector
    rest = [i for i in range(entry.shape[0]) if i not in entry.kept]
    parts = [vector[..., jnp.asarray(rest, int)]] if rest else []
    if entry.angles:
        angle = vector[..., jnp.asarray(entry.angles)]
        parts += [jnp.cos(angle), jnp.sin(angle)]
    for start in entry.quaternions:
        w, x, y, z = (vector[..., start + i, None] for i in range(4))
        parts += [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]
        parts += [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)]
    return jnp.concatenate(parts, -1)
