r"""DDIM: move along the path with the estimates of data and noise held fixed within a step.

With (x1^, x0^) = denoise(x_t, t) and q = eta * (standard deviation of the ancestral posterior),

  x_s = alpha_s x1^ + sqrt(sigma_s^2 - q^2) x0^ + q e.

eta=0 is deterministic; eta=1 has the same transitions as ancestral sampling. For a point mass of data any
number of steps is exact, and on the linear path eta=0 is Euler's method. The last step returns x1^.

Two steps evaluate at t=0 and t=1/2: the first moves x0 half way towards the mean of the data, the second
returns the mean of the data that can have led there, so t=1/2 must already tell the modes apart.

Source: Song, Meng, Ermon 2021.
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
    """Ten deterministic steps."""
    return ConfigDict({"steps": 10, "eta": 0.0})


@dataclasses.dataclass(frozen=True)
class DDIM:
    """DDIM on an even grid.

    Attributes:
      steps: network evaluations.
      eta: noise as a fraction of the ancestral posterior's, in [0, 1].
    """

    steps: int
    eta: float = 0.0

    @property
    def stochastic(self) -> bool:
        """Whether steps add noise."""
        return self.eta > 0.0

    def noise_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(steps, H, A) with noise, of which the last step adds none; (0,) without."""
        return (self.steps, *event_shape) if self.stochastic else (0,)

    def integrate(self, field: Field, x0: Array, noise: Array | None) -> Array:
        """Chunk [..., H, A] from x0 [..., H, A] and, where stochastic, noise [..., steps, H, A]."""
        t = uniform_grid(self.steps)

        def step(x: Array, item: tuple[Array, ...]) -> Array:
            now, after = item[:2]
            data, start = field.denoise(x, now)
            alpha, sigma = field.path(after)
            if not self.stochastic:
                return alpha * data + sigma * start
            std = self.eta * ancestral_coefficients(field.path(now), (alpha, sigma))[2]
            kept = jnp.sqrt(jnp.maximum(sigma**2 - std**2, 0.0))
            return alpha * data + kept * start + std * item[2]

        path = (jnp.moveaxis(noise, -3, 0),) if noise is not None and self.stochastic else ()
        return run_steps(step, x0, (t[:-1], t[1:], *path), self.steps)


@register("sampler", default_config)
def build(cfg: ConfigDict) -> DDIM:
    """DDIM with `cfg.steps` steps.

    Raises:
      ConfigError: fewer than one step, or eta outside [0, 1].
    """
    check_steps(cfg.steps)
    check_range("sampler.eta", cfg.eta, 0.0, 1.0)
    return DDIM(cfg.steps, cfg.eta)
