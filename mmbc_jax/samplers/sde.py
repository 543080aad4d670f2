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

import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.protocols import Field
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array
from mmbc_jax.samplers._grid import check_steps, run_steps, uniform_grid


def default_config() -> ConfigDict:
    """Twenty steps; `noise` is eta."""
    return ConfigDict({"steps": 20, "noise": 0.5})


@dataclasses.dataclass(frozen=True)
class SDE:
    """Euler-Maruyama on an even grid.

    Attributes:
      steps: network evaluations.
      noise: eta > 0, the size of g^2; towards 0 the sampler becomes DDIM.
      stochastic: True.
    """

    steps: int
    noise: float = 0.5
    stochastic: bool = True

    def noise_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(steps, H, A), of which the last step adds none."""
        return (self.steps, *event_shape)

    def integrate(self, field: Field, x0: Array, noise: Array | None) -> Array:
        """Chunk [..., H, A] from x0 [..., H, A] and noise [..., steps, H, A]."""
        assert noise is not None, "a stochastic sampler needs its noise path"
        t = uniform_grid(self.steps)
        eta = jnp.full(self.steps, self.noise).at[-1].set(0.0)

        def step(x: Array, item: tuple[Array, ...]) -> Array:
            now, after, eta, eps = item
            h = after - now
            alpha, sigma = field.path(after)
            data, start = field.denoise(x, now)
            mean = alpha * data + (sigma - eta * h) * start
            return mean + jnp.sqrt(2.0 * eta * field.path(now)[1] * h) * eps

        return run_steps(step, x0, (t[:-1], t[1:], eta, jnp.moveaxis(noise, -3, 0)), self.steps)


@register("sampler", default_config)
def build(cfg: ConfigDict) -> SDE:
    """The SDE with `cfg.steps` steps.

    Raises:
      ConfigError: fewer than one step, or noise that is not positive.
    """
    check_steps(cfg.steps)
    check_range("sampler.noise", cfg.noise, 0.0, open_low=True)
    return SDE(cfg.steps, cfg.noise)
