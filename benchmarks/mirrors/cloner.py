"""The cloning step in PyTorch, around the networks and losses of `benchmarks.mirrors.policies`.

It is written as its own users would write it, without anything that only slows it down: parameters updated by
multi-tensor operations where PyTorch has them, the moving average by one fused lerp.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.mirrors.policies import Flow
from mmbc_jax.learners.bc import BCOptions

Data = tuple[Tensor, Tensor, Tensor]


class TorchCloner:
    """The cloning step of `learners.bc` in PyTorch.

    Args:
      flow: what is trained, a policy whose forward pass is its loss.
      data: (obs [M, D], chunk [M, H, A], mask [M, H]).
      options: of cloning.
      kind: "eager" (AdamW as it comes), "fused" (fused AdamW), or "compile" (`torch.compile` of the loss
        with fused AdamW).
    """

    def __init__(self, flow: Flow, data: Data, options: BCOptions, kind: str):
        self.flow, self.data, self.options = flow, data, options
        self.params = list(flow.parameters())
        self.ema = [param.detach().clone() for param in self.params]
        self.optimizer = torch.optim.AdamW(
            self.params,
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            **({} if kind == "eager" else {"fused": True}),
        )
        self.loss: Callable[..., Tensor] = torch.compile(flow) if kind == "compile" else flow
        self.step_index = 0

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine (see `learners._optim.warmup_cosine`)."""
        options, step = self.options, self.step_index
        if step < options.warmup_steps:
            return options.learning_rate * (step + 1.0) / options.warmup_steps
        progress = min((step - options.warmup_steps) / max(options.steps - options.warmup_steps, 1), 1.0)
        low = options.final_lr_fraction
        return options.learning_rate * (low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * progress)))

    def update(self, obs: Tensor, x1: Tensor, mask: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """One gradient step on a given batch; returns the loss."""
        self.optimizer.param_groups[0]["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(obs, x1, mask, x0, t)
        loss.backward()
        nn.utils.clip_grad_norm_(self.params, self.options.clip_norm)
        self.optimizer.step()
        decay = min(self.options.ema_decay, (1.0 + self.step_index) / (10.0 + self.step_index))
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.params, 1.0 - decay)
        self.step_index += 1
        return loss

    def step(self) -> Tensor:
        """Draws a batch of windows, noise and times, and updates on it."""
        obs, chunk, mask = self.data
        index = torch.randint(0, len(obs), (self.options.batch_size,))
        x1 = chunk[index]
        return self.update(obs[index], x1, mask[index], torch.randn_like(x1), torch.rand(len(x1)))
