"""Euler-Maruyama on the SDE that has the marginals of the flow.

For every g >= 0, dx = [v + (g^2 / 2) grad log p_t(x)] dt + g dW moves the same densities p_t as dx = v dt.
With (x1^, x0^) = denoise(x, t) the score is -x0^ / sigma. The choice g^2 = 2 eta sigma gives

  dx = [v - eta x0^] dt + sqrt(2 eta sigma) dW,

finite at both ends: the score's 1 / sigma cancels at t=1, and nothing is divided by alpha at t=0. (Flow-GRPO's
g = .7 sqrt((1 - t) / t), in this direction of time, is eta = .245 / alpha on the linear path, infinite at
t=0; the reversal of a diffusion has eta = 1 / alpha there.) A step from t to s = t + h moves along the flow
with the estimates held fixed and adds the rest by Euler-Maruyama,

  x_s = alpha_s x1^ + (sigma_s - eta h) x0^ + sqrt(2 eta sigma_t h) e,

which on the linear path is Euler-Maruyama throughout. The last step has eta = 0 and returns x1^; its noise
would stay in the chunk. The score is that of a path from x0 ~ N(0, I), so a policy accepts this sampler
with the normal prior only.

Source: Song et al. 2021; Ma et al. 2024 (SiT) for a free diffusion coefficient, sigma among them; Liu et al.
2025 (Flow-GRPO).
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Field
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.samplers._grid import EvenOptions, EvenSampler, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class SDEOptions(EvenOptions):
    """Twenty steps."""

    steps: int = option(20, "steps from noise to chunk", low=1, high=10_000)
    noise: float = option(
        0.5, "eta, the size of g^2; towards 0 the sampler becomes DDIM", low=0.0, open_low=True
    )


@dataclasses.dataclass(frozen=True)
class SDE(EvenSampler):
    """Euler-Maruyama; one network evaluation a step."""

    options: SDEOptions

    plugin: ClassVar[str] = "sde"

    @property
    def stochastic(self) -> bool:
        """True."""
        return True

    def recurrence(self, field: Field, x0: Array, noise: Array | None) -> tuple[Step, PyTree, PyTree]:
        """One step of the method; see `EvenSampler`."""
        assert noise is not None, "a stochastic sampler needs its noise path"
        t = self.times
        eta = jnp.full(self.steps, self.options.noise).at[-1].set(0.0)

        def step(x: Array, item: tuple[Array, ...]) -> Array:
            now, after, eta, eps = item
            h = after - now
            alpha, sigma = field.path(after)
            data, start = field.denoise(x, now)
            mean = alpha * data + (sigma - eta * h) * start
            return mean + jnp.sqrt(2.0 * eta * field.path(now)[1] * h) * eps

        return step, x0, (t[:-1], t[1:], eta, jnp.moveaxis(noise, -3, 0))


@register("sampler", SDEOptions)
def build(options: SDEOptions) -> SDE:
    """Euler-Maruyama."""
    return SDE(options)
