"""Flow, diffusion, CVAE and residual VQ in PyTorch: the losses and samplers of `mmbc_jax.policies` on given noise.

A policy is a module with

  draw(chunk) -> noise of one training step       forward(obs, chunk, mask, *noise) -> loss []
  base(batch) -> noise of a sample                sample(obs, *noise) -> chunk [B, H, A]

so that noise can be drawn as PyTorch draws it, or come from outside to compare with ours. The codebook of the VQ
policy takes part in full: nearest codes, running averages and the move of dead codes in every step; only its first
placement by k-means is left out (the codes are copied over).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmbc_jax.policies.cvae import MIN_LOG_VARIANCE
from mmbc_jax.policies.diffusion import MIN_SIGMA


def masked_mean(error: Tensor, mask: Tensor) -> Tensor:
    """[B] mean of error [B, H, A] over the recorded actions, mask [B, H]."""
    return (error * mask[..., None]).sum((-2, -1)) / (mask.sum(-1).clamp(min=1.0) * error.shape[-1])


class Flow(nn.Module):
    """`policies.flow` with independent coupling, uniform times and Euler's method.

    Args:
      network: with `encode` and `decode`.
      event_shape: (H, A).
      steps: of Euler's method.
    """

    def __init__(self, network: nn.Module, event_shape: tuple[int, int], steps: int):
        super().__init__()
        self.network, self.event_shape, self.steps = network, event_shape, steps

    def draw(self, chunk: Tensor) -> tuple[Tensor, ...]:
        """x0 [B, H, A] and t [B]."""
        return torch.randn_like(chunk), torch.rand(len(chunk))

    def forward(self, obs: Tensor, chunk: Tensor, mask: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The loss."""
        weight = t[:, None, None]
        x = weight * chunk + (1.0 - weight) * x0
        velocity = self.network.decode(x, t, self.network.encode(obs))
        return masked_mean((velocity - (chunk - x0)).square(), mask).mean()

    def base(self, batch: int) -> tuple[Tensor, ...]:
        """x0 [B, H, A]."""
        return (torch.randn(batch, *self.event_shape),)

    def sample(self, obs: Tensor, x0: Tensor) -> Tensor:
        """Chunk [B, H, A] by Euler's method."""
        context, x = self.network.encode(obs), x0
        for index in range(self.steps):
            x = x + self.network.decode(x, torch.tensor(index / self.steps), context) / self.steps
        return x


class Diffusion(nn.Module):
    """`policies.diffusion` that predicts v, sampled by DDIM or by ancestral steps (DDPM).

    Args:
      network: with `encode` and `decode`.
      event_shape: (H, A).
      steps: of the sampler.
      ancestral: DDPM instead of DDIM without noise.
      options: train_steps > 0, min_alpha, clip > 0.
    """

    def __init__(
        self,
        network: nn.Module,
        event_shape: tuple[int, int],
        steps: int,
        ancestral: bool,
        options: dict[str, float],
    ):
        super().__init__()
        self.network, self.event_shape, self.steps, self.ancestral = network, event_shape, steps, ancestral
        self.train_steps, self.clip = int(options["train_steps"]), options["clip"]
        self.rate = math.acos(options["min_alpha"])

    def draw(self, chunk: Tensor) -> tuple[Tensor, ...]:
        """x0 [B, H, A] and t [B]."""
        levels = torch.randint(0, self.train_steps, (len(chunk),))
        return torch.randn_like(chunk), levels / self.train_steps

    def forward(self, obs: Tensor, chunk: Tensor, mask: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """The loss."""
        angle = self.rate * (1.0 - t[:, None, None])
        alpha, sigma = torch.cos(angle), torch.sin(angle)
        v = self.network.decode(alpha * chunk + sigma * x0, t, self.network.encode(obs))
        return masked_mean((v - (sigma * chunk - alpha * x0)).square(), mask).mean()

    def base(self, batch: int) -> tuple[Tensor, ...]:
        """x0 [B, H, A], and for DDPM the noise [B, steps, H, A]."""
        x0 = torch.randn(batch, *self.event_shape)
        return (x0, torch.randn(batch, self.steps, *self.event_shape)) if self.ancestral else (x0,)

    def _path(self, index: int) -> tuple[float, float]:
        """(alpha, sigma) at the grid's time index / steps."""
        angle = self.rate * (1.0 - index / self.steps)
        return math.cos(angle), math.sin(angle)

    def sample(self, obs: Tensor, x0: Tensor, noise: Tensor | None = None) -> Tensor:
        """Chunk [B, H, A]; see `samplers.ddim` and `samplers.ddpm`."""
        context, x = self.network.encode(obs), x0
        for index in range(self.steps):
            (alpha, sigma), (alpha_s, sigma_s) = self._path(index), self._path(index + 1)
            v = self.network.decode(x, torch.tensor(index / self.steps), context)
            data = (alpha * x + sigma * v).clamp(-self.clip, self.clip)
            if noise is None:
                x = alpha_s * data + sigma_s * (x - alpha * data) / max(sigma, MIN_SIGMA)
                continue
            ratio = alpha / alpha_s
            share = max(sigma**2 - (ratio * sigma_s) ** 2, 0.0) / sigma**2
            x = ratio * (sigma_s / sigma) ** 2 * x + alpha_s * share * data
            x = x + math.sqrt(share) * sigma_s * noise[:, index]
        return x


class CVAE(nn.Module):
    """`policies.cvae` with the normal prior and the absolute error.

    Args:
      network: decoder (obs, z) -> chunk.
      encoder: (chunk, obs) -> [B, 2 W].
      latent_dim: W.
      beta: weight of the KL.
    """

    def __init__(self, network: nn.Module, encoder: nn.Module, latent_dim: int, beta: float):
        super().__init__()
        self.network, self.encoder, self.latent_dim, self.beta = network, encoder, latent_dim, beta

    def draw(self, chunk: Tensor) -> tuple[Tensor, ...]:
        """The latent's noise [B, W]."""
        return self.base(len(chunk))

    def forward(self, obs: Tensor, chunk: Tensor, mask: Tensor, eps: Tensor) -> Tensor:
        """The loss."""
        mean, raw = self.encoder(chunk, obs).chunk(2, -1)
        log_variance = MIN_LOG_VARIANCE + functional.softplus(raw - MIN_LOG_VARIANCE)
        z = mean + torch.exp(0.5 * log_variance) * eps
        kl = 0.5 * (torch.expm1(log_variance) - log_variance + mean.square()).sum(-1)
        error = masked_mean((self.network(obs, z) - chunk).abs(), mask)
        return (error + self.beta * kl).mean()

    def base(self, batch: int) -> tuple[Tensor, ...]:
        """z [B, W]."""
        return (torch.randn(batch, self.latent_dim),)

    def sample(self, obs: Tensor, z: Tensor) -> Tensor:
        """Chunk [B, H, A]."""
        return self.network(obs, z)


class VQ(nn.Module):
    """`policies.vq` with a learned prior over its codes and the absolute error.

    Args:
      network: decoder (obs, z) -> chunk.
      encoder: (chunk, obs) -> [B, W].
      prior: logits [..., K] of [one-hot codes before, one-hot position, obs].
      shape: (L layers, K codes, W).
      options: commitment, decay, revive_below.
    """

    def __init__(
        self,
        network: nn.Module,
        encoder: nn.Module,
        prior: nn.Module,
        shape: tuple[int, int, int],
        options: dict[str, float],
    ):
        super().__init__()
        self.network, self.encoder, self.prior, self.options = network, encoder, prior, options
        self.layers, self.num_codes = shape[:2]
        for name, size in (("codes", shape), ("share", shape[:2]), ("total", shape)):
            self.register_buffer(name, torch.zeros(size))

    def draw(self, chunk: Tensor) -> tuple[Tensor, ...]:
        """Which input each code moves to if it is dead, [L, K]."""
        return (torch.randint(0, len(chunk), (self.layers, self.num_codes)),)

    def quantise(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Indices [B, L], chosen codes and residuals [B, L, W] of z [B, W]."""
        index, chosen, residual = [], [], []
        for table in self.codes.unbind():
            index.append(torch.cdist(z, table).argmin(-1))
            chosen.append(table[index[-1]])
            residual.append(z)
            z = z - chosen[-1]
        return torch.stack(index, 1), torch.stack(chosen, 1), torch.stack(residual, 1)

    def logits(self, obs: Tensor, index: Tensor) -> Tensor:
        """[B, L, K] of every layer's code given the codes [B, L] before it."""
        codes = functional.one_hot(index, self.num_codes).to(obs.dtype)
        earlier = torch.ones(self.layers, self.layers).tril(-1)[..., None]
        before = (earlier * codes[:, None]).flatten(-2)
        position = torch.eye(self.layers).expand(len(obs), -1, -1)
        return self.prior(torch.cat([before, position, obs[:, None].expand(-1, self.layers, -1)], -1))

    def forward(self, obs: Tensor, chunk: Tensor, mask: Tensor, pick: Tensor) -> Tensor:
        """The loss; moves the codebook."""
        z = self.encoder(chunk, obs)
        with torch.no_grad():
            index, chosen, _ = self.quantise(z)
        residual = z[:, None] - functional.pad(chosen[:, :-1].cumsum(1), (0, 0, 1, 0))
        error = masked_mean((self.network(obs, z + (chosen.sum(1) - z).detach()) - chunk).abs(), mask)
        commitment = (residual - chosen).square().mean(-1).sum(-1)
        nll = functional.cross_entropy(self.logits(obs, index).flatten(0, 1), index.flatten()) * self.layers
        self.move(index, residual.detach(), pick)
        return (error + self.options["commitment"] * commitment).mean() + nll

    @torch.no_grad()
    def move(self, index: Tensor, residual: Tensor, pick: Tensor) -> None:
        """Running averages of the codes; dead ones move to the inputs `pick` [L, K]."""
        member = functional.one_hot(index, self.num_codes).to(residual.dtype)
        weight = 1.0 - self.options["decay"]
        self.share.lerp_(member.mean(0), weight)
        self.total.lerp_(torch.einsum("blk,blw->lkw", member, residual) / len(index), weight)
        dead = self.share < self.options["revive_below"] / self.num_codes
        candidate = residual[pick, torch.arange(self.layers)[:, None]]
        codes = self.total / self.share.clamp(min=1e-8)[..., None]
        self.codes.copy_(torch.where(dead[..., None], candidate, codes))
        self.share.masked_fill_(dead, 1.0 / self.num_codes)
        self.total.copy_(self.codes * self.share[..., None])

    def base(self, batch: int) -> tuple[Tensor, ...]:
        """Gumbel noise [B, L, K]."""
        return (-torch.empty(batch, self.layers, self.num_codes).exponential_().log(),)

    def sample(self, obs: Tensor, gumbel: Tensor) -> Tensor:
        """Chunk [B, H, A] of codes drawn layer by layer."""
        codes = torch.zeros(len(obs), 0, self.num_codes)
        total = torch.zeros(len(obs), self.codes.shape[-1])
        for layer in range(self.layers):
            before = functional.pad(codes.flatten(1), (0, (self.layers - layer) * self.num_codes))
            position = torch.eye(self.layers)[layer].expand(len(obs), -1)
            logits = self.prior(torch.cat([before, position, obs], -1))
            index = (logits + gumbel[:, layer]).argmax(-1)
            codes = torch.cat([codes, functional.one_hot(index, self.num_codes).to(obs.dtype)[:, None]], 1)
            total = total + self.codes[layer][index]
        return self.network(obs, total)
