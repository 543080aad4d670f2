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
from typing import ClassVar

import jax.numpy as jnp

from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Field
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.ops.ancestral import ancestral_coefficients
from mmbc_jax.samplers._grid import EvenOptions, EvenSampler, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDIMOptions(EvenOptions):
    """Ten deterministic steps."""

    eta: float = option(0.0, "noise as a fraction of the ancestral posterior's", low=0.0, high=1.0)


@dataclasses.dataclass(frozen=True)
class DDIM(EvenSampler):
    """DDIM; one network evaluation a step."""

    options: DDIMOptions

    plugin: ClassVar[str] = "ddim"

    @property
    def stochastic(self) -> bool:
        """Whether steps add noise."""
        return self.options.eta > 0.0

    def recurrence(self, field: Field, x0: Array, noise: Array | None) -> tuple[Step, PyTree, PyTree]:
        """One step of the method; see `EvenSampler`."""
        t = self.times

        def step(x: Array, item: tuple[Array, ...]) -> Array:
            now, after = item[:2]
            data, start = field.denoise(x, now)
            alpha, sigma = field.path(after)
            if not self.stochastic:
                return alpha * data + sigma * start
            std = self.options.eta * ancestral_coefficients(field.path(now), (alpha, sigma))[2]
            kept = jnp.sqrt(jnp.maximum(sigma**2 - std**2, 0.0))
            return alpha * data + kept * start + std * item[2]

        path = (jnp.moveaxis(noise, -3, 0),) if noise is not None and self.stochastic else ()
        return step, x0, (t[:-1], t[1:], *path)


@register("sampler", DDIMOptions)
def build(options: DDIMOptions) -> DDIM:
    """DDIM."""
    return DDIM(options)
