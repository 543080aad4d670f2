"""The transformer backbone: one token per action, every block modulated by observation and time.

A block is x <- x + g1 Attn(m1(x)), x <- x + g2 MLP(m2(x)) with m(x) = (1 + scale) LN(x) + shift, where scales,
shifts and gates are linear in act(c), zero at first, and c is the condition vector. An untrained block
is thus the identity (AdaLN-Zero, Peebles & Xie 2023).
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import Array, Key
from mmbc_jax.nn.condition import Condition
from mmbc_jax.nn.embedding import time_embedding
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.nn.precision import Dense, DenseGeneral, Network, dot_general_in, precision_of

FEED_FORWARD = 2  # width of a block's hidden layer, in widths of a token


def initial_positions(key: Key, length: int, width: int) -> Array:
    """[length, width] sinusoids of the place in the chunk, from which learned positions start; no randomness."""
    return time_embedding(jnp.linspace(0.0, 1.0, length), width)


class SelfAttention(nn.Module):
    """Multi-head attention of tokens on each other, softmax(q k^T / sqrt(width / heads)) v (Vaswani et al. 2017).

    Attributes:
      heads: number of heads, divides the width of a token.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps tokens [..., H, width] to [..., H, width]."""
        width = x.shape[-1]
        qkv = DenseGeneral((3, self.heads, width // self.heads), name="qkv")(x)
        q, k, v = (qkv[..., i, :, :] for i in range(3))
        out = nn.dot_product_attention(q, k, v, einsum_dot_general=dot_general_in(precision_of(self)))
        return Dense(width, name="out")(out.reshape(*out.shape[:-2], width))


class Modulation(nn.Module):
    """Vectors that are linear in act(c) and zero at first.

    Attributes:
      count: how many.
      width: size of each.
      activation: a key of `nn.mlp.ACTIVATIONS`.
    """

    count: int
    width: int
    activation: str = "gelu"

    @nn.compact
    def __call__(self, condition: Array) -> list[Array]:
        """`count` arrays [..., 1, width] from c [..., C]; the axis of length 1 is that of the tokens."""
        layer = Dense(self.count * self.width, kernel_init=nn.initializers.zeros, name="linear")
        return jnp.split(layer(ACTIVATIONS[self.activation](condition))[..., None, :], self.count, axis=-1)


class AdaLNBlock(nn.Module):
    """One block; see the head of this file.

    Attributes:
      heads: of the attention.
      activation: a key of `nn.mlp.ACTIVATIONS`.
    """

    heads: int
    activation: str = "gelu"

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> Array:
        """Tokens [..., H, width] from tokens of that shape and c [..., C]."""
        width = x.shape[-1]
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = Modulation(
            6, width, self.activation, name="modulation"
        )(condition)
        norm = nn.LayerNorm(use_scale=False, use_bias=False)
        x = x + gate * SelfAttention(self.heads, name="attention")((1.0 + scale) * norm(x) + shift)
        mlp = MLP((FEED_FORWARD * width,), width, self.activation, name="mlp")
        return x + gate_mlp * mlp((1.0 + scale_mlp) * norm(x) + shift_mlp)


class ChunkTransformer(Network):
    """Transformer from an observation and, where given, a noisy chunk and a time, to a chunk.

    A token is its learned position plus, where there is a noisy chunk, a linear map of its action; without
    one the positions are learned queries.

    Attributes:
      obs_encoder: makes features of an observation.
      event_shape: (H, O) of the output.
      width: of a token and of the condition vector, even.
      depth: number of blocks.
      heads: of each attention, divides `width`.
      activation: a key of `nn.mlp.ACTIVATIONS`.
      time_dim: size of the time embedding, even.
    """

    obs_encoder: ObsEncoder
    event_shape: tuple[int, int]
    width: int
    depth: int
    heads: int
    activation: str = "gelu"
    time_dim: int = 32

    def setup(self) -> None:
        """Declares the layers; unused ones own no parameters."""
        self.condition = Condition(self.width, self.activation, self.time_dim)
        self.positions = self.param("positions", initial_positions, self.event_shape[0], self.width)
        self.from_x = Dense(self.width)
        self.blocks = [AdaLNBlock(self.heads, self.activation) for _ in range(self.depth)]
        self.norm = nn.LayerNorm(use_scale=False, use_bias=False)
        self.modulation = Modulation(2, self.width, self.activation)
        self.last = Dense(self.event_shape[1], kernel_init=nn.initializers.zeros)

    def observe(self, obs: Obs) -> Array:
        """[..., F] the observation's features."""
        return self.obs_encoder(obs)

    def encode(self, features: Array, extra: Array | None = None) -> Array:
        """The conditions' part of the condition vector: [..., F] and [..., E] to [..., width]."""
        return self.condition.encode(features, extra)

    def decode(self, x: Array | None, t: Array | None, context: Array) -> Array:
        """The network behind `encode`.

        Args:
          x: [..., H, I] noisy chunk, or None.
          t: [] or [...] time in [0, 1], or None.
          context: [..., width] from `encode`.

        Returns:
          [..., H, O].
        """
        condition = self.condition.decode(t, context)
        tokens = self.positions if x is None else self.from_x(x) + self.positions
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.modulation(condition)
        return self.last((1.0 + scale) * self.norm(tokens) + shift)

    def __call__(self, x: Array | None, t: Array | None, obs: Obs, extra: Array | None = None) -> Array:
        """[..., H, O] from x [..., H, I], t [] or [...], an observation and extra [..., E]."""
        return self.decode(x, t, self.encode(self.observe(obs), extra))
