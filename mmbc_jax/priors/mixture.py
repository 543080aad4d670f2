r"""Equal-weight mixture of Gaussians as a base.

p(w) = 1/K sum_k N(w; m_k, s^2 I), with m_k = r u_k and u_k fixed unit directions.

A continuous map of bounded slope cannot split one Gaussian over many separated modes without leaving mass on
the bridges between them; a base that is itself separated asks less of the map. The means, the radius and the
width are constants: flow matching does not train the base, it only learns the map from it.
The directions come from a seeded normal matrix, orthonormalised as long as K does not exceed the size of w,
so that the means are then all r sqrt(2) apart.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import distrax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec


def default_config() -> ConfigDict:
    """Eight components, about as wide apart as a standard normal is spread."""
    return ConfigDict({"num_components": 8, "radius": 2.0, "std": 0.5, "seed": 0})


@dataclasses.dataclass(frozen=True)
class MixturePrior:
    """w from one of K spherical Gaussians with equal weights, whatever the observation.

    Attributes:
      event_shape: shape of w.
      num_components: K.
      radius: distance of the means from the origin.
      std: standard deviation of each component.
      seed: of the directions of the means.
      gaussian, trainable, discrete, needs_posterior: False.
    """

    event_shape: tuple[int, ...]
    num_components: int
    radius: float
    std: float
    seed: int
    gaussian: bool = False
    trainable: bool = False
    discrete: bool = False
    needs_posterior: bool = False

    def means(self) -> np.ndarray:
        """[K, *event_shape] the means; constants."""
        size = math.prod(self.event_shape)
        rows = np.random.default_rng(self.seed).standard_normal((self.num_components, size))
        if self.num_components <= size:
            rows = np.linalg.qr(rows.T)[0].T
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return (self.radius * rows).reshape(self.num_components, *self.event_shape).astype(np.float32)

    def init(self, key: Key) -> dict:
        """No parameters: the components are constants."""
        return {}

    def distribution(self, params: Any, obs: Array, posterior: Any = None) -> distrax.Distribution:
        """The mixture with batch shape obs.shape[:-1]."""
        batch = obs.shape[:-1]
        means = jnp.broadcast_to(self.means(), (*batch, self.num_components, *self.event_shape))
        components = distrax.Independent(
            distrax.Normal(means, jnp.full_like(means, self.std)), len(self.event_shape)
        )
        weights = distrax.Categorical(logits=jnp.zeros((*batch, self.num_components)))
        return distrax.MixtureSameFamily(weights, components)

    def loss(self, params: Any, key: Key, obs: Array, w: Array, posterior: Any = None) -> Array:
        """Zeros [...]: nothing here is trained."""
        return jnp.zeros(obs.shape[:-1])


@register("prior", default_config)
def build(cfg: ConfigDict, event_shape: tuple[int, ...], *, spec: PolicySpec) -> MixturePrior:
    """A mixture over `event_shape`.

    Raises:
      ConfigError: fewer than one component, a negative radius, or a width that is not positive.
    """
    check_range("prior.num_components", cfg.num_components, 1)
    check_range("prior.radius", cfg.radius, 0.0)
    check_range("prior.std", cfg.std, 0.0, open_low=True)
    check_range("prior.seed", cfg.seed, 0)
    return MixturePrior(tuple(event_shape), cfg.num_components, cfg.radius, cfg.std, cfg.seed)
