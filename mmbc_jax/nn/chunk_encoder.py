"""Encoders of (chunk, observation) into one vector: posteriors q(z | chunk, obs) and energies E(obs, chunk).

Whoever reads many chunks at one observation calls `observe` once and `read` often.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import Array
from mmbc_jax.nn.chunk_transformer import FEED_FORWARD, SelfAttention, initial_positions
from mmbc_jax.nn.chunk_unet import DownPath
from mmbc_jax.nn.condition import Condition
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.nn.precision import Dense, Network


class MLPEncoder(Network):
    """MLP on [flattened chunk, features of the observation].

    Attributes:
      obs_encoder: makes features of an observation.
      out_dim: size of the output.
      hidden: widths of the hidden layers.
      activation: a key of `nn.mlp.ACTIVATIONS`.
      layer_norm: normalise before each activation.
      residual: skip connections between hidden layers of equal width.
      spectral_norm: bound of each layer's spectral norm; 0 for none.
    """

    obs_encoder: ObsEncoder
    out_dim: int
    hidden: tuple[int, ...]
    activation: str = "gelu"
    layer_norm: bool = False
    residual: bool = False
    spectral_norm: float = 0.0

    def observe(self, obs: Obs) -> Array:
        """[..., F] the observation's features."""
        return self.obs_encoder(obs)

    @nn.compact
    def read(self, chunk: Array, features: Array) -> Array:
        """[..., out_dim] from chunk [..., H, A] and features [..., F]."""
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
        return trunk(jnp.concatenate([flat, features], -1))

    def __call__(self, chunk: Array, obs: Obs) -> Array:
        """[..., out_dim] from chunk [..., H, A] and its observation."""
        return self.read(chunk, self.observe(obs))


class TransformerEncoder(Network):
    """Transformer over the actions with the observation as a further token; the mean token is read out.

    Blocks are x <- x + Attn(LN(x)), x <- x + MLP(LN(x)).

    Attributes:
      obs_encoder: makes features of an observation.
      out_dim: size of the output.
      width: of a token, even.
      depth: number of blocks.
      heads: of each attention, divides `width`.
      activation: a key of `nn.mlp.ACTIVATIONS`.
    """

    obs_encoder: ObsEncoder
    out_dim: int
    width: int
    depth: int
    heads: int
    activation: str = "gelu"

    def observe(self, obs: Obs) -> Array:
        """[..., F] the observation's features."""
        return self.obs_encoder(obs)

    @nn.compact
    def read(self, chunk: Array, features: Array) -> Array:
        """[..., out_dim] from chunk [..., H, A] and features [..., F]."""
        positions = self.param("positions", initial_positions, chunk.shape[-2], self.width)
        actions = Dense(self.width, name="from_chunk")(chunk) + positions
        token = Dense(self.width, name="from_obs")(features)
        lead = jnp.broadcast_shapes(actions.shape[:-2], token.shape[:-1])
        parts = (actions, token[..., None, :])
        x = jnp.concatenate([jnp.broadcast_to(p, (*lead, *p.shape[-2:])) for p in parts], axis=-2)
        for _ in range(self.depth):
            x = x + SelfAttention(self.heads)(nn.LayerNorm()(x))
            x = x + MLP((FEED_FORWARD * self.width,), self.width, self.activation)(nn.LayerNorm()(x))
        return Dense(self.out_dim, name="last")(nn.LayerNorm()(x).mean(-2))

    def __call__(self, chunk: Array, obs: Obs) -> Array:
        """[..., out_dim] from chunk [..., H, A] and its observation."""
        return self.read(chunk, self.observe(obs))


class UNetEncoder(Network):
    """The way down of a U-Net, modulated by the observation; the mean along the chunk is read out.

    Attributes:
      obs_encoder: makes features of an observation.
      out_dim: size of the output.
      channels: of each level; every level after the first halves the length.
      width: of the condition vector.
      activation: a key of `nn.mlp.ACTIVATIONS`.
    """

    obs_encoder: ObsEncoder
    out_dim: int
    channels: tuple[int, ...]
    width: int
    activation: str = "gelu"

    def observe(self, obs: Obs) -> Array:
        """[..., F] the observation's features."""
        return self.obs_encoder(obs)

    @nn.compact
    def read(self, chunk: Array, features: Array) -> Array:
        """[..., out_dim] from chunk [..., H, A] and features [..., F]."""
        condition = Condition(self.width, self.activation)(None, features)
        levels = DownPath(self.channels, self.activation)(chunk, condition)
        return Dense(self.out_dim, name="last")(levels[-1].mean(-2))

    def __call__(self, chunk: Array, obs: Obs) -> Array:
        """[..., out_dim] from chunk [..., H, A] and its observation."""
        return self.read(chunk, self.observe(obs))
