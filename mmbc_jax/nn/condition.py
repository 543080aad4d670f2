"""The condition vector that modulates a network: of the observation's features, further inputs and the time."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.types import Array
from mmbc_jax.nn.embedding import time_embedding
from mmbc_jax.nn.mlp import ACTIVATIONS
from mmbc_jax.nn.precision import Dense


class Condition(nn.Module):
    """c = W act(W_o [f, extra] + W_t e(t) + b) + b'; `encode` is the part that no time enters.

    Attributes:
      width: size of c and of the layer before it.
      activation: a key of `nn.mlp.ACTIVATIONS`.
      time_dim: size of the time embedding, even.
    """

    width: int
    activation: str = "gelu"
    time_dim: int = 32

    def setup(self) -> None:
        """Declares the layers; without a time `from_time` owns no parameters."""
        self.from_obs = Dense(self.width)
        self.from_time = Dense(self.width, use_bias=False)
        self.last = Dense(self.width)

    def encode(self, features: Array, extra: Array | None = None) -> Array:
        """[..., width] from features f [..., F] of the observation and extra [..., E]."""
        return self.from_obs(features if extra is None else jnp.concatenate([features, extra], -1))

    def decode(self, t: Array | None, context: Array) -> Array:
        """c [..., width] from t [], [...] or None and context [..., width] of `encode`."""
        h = context if t is None else self.from_time(time_embedding(t, self.time_dim)) + context
        return self.last(ACTIVATIONS[self.activation](h))

    def __call__(self, t: Array | None, features: Array, extra: Array | None = None) -> Array:
        """c [..., width] of all inputs."""
        return self.decode(t, self.encode(features, extra))
