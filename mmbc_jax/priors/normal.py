"""Standard normal base, N(0, I): the base that flow matching and diffusion usually start from."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import distrax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec
from mmbc_jax.priors._base_prior import BasePrior


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalPriorOptions(Options):
    """There are none."""


def gaussian_noise(
    batch_shape: tuple[int, ...], event_shape: tuple[int, ...], std: float = 1.0
) -> distrax.Independent:
    """N(0, std^2 I) over `event_shape`, with `batch_shape`: the leading axes of observations."""
    zeros = jnp.zeros((*batch_shape, *event_shape))
    return distrax.Independent(distrax.Normal(zeros, jnp.full_like(zeros, std)), len(event_shape))


@dataclasses.dataclass(frozen=True)
class NormalPrior(BasePrior):
    """w ~ N(0, I), whatever the observation; see `BasePrior` for the attributes."""

    plugin: ClassVar[str] = "normal"
    gaussian: ClassVar[bool] = True

    def distribution(self, params: Any, obs: Obs, posterior: Any = None) -> distrax.Distribution:
        """N(0, I) with the observations' leading axes as batch shape."""
        return gaussian_noise(self.batch_shape(obs), self.event_shape)

    def loss(self, params: Any, key: Key, obs: Obs, w: Array, posterior: Any = None) -> Array:
        """Zeros [...]: nothing here is trained."""
        return jnp.zeros(self.batch_shape(obs))


@register("prior", NormalPriorOptions)
def build(options: NormalPriorOptions, event_shape: tuple[int, ...], *, spec: PolicySpec) -> NormalPrior:
    """A standard normal over `event_shape`."""
    return NormalPrior(options, tuple(event_shape), spec)
