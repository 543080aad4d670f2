"""The encoder of observations that all networks share: policies, priors, actors, critics and discriminators."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs, ObsEntry, ObsSpec
from mmbc_jax.core.types import Array
from mmbc_jax.nn.embedding import fourier_features


class ObsEncoder(nn.Module):
    """One feature vector of an observation: [f(v_1), ..., g(i_1), ...] over its entries in the spec's order.

    f are the `fourier_features` of a vector, whose angles have become cosine and sine and whose quaternions the
    first two columns of their rotation matrix before. A plain vector without such entries and 0 octaves is handed
    on as it is; vectors bring no parameters.

    Attributes:
      spec: what an observation looks like.
      octaves: of the vectors' features.
    """

    spec: ObsSpec
    octaves: int = 0

    @nn.compact
    def __call__(self, obs: Obs) -> Array:
        """Maps an observation with leading axes [...] to [..., F]."""
        named = self.spec.named(obs)
        parts = [
            fourier_features(continuous(named[name], entry), self.octaves)
            for name, entry in self.spec.entries
        ]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)


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
