"""Multi-layer perceptron, plain or residual."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.types import Array


def mish(x: Array) -> Array:
    """x tanh(softplus(x)) (Misra 2019).

    With e = exp(x), tanh(log(1 + e)) = n / (n + 2) for n = e (e + 2): one exponential, where the
    definition costs four times as much in a gradient. Beyond x = 20 the factor is 1 in float32.
    """
    e = jnp.exp(jnp.minimum(x, 20.0))
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": jax.nn.gelu,
    "mish": mish,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


class MLP(nn.Module):
    """Dense layers with an activation between them and a linear last layer.

    h_{i+1} = act(norm(W_i h_i + b_i)), or h_i + that where `residual` is set and the widths agree.

    Attributes:
      hidden: widths of the hidden layers; empty leaves a single linear map.
      out: width of the output.
      activation: a key of `ACTIVATIONS`.
      layer_norm: normalise before each activation.
      residual: add the input of a hidden layer to its output where their widths agree.
      zero_last: initialise the last layer with zeros, so that the untrained output is exactly 0.
    """

    hidden: tuple[int, ...]
    out: int
    activation: str = "gelu"
    layer_norm: bool = False
    residual: bool = False
    zero_last: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., I] to [..., out]."""
        act = ACTIVATIONS[self.activation]
        for width in self.hidden:
            h = nn.Dense(width)(x)
            if self.layer_norm:
                h = nn.LayerNorm()(h)
            h = act(h)
            x = x + h if self.residual and x.shape[-1] == width else h
        last = nn.initializers.zeros if self.zero_last else nn.initializers.lecun_normal()
        return nn.Dense(self.out, kernel_init=last)(x)
