"""State value for fine-tuning: of the observation, the commanded mode and the time passed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.types import Array
from mmbc_jax.nn.embedding import fourier_features
from mmbc_jax.nn.mlp import MLP


class Critic(nn.Module):
    """V(s, z, t): an MLP on Fourier features of s, one-hot z and the fraction of the horizon passed.

    Attributes:
      hidden: widths of the hidden layers.
      num_modes: Z.
      octaves: of the observation features.
      activation: a key of `nn.mlp.ACTIVATIONS`.
    """

    hidden: tuple[int, ...]
    num_modes: int
    octaves: int = 4
    activation: str = "silu"

    @nn.compact
    def __call__(self, obs: Array, z: Array, time: Array) -> Array:
        """[...] value from obs [..., D] normalised, z [...] int32 and time [...] in [0, 1]."""
        parts = (fourier_features(obs, self.octaves), jax.nn.one_hot(z, self.num_modes), time[..., None])
        network = MLP(self.hidden, 1, activation=self.activation, zero_last=True)
        return network(jnp.concatenate(parts, -1))[..., 0]
