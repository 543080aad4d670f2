"""The U-Net backbone: convolutions along the chunk at several lengths, modulated by observation and time.

Two residual blocks per level; from one level to the next the length halves. A residual block is
conv - GroupNorm - act - FiLM - conv - GroupNorm - act beside a shortcut, and FiLM is h <- (1 + scale) h + shift
with scale and shift linear in act(c), c the condition vector.

Source: Janner et al. 2022; Chi et al. 2023 (Diffusion Policy), which the levels and blocks follow. Lengths
double by a convolution to twice the channels and interleaving (Shi et al. 2016), of which the transposed
convolution used there is a special case.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import Array
from mmbc_jax.nn.condition import Condition
from mmbc_jax.nn.mlp import ACTIVATIONS
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.nn.precision import Dense, Network

KERNEL = 5  # of the convolutions in residual blocks
MAX_GROUPS, MIN_GROUP = 8, 8  # groups of a GroupNorm and channels in each


def num_groups(channels: int) -> int:
    """Groups of equal size for a GroupNorm: at most 8, none below 8 channels if it can be avoided.

    At length 1 a group of a single channel would be normalised to zero, whatever it holds.
    """
    fitting = [g for g in range(1, MAX_GROUPS + 1) if channels % g == 0 and channels >= g * MIN_GROUP]
    return max(fitting, default=1)


def pad_to_multiple(x: Array, multiple: int) -> Array:
    """x [..., L, C] with its last row repeated until `multiple` divides the length."""
    extra = -x.shape[-2] % multiple
    last = jnp.broadcast_to(x[..., -1:, :], (*x.shape[:-2], extra, x.shape[-1]))
    return jnp.concatenate([x, last], axis=-2) if extra else x


class Conv1d(nn.Module):
    """Convolution along the last axis but one, zero-padded, as one matrix product over shifted copies.

    y_i = b + sum_k W_k x_{stride i + k - (kernel-1)/2}. Chunks are short, so XLA's convolution is several times
    slower on a CPU, and under `vmap` over parameters it becomes a grouped one where this is a batched product.

    Attributes:
      features: output channels.
      kernel: odd number of taps.
      stride: keeps every stride-th output.
    """

    features: int
    kernel: int = KERNEL
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps [..., L, C] to [..., ceil(L / stride), features]."""
        length, half = x.shape[-2], self.kernel // 2
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(half, half), (0, 0)])
        taps = [padded[..., k : k + length : self.stride, :] for k in range(self.kernel)]
        rows = jnp.concatenate(taps, -1)
        # one axis of rows: XLA's CPU product sums a kernel's gradient over two axes up to 1.3 times more slowly
        flat = Dense(self.features, name="taps")(rows.reshape(-1, rows.shape[-1]))
        return flat.reshape(*rows.shape[:-1], self.features)


class FiLMBlock(nn.Module):
    """One residual block; see the head of this file.

    Attributes:
      channels: of the output.
      activation: a key of `nn.mlp.ACTIVATIONS`.
    """

    channels: int
    activation: str = "gelu"

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> Array:
        """[..., L, channels] from x [..., L, C] and c [..., W]."""
        act = ACTIVATIONS[self.activation]
        groups = num_groups(self.channels)
        axes = (-2, -1)  # statistics never cross examples
        h = Conv1d(self.channels, name="conv_in")(x)
        h = act(nn.GroupNorm(groups, reduction_axes=axes, name="norm_in")(h))
        film = Dense(2 * self.channels, name="film")(act(condition))[..., None, :]
        scale, shift = jnp.split(film, 2, axis=-1)
        h = (1.0 + scale) * h + shift
        h = Conv1d(self.channels, name="conv_out")(h)
        h = act(nn.GroupNorm(groups, reduction_axes=axes, name="norm_out")(h))
        return h + (x if x.shape[-1] == self.channels else Dense(self.channels, name="shortcut")(x))


class DownPath(nn.Module):
    """The levels of a U-Net on the way down.

    Attributes:
      channels: of each level.
      activation: a key of `nn.mlp.ACTIVATIONS`.
    """

    channels: tuple[int, ...]
    activation: str = "gelu"

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> list[Array]:
        """The output of each level, [..., ceil(L / 2^i), channels_i], from x [..., L, C] and c [..., W]."""
        levels: list[Array] = []
        for channels in self.channels:
            if levels:
                x = Conv1d(levels[-1].shape[-1], kernel=3, stride=2)(x)
            for _ in range(2):
                x = FiLMBlock(channels, self.activation)(x, condition)
            levels.append(x)
        return levels


class UpPath(nn.Module):
    """The levels of a U-Net on the way up, each with the output of the way down beside its input.

    Attributes:
      activation: a key of `nn.mlp.ACTIVATIONS`.
    """

    activation: str = "gelu"

    @nn.compact
    def __call__(self, levels: list[Array], condition: Array) -> Array:
        """[..., L, channels_0] from the outputs of `DownPath`, each half as long as the last, and c [..., W]."""
        x = levels[-1]
        for _ in range(2):
            x = FiLMBlock(x.shape[-1], self.activation)(x, condition)
        for skip in reversed(levels[:-1]):
            channels = skip.shape[-1]
            x = Conv1d(2 * channels, kernel=3)(x)
            x = x.reshape(*skip.shape[:-2], -1, channels)
            x = jnp.concatenate([x, skip], -1)
            for _ in range(2):
                x = FiLMBlock(channels, self.activation)(x, condition)
        return x


class ChunkUNet(Network):
    """U-Net from an observation and, where given, a noisy chunk and a time, to a chunk.

    Any H works: the chunk is padded to a length that halves evenly and the output cropped. Without a noisy
    chunk a learned sequence takes its place.

    Attributes:
      obs_encoder: makes features of an observation.
      event_shape: (H, O) of the output.
      channels: of each level; every level after the first halves the length.
      width: of the condition vector.
      activation: a key of `nn.mlp.ACTIVATIONS`.
      time_dim: size of the time embedding, even.
    """

    obs_encoder: ObsEncoder
    event_shape: tuple[int, int]
    channels: tuple[int, ...]
    width: int
    activation: str = "gelu"
    time_dim: int = 32

    def setup(self) -> None:
        """Declares the layers; unused ones own no parameters."""
        self.condition = Condition(self.width, self.activation, self.time_dim)
        self.queries = nn.Embed(self.event_shape[0], self.channels[0])
        self.down = DownPath(self.channels, self.activation)
        self.up = UpPath(self.activation)
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
        length = self.event_shape[0]
        if x is None:
            x = self.queries.embedding  # not looked up, or the gradient would scatter
        condition = self.condition.decode(t, context)
        levels = self.down(pad_to_multiple(x, 2 ** (len(self.channels) - 1)), condition)
        return self.last(self.up(levels, condition)[..., :length, :])

    def __call__(self, x: Array | None, t: Array | None, obs: Obs, extra: Array | None = None) -> Array:
        """[..., H, O] from x [..., H, I], t [] or [...], an observation and extra [..., E]."""
        return self.decode(x, t, self.encode(self.observe(obs), extra))
