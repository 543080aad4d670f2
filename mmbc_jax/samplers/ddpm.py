r"""DDPM: ancestral sampling with the Gaussian posterior between consecutive times of the grid.

x_s ~ N(mean of q(x_s | x_t, x1^), q^2 I), with x1^ the estimate of the data and q the posterior's standard
deviation, not below `min_std`. The posterior belongs to a path that starts at x0 ~ N(0, I), so a policy
accepts this sampler with the normal prior only. `min_std` > 0 keeps the density of every step bounded, the
last one too, as policy-gradient methods on the chain need; with 0 the last step returns x1^ and its noise
has no effect.

Source: Ho et al. 2020; the floor follows Ren et al. 2024 (DPPO).
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.protocols import Field
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array
from mmbc_jax.samplers._grid import ancestral_coefficients, check_steps, run_steps, uniform_grid


def default_config() -> ConfigDict:
    """Twenty steps, the exact posterior."""
    return ConfigDict({"steps": 20, "min_std": 0.0})


@dataclasses.dataclass(frozen=True)
class DDPM:
    """Ancestral sampling on an even grid.

    Attributes:
      steps: network evaluations.
      min_std: floor of the standard deviation of a step, in units of the normalised chunk.
      stochastic: True.
    """

    steps: int
    min_std: float = 0.0
    stochastic: bool = True

    def noise_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(steps, H, A)."""
        return (self.steps, *event_shape)

    def integrate(self, field: Field, x0: Array, noise: Array | None) -> Array:
        """Chunk [..., H, A] from x0 [..., H, A] and noise [..., steps, H, A]."""
        assert noise is not None, "a stochastic sampler needs its noise path"
        t = uniform_grid(self.steps)

        def step(x: Array, item: tuple[Array, Array, Array]) -> Array:
            now, after, eps = item
            data, _ = field.denoise(x, now)
            keep, pull, std = ancestral_coefficients(field.path(now), field.path(after))
            return keep * x + pull * data + jnp.maximum(std, self.min_std) * eps

        return run_steps(step, x0, (t[:-1], t[1:], jnp.moveaxis(noise, -3, 0)), self.steps)


@register("sampler", default_config)
def build(cfg: ConfigDict) -> DDPM:
    """DDPM with `cfg.steps` steps.

    Raises:
      ConfigError: fewer than one step, or a negative floor.
    """
    check_steps(cfg.steps)
    check_range("sampler.min_std", cfg.min_std, 0.0)
    return DDPM(cfg.steps, cfg.min_std)
