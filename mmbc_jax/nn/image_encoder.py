r"""A small convolutional encoder of images that keeps where things are.

Stem, residual stages and spatial softmax: with h [H, W, C] the last feature map and p_c its softmax over the
pixels of channel c,

  keypoint_c = (sum_ij p_c(i, j) x_j, sum_ij p_c(i, j) y_i),   x_j = 2 j / (W - 1) - 1,   y_i = 2 i / (H - 1) - 1,

the expected pixel in [-1, 1]^2, row 0 at y = -1. A dense layer maps the 2 C coordinates to the features.

Residual blocks: He et al. 2016, https://arxiv.org/abs/1512.03385. Spatial softmax: Levine et al. 2016,
https://arxiv.org/abs/1504.00702. Group instead of batch normalisation, which a moving average of the weights would
contradict: Wu and He 2018, https://arxiv.org/abs/1803.08494; the pair is that of Chi et al. 2023,
https://arxiv.org/abs/2303.04137.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Array
from mmbc_jax.nn.convolution import Convolution
from mmbc_jax.nn.mlp import ACTIVATIONS
from mmbc_jax.nn.precision import Dense, Network


def scale_image(image: Array) -> Array:
    """Float32 in [-1, 1] of a uint8 `image`; floats pass as they are, taken to be scaled already."""
    return image.astype(jnp.float32) / 127.5 - 1.0 if image.dtype == jnp.uint8 else image


def spatial_softmax(logits: Array) -> Array:
    """Expected pixel coordinates of every channel; see the module docstring.

    Args:
      logits: [..., H, W, C].

    Returns:
      [..., 2 C] in [-1, 1]: x of all channels, then y. A side of one pixel has coordinate 0.
    """
    height, width, channels = logits.shape[-3:]
    flat = logits.reshape(*logits.shape[:-3], height * width, channels)
    weights = jax.nn.softmax(flat, axis=-2).reshape(logits.shape)
    y, x = (jnp.linspace(-1.0, 1.0, n) if n > 1 else jnp.zeros(1) for n in (height, width))
    across, down = weights.sum(-3), weights.sum(-2)  # [..., W, C], [..., H, C]
    return jnp.concatenate([x @ across, y @ down], axis=-1)


class ResidualBlock(nn.Module):
    """act(s(x) + norm(conv(act(norm(conv(x)))))), s the identity or, on a change of width, a 1 x 1 convolution.

    Attributes:
      channels: width of the output.
      groups: of the normalisations; divides `channels`.
      activation: a key of `ACTIVATIONS`.
    """

    channels: int
    groups: int
    activation: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [B, H, W, I] to [B, H, W, channels]."""
        act = ACTIVATIONS[self.activation]
        h = Convolution(self.channels, 3)(x)
        h = Convolution(self.channels, 3)(act(nn.GroupNorm(self.groups)(h)))
        h = nn.GroupNorm(self.groups)(h)
        if x.shape[-1] != self.channels:
            x = Convolution(self.channels, 1, name="shortcut")(x)
        return act(x + h)


class ImageEncoder(Network):
    """Images to features; see the module docstring.

    The stem maps each patch of pixels to a vector, and every stage keeps that resolution: on 64 x 64 images patches
    larger than 4 x 4 located a point worse after as many steps.

    Attributes:
      features: F.
      channels: width of each stage, one residual block each; the first is the stem's too.
      groups: of every normalisation; divides every width.
      activation: a key of `ACTIVATIONS`.
      patch: pixels a side of what the stem maps.
    """

    features: int = 64
    channels: tuple[int, ...] = (16, 32)
    groups: int = 4
    activation: str = "relu"
    patch: int = 4

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """Maps [..., H, W, C], uint8 or floats in [-1, 1], to [..., F] float32."""
        if not self.channels or any(width % self.groups for width in self.channels):
            raise ConfigError("channels", self.channels, f"one or more multiples of groups = {self.groups}")
        x = scale_image(image).reshape(-1, *image.shape[-3:])
        x = Convolution(self.channels[0], self.patch, self.patch, name="stem")(x)
        x = ACTIVATIONS[self.activation](nn.GroupNorm(self.groups, name="stem_norm")(x))
        for index, width in enumerate(self.channels):
            x = ResidualBlock(width, self.groups, self.activation, name=f"stage_{index}")(x)
        y = Dense(self.features, name="out")(spatial_softmax(x))
        return y.reshape(*image.shape[:-3], self.features)
