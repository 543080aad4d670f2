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
from typing import Any, ClassVar

import distrax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec
from mmbc_jax.priors._base_prior import BasePrior


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixturePriorOptions(Options):
    """Eight components, about as wide apart as a standard normal is spread."""

    num_components: int = option(8, "K", low=1)
    radius: float = option(2.0, "distance of the means from the origin", low=0.0)
    std: float = option(0.5, "standard deviation of each component", low=0.0, open_low=True)
    seed: int = option(0, "of the directions of the means", low=0)


@dataclasses.dataclass(frozen=True)
class MixturePrior(BasePrior):
    """w from one of K spherical Gaussians with equal weights, whatever the observation.

    See `BasePrior` for the attributes.
    """

    options: MixturePriorOptions

    plugin: ClassVar[str] = "mixture"

    def means(self) -> np.ndarray:
        """[K, *event_shape] the means; constants."""
        count, size = self.options.num_components, math.prod(self.event_shape)
        rows = np.random.default_rng(self.options.seed).standard_normal((count, size))
        if count <= size:
            rows = np.linalg.qr(rows.T)[0].T
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return (self.options.radius * rows).reshape(count, *self.event_shape).astype(np.float32)

    def distribution(self, params: Any, obs: Obs, posterior: Any = None) -> distrax.Distribution:
        """The mixture with the observations' leading axes as batch shape."""
        lead = (*self.batch_shape(obs), self.options.num_components)
        means = jnp.broadcast_to(self.means(), (*lead, *self.event_shape))
        components = distrax.Independent(
            distrax.Normal(means, jnp.full_like(means, self.options.std)), len(self.event_shape)
        )
        return distrax.MixtureSameFamily(distrax.Categorical(logits=jnp.zeros(lead)), components)

    def loss(self, params: Any, key: Key, obs: Obs, w: Array, posterior: Any = None) -> Array:
        """Zeros [...]: nothing here is trained."""
        return jnp.zeros(self.batch_shape(obs))


@register("prior", MixturePriorOptions)
def build(options: MixturePriorOptions, event_shape: tuple[int, ...], *, spec: PolicySpec) -> MixturePrior:
    """A mixture over `event_shape`."""
    return MixturePrior(options, tuple(event_shape), spec)
