"""The transformer of `mmbc_jax.nn` in PyTorch: decoder without a noisy chunk, and encoder; names as in ours.

Attention is `scaled_dot_product_attention`, which PyTorch fuses; see `benchmarks.mirrors.networks` for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.mirrors.networks import ACTIVATIONS, EPSILON, MLP, Condition
from mmbc_jax.nn.chunk_transformer import FEED_FORWARD


class SelfAttention(nn.Module):
    """`nn.chunk_transformer.SelfAttention` of tokens [B, H, width]."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to tokens, both [B, H, width]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class Modulation(nn.Module):
    """`count` vectors [B, 1, width] that are linear in act(c)."""

    def __init__(self, count: int, width: int, activation: str):
        super().__init__()
        self.count, self.act = count, ACTIVATIONS[activation]
        self.linear = nn.Linear(width, count * width)

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        """The vectors of c [B, width]."""
        return self.linear(self.act(condition))[:, None].chunk(self.count, -1)


def normalise(x: Tensor) -> Tensor:
    """Layer norm over the last axis without parameters."""
    return functional.layer_norm(x, x.shape[-1:], eps=EPSILON)


class AdaLNBlock(nn.Module):
    """`nn.chunk_transformer.AdaLNBlock`."""

    def __init__(self, width: int, heads: int, activation: str):
        super().__init__()
        self.modulation = Modulation(6, width, activation)
        self.attention = SelfAttention(width, heads)
        self.mlp = MLP((width, FEED_FORWARD * width, width), activation)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens [B, H, width] of tokens and c [B, width]."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.modulation(condition)
        x = x + gate * self.attention((1.0 + scale) * normalise(x) + shift)
        return x + gate_mlp * self.mlp((1.0 + scale_mlp) * normalise(x) + shift_mlp)


class ChunkTransformer(nn.Module):
    """`nn.chunk_transformer.ChunkTransformer` without noisy chunk and time: a decoder of observation and latent."""

    def __init__(
        self, in_dim: int, event_shape: tuple[int, int], width: int, depth: int, heads: int, activation: str
    ):
        super().__init__()
        self.depth = depth
        self.condition = Condition(in_dim, width, 0, activation)
        self.positions = nn.Parameter(torch.zeros(event_shape[0], width))
        for index in range(depth):
            self.add_module(f"blocks_{index}", AdaLNBlock(width, heads, activation))
        self.modulation = Modulation(2, width, activation)
        self.last = nn.Linear(width, event_shape[1])

    def forward(self, obs: Tensor, z: Tensor) -> Tensor:
        """[B, H, A] from obs [B, D] and latent [B, W]."""
        condition = self.condition.decode(None, self.condition.encode(torch.cat([obs, z], -1)))
        x = self.positions
        for index in range(self.depth):
            x = getattr(self, f"blocks_{index}")(x, condition)
        shift, scale = self.modulation(condition)
        return self.last((1.0 + scale) * normalise(x) + shift)


class EncoderBlock(nn.Module):
    """x <- x + Attn(LN(x)), x <- x + MLP(LN(x))."""

    def __init__(self, width: int, heads: int, activation: str):
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=EPSILON)
        self.attention = SelfAttention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = MLP((width, FEED_FORWARD * width, width), activation)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to tokens, both [B, H + 1, width]."""
        x = x + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class TransformerEncoder(nn.Module):
    """`nn.chunk_encoder.TransformerEncoder`; `in_blocks` renames its parameters."""

    def __init__(
        self,
        obs_dim: int,
        event_shape: tuple[int, int],
        out_dim: int,
        width: int,
        depth: int,
        heads: int,
        activation: str,
    ):
        super().__init__()
        self.depth = depth
        self.positions = nn.Parameter(torch.zeros(event_shape[0], width))
        self.from_chunk = nn.Linear(event_shape[1], width)
        self.from_obs = nn.Linear(obs_dim, width)
        for index in range(depth):
            self.add_module(f"blocks_{index}", EncoderBlock(width, heads, activation))
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.last = nn.Linear(width, out_dim)

    def forward(self, chunk: Tensor, obs: Tensor) -> Tensor:
        """[B, out_dim] from chunk [B, H, A] and obs [B, D]."""
        x = torch.cat([self.from_chunk(chunk) + self.positions, self.from_obs(obs)[:, None]], 1)
        for index in range(self.depth):
            x = getattr(self, f"blocks_{index}")(x)
        return self.last(self.norm(x).mean(1))


def in_blocks(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of our encoder, where blocks have no names of their own, under those of `TransformerEncoder`."""
    depth = sum(name.startswith("MLP_") for name in params)
    renamed = {name: params[name] for name in ("positions", "from_chunk", "from_obs", "last")}
    renamed["norm"] = params[f"LayerNorm_{2 * depth}"]
    for index in range(depth):
        renamed[f"blocks_{index}"] = {
            "norm_attention": params[f"LayerNorm_{2 * index}"],
            "attention": params[f"SelfAttention_{index}"],
            "norm_mlp": params[f"LayerNorm_{2 * index + 1}"],
            "mlp": params[f"MLP_{index}"],
        }
    return renamed
