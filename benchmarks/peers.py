"""The default flow policy in PyTorch: same network, loss, optimiser and sampler, and the weights to match.

Activations, features and the split of the first layer follow `mmbc_jax.nn`; gelu is the tanh form that
`jax.nn.gelu` uses. It is written as its own users would write it, without anything that only slows it down:
parameters updated by multi-tensor operations where PyTorch has them, the moving average by one fused lerp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmbc_jax.nn.embedding import MAX_TIME_FREQUENCY

Data = tuple[Tensor, Tensor, Tensor]


class TorchField(nn.Module):
    """`nn.chunk_mlp.ChunkMLP` without layer norm and residuals.

    Args:
      obs_dim: D.
      event_shape: (H, A).
      hidden: widths.
      octaves: of the observation features.
      time_dim: size of the time embedding.
    """

    def __init__(
        self,
        obs_dim: int,
        event_shape: tuple[int, int],
        hidden: tuple[int, ...],
        octaves: int,
        time_dim: int,
    ):
        super().__init__()
        size = event_shape[0] * event_shape[1]
        self.from_x = nn.Linear(size, hidden[0], bias=False)
        self.from_time = nn.Linear(time_dim, hidden[0], bias=False)
        self.from_obs = nn.Linear(obs_dim * (1 + 2 * octaves), hidden[0])
        widths = (*hidden, size)
        self.trunk = nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths[:-1], widths[1:], strict=True))
        powers = np.geomspace(1.0, MAX_TIME_FREQUENCY, time_dim // 2)
        self.register_buffer("time_frequency", torch.tensor(powers, dtype=torch.float32))
        self.register_buffer("obs_frequency", math.pi * 2.0 ** torch.arange(octaves))
        self.event_shape = event_shape

    def encode(self, obs: Tensor) -> Tensor:
        """The observation's part of the first layer."""
        angle = (obs[..., None] * self.obs_frequency).flatten(-2)
        return self.from_obs(torch.cat([obs, torch.sin(angle), torch.cos(angle)], -1))

    def decode(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """Velocity [B, H, A] at x [B, H, A] and t [] or [B]."""
        angle = t[..., None] * self.time_frequency
        embedded = torch.cat([torch.sin(angle), torch.cos(angle)], -1)
        h = self.from_x(x.flatten(-2)) + self.from_time(embedded) + context
        for layer in self.trunk:
            h = layer(nn.functional.gelu(h, approximate="tanh"))
        return h.unflatten(-1, self.event_shape)

    def forward(self, x: Tensor, t: Tensor, obs: Tensor) -> Tensor:
        """As `decode`, encoding the observation too."""
        return self.decode(x, t, self.encode(obs))


def copy_weights(params: Mapping[str, Any], field: TorchField) -> None:
    """Copies the parameters of a `ChunkMLP` into `field`."""

    def fill(layer: nn.Linear, dense: Mapping[str, Any]) -> None:
        layer.weight.copy_(torch.tensor(np.asarray(dense["kernel"]).T.copy()))
        if layer.bias is not None:
            layer.bias.copy_(torch.tensor(np.asarray(dense["bias"])))

    with torch.no_grad():
        for name in ("from_x", "from_time", "from_obs"):
            fill(getattr(field, name), params[name])
        for index, layer in enumerate(field.trunk):
            fill(layer, params["trunk"][f"Dense_{index}"])


def flow_loss(field: Any, obs: Tensor, x1: Tensor, mask: Tensor, x0: Tensor, t: Tensor) -> Tensor:
    """The masked flow-matching loss of `policies.flow` for given noise x0 and times t."""
    weight = t[:, None, None]
    velocity = field(weight * x1 + (1.0 - weight) * x0, t, obs)
    total = ((velocity - (x1 - x0)).square() * mask[..., None]).sum((-2, -1))
    return (total / (mask.sum(-1).clamp(min=1.0) * x1.shape[-1])).mean()


class TorchCloner:
    """The cloning step of `training.bc` in PyTorch.

    Args:
      field: the network that is trained.
      data: (obs [M, D], chunk [M, H, A], mask [M, H]).
      cfg: the `bc` section.
      kind: "eager" (AdamW as it comes), "fused" (fused AdamW), or "compile" (`torch.compile` of the loss
        with fused AdamW).
    """

    def __init__(self, field: TorchField, data: Data, cfg: Any, kind: str):
        self.field, self.data, self.cfg = field, data, cfg
        self.params = list(field.parameters())
        self.ema = [param.detach().clone() for param in self.params]
        self.optimizer = torch.optim.AdamW(
            self.params,
            lr=cfg.learning_rate,
            weight_decay=cfg.weight_decay,
            **({} if kind == "eager" else {"fused": True}),
        )
        self.loss: Callable[..., Tensor] = flow_loss
        if kind == "compile":
            self.loss = torch.compile(flow_loss)
        self.step_index = 0

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine (see `training.optim.warmup_cosine`)."""
        cfg, step = self.cfg, self.step_index
        if step < cfg.warmup_steps:
            return cfg.learning_rate * (step + 1.0) / cfg.warmup_steps
        progress = min((step - cfg.warmup_steps) / max(cfg.steps - cfg.warmup_steps, 1), 1.0)
        low = cfg.final_lr_fraction
        return cfg.learning_rate * (low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * progress)))

    def update(self, obs: Tensor, x1: Tensor, mask: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """One gradient step on a given batch; returns the loss."""
        self.optimizer.param_groups[0]["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.field, obs, x1, mask, x0, t)
        loss.backward()
        nn.utils.clip_grad_norm_(self.params, self.cfg.clip_norm)
        self.optimizer.step()
        decay = min(self.cfg.ema_decay, (1.0 + self.step_index) / (10.0 + self.step_index))
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.params, 1.0 - decay)
        self.step_index += 1
        return loss

    def step(self) -> Tensor:
        """Draws a batch of windows, noise and times, and updates on it."""
        obs, chunk, mask = self.data
        index = torch.randint(0, len(obs), (self.cfg.batch_size,))
        x1 = chunk[index]
        return self.update(obs[index], x1, mask[index], torch.randn_like(x1), torch.rand(len(x1)))


def euler(field: TorchField, obs: Tensor, x0: Tensor, times: Tensor) -> Tensor:
    """Chunk [B, H, A]: the field integrated over `times` [steps + 1] from x0, obs encoded once."""
    context = field.encode(obs)
    x = x0
    for index in range(times.shape[0] - 1):
        x = x + (times[index + 1] - times[index]) * field.decode(x, times[index], context)
    return x
