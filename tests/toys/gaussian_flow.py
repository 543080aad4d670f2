"""A flow between Gaussians, all of which can be written down: data x1 ~ N(m(s), std^2), noise x0 ~ N(0, I).

With m(s) = b + s W, on the path x_t = t x1 + (1 - t) x0 with x0 and x1 independent,

  v(x, t) = E[x1 - x0 | x_t = x] = m + (t std^2 - (1 - t)) / (t^2 std^2 + (1 - t)^2) (x - t m)
  x_t ~ N(t m, t^2 std^2 + (1 - t)^2)

and the flow itself carries x0 to m + std x0, which is `transport`. W, b and log std are its parameters, so that
a copy of it can be trained.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax
import jax.numpy as jnp

from mmbc_jax.core.types import Array, Batch, Key, PolicySpec, Variables
from mmbc_jax.policies._common import straight_field


@dataclasses.dataclass(frozen=True)
class GaussianFlow:
    """See the module docstring; `mean` and `std` are those of the data at first."""

    spec: PolicySpec
    mean: float = 0.0
    std: float = 0.5

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        return self.variables()

    def variables(self) -> Variables:
        shape = self.spec.chunk_shape
        return Variables(
            {
                "weight": jnp.zeros((self.spec.obs_dim, *shape)),
                "bias": jnp.full(shape, self.mean),
                "log_std": jnp.full(shape, jnp.log(self.std)),
            }
        )

    def moments(self, variables: Variables, obs: Array) -> tuple[Array, Array]:
        params = variables.params
        return params["bias"] + jnp.einsum("...d,dha->...ha", obs, params["weight"]), jnp.exp(
            params["log_std"]
        )

    def base_distribution(self, variables: Variables, obs: Array) -> Any:
        zeros = jnp.zeros((*obs.shape[:-1], *self.spec.chunk_shape))
        return distrax.Independent(distrax.Normal(zeros, jnp.ones_like(zeros)), 2)

    def transport(self, variables: Variables, obs: Array, w: Array) -> Array:
        mean, std = self.moments(variables, obs)
        return mean + std * w

    def field(self, variables: Variables, obs: Array) -> Any:
        mean, std = self.moments(variables, obs)

        def velocity(x: Array, t: Array) -> Array:
            t = jnp.asarray(t)[..., None, None]
            slope = (t * std**2 - (1.0 - t)) / (t**2 * std**2 + (1.0 - t) ** 2)
            return mean + slope * (x - t * mean)

        return straight_field(velocity)

    def log_prob(self, variables: Variables, obs: Array, chunk: Array) -> Array:
        mean, std = self.moments(variables, obs)
        return jax.scipy.stats.norm.logpdf(chunk, mean, std).sum((-2, -1))
