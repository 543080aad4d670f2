"""The MLP and the U-Net of `mmbc_jax.nn` in PyTorch, with the names of our parameters, and the weights to match.

Written as PyTorch's own users would: `nn.Conv1d` on [B, C, L] where ours multiplies shifted copies on [B, L, C],
gelu in the tanh form that `jax.nn.gelu` uses, normalisations with flax's epsilon. Only what the benchmarks
measure is here: Fourier features of the observation in the MLP alone, no layer norm in the MLP, lengths that
halve evenly.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmbc_jax.nn.chunk_unet import KERNEL, num_groups
from mmbc_jax.nn.embedding import MAX_TIME_FREQUENCY

ACTIVATIONS = {"gelu": functools.partial(functional.gelu, approximate="tanh"), "relu": functional.relu}
EPSILON = 1e-6  # of flax's LayerNorm and GroupNorm


class TimeEmbedding(nn.Module):
    """[..., dim] sines and cosines of t [...]; `mmbc_jax.nn.embedding.time_embedding`."""

    def __init__(self, dim: int):
        super().__init__()
        powers = np.geomspace(1.0, MAX_TIME_FREQUENCY, dim // 2)
        self.register_buffer("frequency", torch.tensor(powers, dtype=torch.float32))

    def forward(self, t: Tensor) -> Tensor:
        """[..., dim] of t [...]."""
        angle = t[..., None] * self.frequency
        return torch.cat([torch.sin(angle), torch.cos(angle)], -1)


class MLP(nn.Module):
    """Linear layers of the given sizes with an activation between them."""

    def __init__(self, sizes: tuple[int, ...], activation: str = "gelu", residual: bool = False):
        super().__init__()
        self.act, self.residual = ACTIVATIONS[activation], residual
        for index, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            self.add_module(f"Dense_{index}", nn.Linear(fan_in, fan_out))

    def forward(self, x: Tensor) -> Tensor:
        """[..., sizes[-1]] from x [..., sizes[0]]."""
        *hidden, last = self.children()
        for layer in hidden:
            h = self.act(layer(x))
            x = x + h if self.residual and h.shape[-1] == x.shape[-1] else h
        return last(x)


class FourierFeatures(nn.Module):
    """[..., D (1 + 2 octaves)] of an observation [..., D]; `mmbc_jax.nn.embedding.fourier_features`."""

    def __init__(self, octaves: int):
        super().__init__()
        self.register_buffer("frequency", math.pi * 2.0 ** torch.arange(octaves))

    def forward(self, obs: Tensor) -> Tensor:
        """The observation beside its sines and cosines."""
        angle = (obs[..., None] * self.frequency).flatten(-2)
        return torch.cat([obs, torch.sin(angle), torch.cos(angle)], -1)


class ChunkMLP(nn.Module):
    """`nn.chunk_mlp.ChunkMLP`: x [B, H, A], t [] or [B] and the observation to [B, H, A].

    Args:
      obs_dim: D.
      event_shape: (H, A).
      hidden: widths.
      time_dim: size of the time embedding.
      activation: a key of `ACTIVATIONS`.
      residual: as in `MLP`.
      octaves: of the observation's features; 0 for the observation itself.
    """

    def __init__(
        self,
        obs_dim: int,
        event_shape: tuple[int, int],
        hidden: tuple[int, ...],
        time_dim: int,
        activation: str,
        residual: bool,
        octaves: int = 0,
    ):
        super().__init__()
        size = event_shape[0] * event_shape[1]
        self.event_shape, self.act = event_shape, ACTIVATIONS[activation]
        self.embed = TimeEmbedding(time_dim)
        self.features = FourierFeatures(octaves) if octaves else nn.Identity()
        self.from_x = nn.Linear(size, hidden[0], bias=False)
        self.from_time = nn.Linear(time_dim, hidden[0], bias=False)
        self.from_obs = nn.Linear(obs_dim * (1 + 2 * octaves), hidden[0])
        self.trunk = MLP((*hidden, size), activation, residual)

    def encode(self, obs: Tensor) -> Tensor:
        """The observation's part of the first layer, [B, hidden[0]]."""
        return self.from_obs(self.features(obs))

    def decode(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """[B, H, A] from x [B, H, A], t [] or [B] and `context` of `encode`."""
        h = self.from_x(x.flatten(-2)) + self.from_time(self.embed(t)) + context
        return self.trunk(self.act(h)).unflatten(-1, self.event_shape)

    def forward(self, x: Tensor, t: Tensor, obs: Tensor) -> Tensor:
        """As `decode`, encoding the observation too."""
        return self.decode(x, t, self.encode(obs))


class Condition(nn.Module):
    """`nn.condition.Condition`: the vector c [B, width] that modulates a network."""

    def __init__(self, in_dim: int, width: int, time_dim: int, activation: str):
        super().__init__()
        self.act = ACTIVATIONS[activation]
        self.from_obs = nn.Linear(in_dim, width)
        if time_dim:
            self.embed = TimeEmbedding(time_dim)
            self.from_time = nn.Linear(time_dim, width, bias=False)
        self.last = nn.Linear(width, width)

    def encode(self, inputs: Tensor) -> Tensor:
        """The part without time, from observation and further inputs [B, in_dim]."""
        return self.from_obs(inputs)

    def decode(self, t: Tensor | None, context: Tensor) -> Tensor:
        """c [B, width] from t [], [B] or None and `context` of `encode`."""
        h = context if t is None else self.from_time(self.embed(t)) + context
        return self.last(self.act(h))


class FiLMBlock(nn.Module):
    """`nn.chunk_unet.FiLMBlock` on [B, C, L]."""

    def __init__(self, inputs: int, channels: int, width: int, activation: str):
        super().__init__()
        self.act = ACTIVATIONS[activation]
        self.conv_in = nn.Conv1d(inputs, channels, KERNEL, padding=KERNEL // 2)
        self.norm_in = nn.GroupNorm(num_groups(channels), channels, eps=EPSILON)
        self.film = nn.Linear(width, 2 * channels)
        self.conv_out = nn.Conv1d(channels, channels, KERNEL, padding=KERNEL // 2)
        self.norm_out = nn.GroupNorm(num_groups(channels), channels, eps=EPSILON)
        self.shortcut = nn.Conv1d(inputs, channels, 1) if inputs != channels else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[B, channels, L] from x [B, C, L] and c [B, width]."""
        h = self.act(self.norm_in(self.conv_in(x)))
        scale, shift = self.film(self.act(condition))[..., None].chunk(2, 1)
        h = (1.0 + scale) * h + shift
        h = self.act(self.norm_out(self.conv_out(h)))
        return h + self.shortcut(x)


class DownPath(nn.Module):
    """`nn.chunk_unet.DownPath` on [B, C, L]."""

    def __init__(self, inputs: int, channels: tuple[int, ...], width: int, activation: str):
        super().__init__()
        self.depth = len(channels)
        for level, size in enumerate(channels):
            if level:
                self.add_module(f"Conv1d_{level - 1}", nn.Conv1d(inputs, inputs, 3, stride=2, padding=1))
            self.add_module(f"FiLMBlock_{2 * level}", FiLMBlock(inputs, size, width, activation))
            self.add_module(f"FiLMBlock_{2 * level + 1}", FiLMBlock(size, size, width, activation))
            inputs = size

    def forward(self, x: Tensor, condition: Tensor) -> list[Tensor]:
        """The output of each level, [B, channels_i, L / 2^i]."""
        levels: list[Tensor] = []
        for level in range(self.depth):
            if level:
                x = getattr(self, f"Conv1d_{level - 1}")(x)
            x = getattr(self, f"FiLMBlock_{2 * level}")(x, condition)
            x = getattr(self, f"FiLMBlock_{2 * level + 1}")(x, condition)
            levels.append(x)
        return levels


class UpPath(nn.Module):
    """`nn.chunk_unet.UpPath` on [B, C, L]."""

    def __init__(self, channels: tuple[int, ...], width: int, activation: str):
        super().__init__()
        inputs = channels[-1]
        for level, size in enumerate(reversed(channels)):
            if level:
                self.add_module(f"Conv1d_{level - 1}", nn.Conv1d(inputs, 2 * size, 3, padding=1))
            first = 2 * size if level else size  # the way down comes beside it
            self.add_module(f"FiLMBlock_{2 * level}", FiLMBlock(first, size, width, activation))
            self.add_module(f"FiLMBlock_{2 * level + 1}", FiLMBlock(size, size, width, activation))
            inputs = size

    def forward(self, levels: list[Tensor], condition: Tensor) -> Tensor:
        """[B, channels_0, L] from the outputs of `DownPath` and c [B, width]."""
        x = levels[-1]
        for level, skip in enumerate(reversed(levels)):
            if level:
                x = getattr(self, f"Conv1d_{level - 1}")(x)
                # the two halves of the channels are neighbours in time
                x = x.unflatten(1, (2, -1)).permute(0, 2, 3, 1).flatten(2)
                x = torch.cat([x, skip], 1)
            x = getattr(self, f"FiLMBlock_{2 * level}")(x, condition)
            x = getattr(self, f"FiLMBlock_{2 * level + 1}")(x, condition)
        return x


class ChunkUNet(nn.Module):
    """`nn.chunk_unet.ChunkUNet` of a noisy chunk; H a multiple of 2^(levels - 1)."""

    def __init__(
        self,
        obs_dim: int,
        event_shape: tuple[int, int],
        channels: tuple[int, ...],
        width: int,
        time_dim: int,
        activation: str,
    ):
        super().__init__()
        if event_shape[0] % 2 ** (len(channels) - 1):
            raise ValueError(f"a chunk of {event_shape[0]} does not halve {len(channels) - 1} times")
        self.condition = Condition(obs_dim, width, time_dim, activation)
        self.down = DownPath(event_shape[1], channels, width, activation)
        self.up = UpPath(channels, width, activation)
        self.last = nn.Conv1d(channels[0], event_shape[1], 1)

    def encode(self, obs: Tensor) -> Tensor:
        """The observation's part of the condition vector, [B, width]."""
        return self.condition.encode(obs)

    def decode(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """[B, H, A] from x [B, H, A], t [] or [B] and `context` of `encode`."""
        condition = self.condition.decode(t, context)
        return self.last(self.up(self.down(x.mT, condition), condition)).mT


def copy_weights(params: Mapping[str, Any], module: nn.Module) -> None:
    """Copies flax parameters into the module that has the same names.

    Raises:
      ValueError: a parameter of the module got no value.
    """
    with torch.no_grad():
        copied = _copy(params, module)
    size = sum(param.numel() for param in module.parameters())
    if copied != size:
        raise ValueError(f"{copied} values for the {size} of {type(module).__name__}")


def _copy(params: Mapping[str, Any], module: nn.Module) -> int:
    """How many values went into `module`."""
    if isinstance(module, nn.Conv1d):  # ours: [taps * in, out], a shortcut [in, out]
        params = params.get("taps", params)
        kernel = _tensor(params["kernel"]).unflatten(0, (module.kernel_size[0], -1))
        return _fill(module.weight, kernel.permute(2, 1, 0)) + _fill(module.bias, _tensor(params["bias"]))
    if isinstance(module, nn.Linear):  # ours: [in, out], where out may be several axes
        count = _fill(module.weight, _tensor(params["kernel"]).flatten(1).T)
        return count + (_fill(module.bias, _tensor(params["bias"]).flatten()) if "bias" in params else 0)
    if isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
        return _fill(module.weight, _tensor(params["scale"])) + _fill(module.bias, _tensor(params["bias"]))
    count = 0
    for name, value in params.items():
        if isinstance(value, Mapping):
            count += _copy(value, getattr(module, name)) if value else 0
        else:
            count += _fill(getattr(module, name), _tensor(value))
    return count


def _tensor(value: Any) -> Tensor:
    return torch.tensor(np.asarray(value))


def _fill(param: Tensor, value: Tensor) -> int:
    if param.shape != value.shape:
        raise ValueError(f"{tuple(value.shape)} into a parameter of shape {tuple(param.shape)}")
    param.copy_(value)
    return value.numel()
