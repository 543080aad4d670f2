"""The encoder of observations that all networks share: policies, priors, actors, critics and discriminators."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs, ObsSpec
from mmbc_jax.core.types import Array
from mmbc_jax.nn.image_encoder import ImageEncoder
from mmbc_jax.nn.precision import Network


class ObsEncoder(Network):
    """One feature vector of an observation: what the kind of each entry makes of it, in the spec's order.

    The kinds are those of `nn.observations`. A plain vector without angles and quaternions becomes exactly its
    `fourier_features`; vectors bring no parameters.

    Attributes:
      spec: what an observation looks like.
      octaves: of the vectors' features.
      image_channels: widths of the stages of the images' encoders.
      image_features: size of what an image becomes.
      image_patch: pixels a side of what their first layer maps.
    """

    spec: ObsSpec
    octaves: int = 0
    image_channels: tuple[int, ...] = ImageEncoder.channels
    image_features: int = ImageEncoder.features
    image_patch: int = ImageEncoder.patch

    @nn.compact
    def __call__(self, obs: Obs) -> Array:
        """Maps an observation with leading axes [...] to [..., F]."""
        named = self.spec.named(obs)
        parts = [entry.of_kind.encode(self, name, entry, named[name]) for name, entry in self.spec.entries]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)
