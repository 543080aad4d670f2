"""The MLP backbone: over (noisy chunk, time, observation), cheap to evaluate often for one observation."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import Array
from mmbc_jax.nn.embedding import time_embedding
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP, dense
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.nn.precision import Network


class ChunkMLP(Network):
    """MLP from an observation and, where given, a noisy chunk and a time, to a chunk.

    The first layer is linear in its parts, h = act(norm(W_x x + W_t e(t) + W_o [f, extra] + b)), because
    a sampler asks for many times t and one observation: `encode` computes the last part once, `decode` does
    the rest. With t a scalar the time part is a single row for the whole batch.

    Attributes:
      obs_encoder: makes features of an observation.
      event_shape: (H, O) of the output.
      hidden: widths of the hidden layers, at least one.
      activation: a key of `nn.mlp.ACTIVATIONS`.
      layer_norm: normalise before each activation.
      residual: skip connections between hidden layers of equal width.
      time_dim: size of the time embedding, even.
      spectral_norm: bound of each layer's spectral norm; 0 for none.
    """

    obs_encoder: ObsEncoder
    event_shape: tuple[int, int]
    hidden: tuple[int, ...]
    activation: str = "gelu"
    layer_norm: bool = False
    residual: bool = False
    time_dim: int = 32
    spectral_norm: float = 0.0

    def setup(self) -> None:
        """Declares the parts of the first layer and the layers behind it; unused parts own no parameters."""
        width = self.hidden[0]
        self.from_x = dense(width, self.spectral_norm, use_bias=False)
        self.from_time = dense(width, self.spectral_norm, use_bias=False)
        self.from_obs = dense(width, self.spectral_norm)
        self.norm = nn.LayerNorm() if self.layer_norm else None
        self.trunk = MLP(
            hidden=self.hidden[1:],
            out=self.event_shape[0] * self.event_shape[1],
            activation=self.activation,
            layer_norm=self.layer_norm,
            residual=self.residual,
            zero_last=True,
            spectral_norm=self.spectral_norm,
        )

    def observe(self, obs: Obs) -> Array:
        """[..., F] the observation's features."""
        return self.obs_encoder(obs)

    def encode(self, features: Array, extra: Array | None = None) -> Array:
        """The conditions' part of the first layer: [..., F] and [..., E] to [..., hidden[0]]."""
        return self.from_obs(features if extra is None else jnp.concatenate([features, extra], -1))

    def decode(self, x: Array | None, t: Array | None, context: Array) -> Array:
        """The network behind `encode`.

        Args:
          x: [..., H, I] noisy chunk, or None.
          t: [] or [...] time in [0, 1], or None.
          context: [..., hidden[0]] from `encode`.

        Returns:
          [..., H, O].
        """
        h = context
        if x is not None:
            h = self.from_x(x.reshape(*x.shape[:-2], -1)) + h
        if t is not None:
            h = self.from_time(time_embedding(t, self.time_dim)) + h
        if self.norm is not None:
            h = self.norm(h)
        out = self.trunk(ACTIVATIONS[self.activation](h))
        return out.reshape(*out.shape[:-1], *self.event_shape)

    def __call__(self, x: Array | None, t: Array | None, obs: Obs, extra: Array | None = None) -> Array:
        """[..., H, O] from x [..., H, I], t [] or [...], an observation and extra [..., E]."""
        return self.decode(x, t, self.encode(self.observe(obs), extra))
