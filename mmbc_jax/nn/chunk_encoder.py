"""Encoders of (chunk, observation) into one vector: posteriors q(z | chunk, obs) and energies E(obs, chunk)."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.types import Array
from mmbc_jax.nn.chunk_transformer import FEED_FORWARD, SelfAttention, initial_positions
from mmbc_jax.nn.chunk_unet import DownPath
from mmbc_jax.nn.condition import Condition
from mmbc_jax.nn.embedding import fourier_features
from mmbc_jax.nn.mlp import MLP


class MLPEncoder(nn.Module):
    """MLP on [flattened chunk, features of the observation].

    Attributes:
      out_dim: size of the output.
      hidden: widths of the hidden layers.
      activation: a key of `nn.mlp.ACTIVATIONS`.
      layer_norm: normalise before each activation.
      residual: skip connections between hidden layers of equal width.
      fourier_octaves: octaves of `fourier_features` of the observation.
      spectral_norm: bound of each layer's spectral norm; 0 for none.
    """

    out_dim: int
    hidden: tuple[int, ...]
    activation: str = "gelu"
    layer_norm: bool = False
    residual: bool = False
    fourier_octaves: int = 4
    spectral_norm: float = 0.0

    @nn.compact
    def __call__(self, chunk: Array, obs: Array) -> Array:
        """[..., out_dim] from chunk [..., H, A] and obs [..., D]."""
        flat = chunk.reshape(*chunk.shape[:-2], -1)
        trunk = MLP(
            self.hidden,
            self.out_dim,
            self.activation,
            self.layer_norm,
            self.residual,
            spectral_norm=self.spectral_norm,
            name="trunk",
        )
        return trunk(jnp.concatenate([flat, fourier_features(obs, self.fourier_octaves)], -1))


class TransformerEncoder(nn.Module):
    """Transformer over the actions with the observation as a further token; the mean token is read out.

    Blocks are x <- x + Attn(LN(x)), x <- x + MLP(LN(x)).

    Attributes:
      out_dim: size of the output.
      width: of a token, even.
      depth: number of blocks.
      heads: of each attention, divides `width`.
      activation: a key of `nn.mlp.ACTIVATIONS`.
      fourier_octaves: octaves of `fourier_features` of the observation.
    """

    out_dim: int
    width: int
    depth: int
    heads: int
    activation: str = "gelu"
    fourier_octaves: int = 4

    @nn.compact
    def __call__(self, chunk: Array, obs: Array) -> Array:
        """[..., out_dim] from chunk [..., H, A] and obs [..., D]."""
        positions = self.param("positions", initial_positions, chunk.shape[-2], self.width)
        actions = nn.Dense(self.width, name="from_chunk")(chunk) + positions
        token = nn.Dense(self.width, name="from_obs")(fourier_features(obs, self.fourier_octaves))
        lead = jnp.broadcast_shapes(actions.shape[:-2], token.shape[:-1])
        parts = (actions, token[..., None, :])
        x = jnp.concatenate([jnp.broadcast_to(p, (*lead, *p.shape[-2:])) for p in parts], axis=-2)
        for _ in range(self.depth):
            x = x + SelfAttention(self.heads)(nn.LayerNorm()(x))
            x = x + MLP((FEED_FORWARD * self.width,), self.width, self.activation)(nn.LayerNorm()(x))
        return nn.Dense(self.out_dim, name="last")(nn.LayerNorm()(x).mean(-2))


class UNetEncoder(nn.Module):
    """The way down of a U-Net, modulated by the observation; the mean along the chunk is read out.

    Attributes:
      out_dim: size of the output.
      channels: of each level; every level after the first halves the length.
      width: of the condition vector.
      activation: a key of `nn.mlp.ACTIVATIONS`.
      fourier_octaves: octaves of `fourier_features` of the observation.
    """

    out_dim: int
    channels: tuple[int, ...]
    width: int
    activation: str = "gelu"
    fourier_octaves: int = 4

    @nn.compact
    def __call__(self, chunk: Array, obs: Array) -> Array:
        """[..., out_dim] from chunk [..., H, A] and obs [..., D]."""
        condition = Condition(self.width, self.activation, self.fourier_octaves)(None, obs)
        levels = DownPath(self.channels, self.activation)(chunk, condition)
        return nn.Dense(self.out_dim, name="last")(levels[-1].mean(-2))
