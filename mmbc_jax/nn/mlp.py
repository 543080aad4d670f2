"""Multi-layer perceptron, plain or residual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.types import Array
from mmbc_jax.nn.precision import Dense, Network, precision_of, product


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
    "tanh": jnp.tanh,
}


class BoundedDense(nn.Module):
    """A dense layer whose spectral norm cannot exceed `bound`.

    The kernel is W min(1, bound / sqrt(|W|_1 |W|_inf)), with the largest absolute column and row sums; their
    geometric mean is at least the spectral norm (Golub and Van Loan 2013, 2.3), so the bound is certain,
    without an iteration, and not tight.

    Attributes:
      features: size of the output.
      bound: on the spectral norm, > 0.
      use_bias: add a bias.
      kernel_init: initialiser of W.
    """

    features: int
    bound: float
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., I] to [..., features]."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        size = jnp.abs(kernel)
        squared = size.sum(0).max() * size.sum(1).max()
        # min(1, bound / norm) in a form whose gradient exists at a kernel of zeros
        bounded = kernel * (self.bound * jax.lax.rsqrt(jnp.maximum(squared, self.bound**2)))
        y = product(x, bounded, (((x.ndim - 1,), (0,)), ((), ())), precision_of(self))
        return y + self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else y


def dense(features: int, bound: float = 0.0, **options: Any) -> nn.Module:
    """A dense layer, of bounded spectral norm where `bound` > 0; `options` are those of `nn.Dense`."""
    return BoundedDense(features, bound, **options) if bound > 0.0 else Dense(features, **options)


class MLP(Network):
    """Dense layers with an activation between them and a linear last layer.

    h_{i+1} = act(norm(W_i h_i + b_i)), or h_i + that where `residual` is set and the widths agree.

    Attributes:
      hidden: widths of the hidden layers; empty leaves a single linear map.
      out: width of the output.
      activation: a key of `ACTIVATIONS`.
      layer_norm: normalise before each activation.
      residual: add the input of a hidden layer to its output where their widths agree.
      zero_last: initialise the last layer with zeros, so that the untrained output is exactly 0.
      spectral_norm: bound of each layer's spectral norm; 0 for none.
    """

    hidden: tuple[int, ...]
    out: int
    activation: str = "gelu"
    layer_norm: bool = False
    residual: bool = False
    zero_last: bool = False
    spectral_norm: float = 0.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., I] to [..., out]."""
        act = ACTIVATIONS[self.activation]
        for width in self.hidden:
            h = dense(width, self.spectral_norm)(x)
            if self.layer_norm:
                h = nn.LayerNorm()(h)
            h = act(h)
            x = x + h if self.residual and x.shape[-1] == width else h
        last = nn.initializers.zeros if self.zero_last else nn.initializers.lecun_normal()
        return dense(self.out, self.spectral_norm, kernel_init=last)(x)
