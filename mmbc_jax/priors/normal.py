"""Standard normal base, N(0, I): the base that flow matching and diffusion usually start from."""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec


def default_config() -> ConfigDict:
    """No options."""
    return ConfigDict()


def gaussian_noise(obs: Array, shape: tuple[int, ...], std: float = 1.0) -> distrax.Independent:
    """N(0, std^2 I) over events of `shape` at each observation [..., D]."""
    zeros = jnp.zeros((*obs.shape[:-1], *shape))
    return distrax.Independent(distrax.Normal(zeros, jnp.full_like(zeros, std)), len(shape))


@dataclasses.dataclass(frozen=True)
class NormalPrior:
    """w ~ N(0, I), whatever the observation.

    Attributes:
      event_shape: shape of w.
      gaussian: True, so stochastic samplers may start from it.
      trainable, discrete, needs_posterior: False.
    """

    event_shape: tuple[int, ...]
    gaussian: bool = True
    trainable: bool = False
    discrete: bool = False
    needs_posterior: bool = False

    def init(self, key: Key) -> dict:
        """No parameters."""
        return {}

    def distribution(self, params: Any, obs: Array, posterior: Any = None) -> distrax.Distribution:
        """N(0, I) with batch shape obs.shape[:-1]."""
        return gaussian_noise(obs, self.event_shape)

    def loss(self, params: Any, key: Key, obs: Array, w: Array, posterior: Any = None) -> Array:
        """Zeros [...]: nothing here is trained."""
        return jnp.zeros(obs.shape[:-1])


@register("prior", default_config)
def build(cfg: ConfigDict, event_shape: tuple[int, ...], *, spec: PolicySpec) -> NormalPrior:
    """A standard normal over `event_shape`."""
    return NormalPrior(tuple(event_shape))
