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
from typing import ClassVar

import jax.numpy as jnp

from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Field
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.ops.ancestral import ancestral_coefficients
from mmbc_jax.samplers._grid import EvenOptions, EvenSampler, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPMOptions(EvenOptions):
    """Twenty steps, the exact posterior."""

    steps: int = option(20, "steps from noise to chunk", low=1, high=10_000)
    min_std: float = option(
        0.0, "least standard deviation of a step, in units of the normalised chunk", low=0.0
    )


@dataclasses.dataclass(frozen=True)
class DDPM(EvenSampler):
    """Ancestral sampling; one network evaluation a step."""

    options: DDPMOptions

    plugin: ClassVar[str] = "ddpm"

    @property
    def stochastic(self) -> bool:
        """True."""
        return True

    def recurrence(self, field: Field, x0: Array, noise: Array | None) -> tuple[Step, PyTree, PyTree]:
        """One step of the method; see `EvenSampler`."""
        assert noise is not None, "a stochastic sampler needs its noise path"
        t = self.times

        def step(x: Array, item: tuple[Array, Array, Array]) -> Array:
            now, after, eps = item
            data, _ = field.denoise(x, now)
            keep, pull, std = ancestral_coefficients(field.path(now), field.path(after))
            return keep * x + pull * data + jnp.maximum(std, self.options.min_std) * eps

        return step, x0, (t[:-1], t[1:], jnp.moveaxis(noise, -3, 0))


@register("sampler", DDPMOptions)
def build(options: DDPMOptions) -> DDPM:
    """Ancestral sampling."""
    return DDPM(options)
