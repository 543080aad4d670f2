"""A network over (noisy chunk, time, observation), cheap to evaluate many times for one observation."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.nn.embedding import fourier_features, time_embedding
from mmbc_jax.nn.mlp import ACTIVATIONS, MLP


class FieldMLP(nn.Module):
    """Time-conditioned MLP from a noisy chunk to a chunk.

    The first layer is linear in three parts, h = act(norm(W_x x + W_t e(t) + W_o f(o) + b)), because a
    sampler asks for many times t and one observation: `encode` computes the last part once, `decode` does
    the rest. With t a scalar the time part is a single row for the whole batch.

    Attributes:
      event_shape: (H, A).
      hidden: widths of the hidden layers, at least one.
      activation: a key of `nn.mlp.ACTIVATIONS`.
      layer_norm: normalise before each activation.
      residual: skip connections between hidden layers of equal width.
      fourier_octaves: octaves of `fourier_features` of the observation.
      time_dim: size of the time embedding, even.
    """

    event_shape: tuple[int, int]
    hidden: tuple[int, ...]
    activation: str = "gelu"
    layer_norm: bool = False
    residual: bool = False
    fourier_octaves: int = 4
    time_dim: int = 32

    def setup(self) -> None:
        """Declares the three parts of the first layer and the layers behind it."""
        width = self.hidden[0]
        self.from_x = nn.Dense(width, use_bias=False)
        self.from_time = nn.Dense(width, use_bias=False)
        self.from_obs = nn.Dense(width)
        self.norm = nn.LayerNorm() if self.layer_norm else None
        self.trunk = MLP(
            hidden=self.hidden[1:],
            out=self.event_shape[0] * self.event_shape[1],
            activation=self.activation,
            layer_norm=self.layer_norm,
            residual=self.residual,
            zero_last=True,
        )

    def encode(self, obs: Array) -> Array:
        """The observation's part of the first layer: [..., D] to [..., hidden[0]]."""
        return self.from_obs(fourier_features(obs, self.fourier_octaves))

    def decode(self, x: Array, t: Array, context: Array) -> Array:
        """The network behind `encode`.

        Args:
          x: [..., H, A] noisy chunk.
          t: [] or [...] time in [0, 1].
          context: [..., hidden[0]] from `encode`.

        Returns:
          [..., H, A].
        """
        flat = x.reshape(*x.shape[:-2], -1)
        h = self.from_x(flat) + self.from_time(time_embedding(t, self.time_dim)) + context
        if self.norm is not None:
            h = self.norm(h)
        return self.trunk(ACTIVATIONS[self.activation](h)).reshape(x.shape)

    def __call__(self, x: Array, t: Array, obs: Array) -> Array:
        """[..., H, A] from x [..., H, A], t [] or [...] and obs [..., D]."""
        return self.decode(x, t, self.encode(obs))


def bind_field(module: FieldMLP, params: PyTree, obs: Array) -> Callable[[Array, Array], Array]:
    """The network as a function of (x, t) for fixed observations.

    Args:
      module: the network.
      params: its parameters.
      obs: [..., D].

    Returns:
      A function of x [..., H, A] and t [] or [...] that returns [..., H, A]; the observation is encoded
      once, here.
    """
    context = module.apply({"params": params}, obs, method=module.encode)

    def predict(x: Array, t: Array) -> Array:
        return jnp.asarray(module.apply({"params": params}, x, t, context, method=module.decode))

    return predict
