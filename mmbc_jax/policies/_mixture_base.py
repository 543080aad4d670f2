"""The learned mixture that `policies.mixture_flow` starts from; the mathematics is told there."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import Array
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.nn.precision import Network
from mmbc_jax.ops.capped import capped

# Of y in units of its own spread, so relative to the data already; where squares are expanded (`mixture_flow`),
# float32 has no digits for less.
MIN_STD = 1e-3


class MixtureBase(Network):
    """pi(s), the parts of m(s), and sigma of the mixture over y.

    Attributes:
      obs_encoder: makes features of an observation.
      num_components: C.
      size: H A.
      hidden: widths of the trunk.
      rank: R.
      embed_dim: E, size of the components' embeddings.
    """

    obs_encoder: ObsEncoder
    num_components: int
    size: int
    hidden: tuple[int, ...]
    rank: int
    embed_dim: int

    @nn.compact
    def __call__(self, obs: Obs) -> dict[str, Array]:
        """The mixture at observations with leading axes [...].

        Returns:
          {"logits" [..., C], "features" [..., R + 1] with a leading 1, "bases" [R + 1, C, H A],
          "log_std" [H A], "embedding" [C, E], "linear" [D, H A]}, D the size of the observed vectors.
        """
        features = self.obs_encoder(obs)
        count, size = self.num_components, self.size
        logits = MLP(self.hidden, count, zero_last=True)(features)
        moved = jnp.tanh(MLP(self.hidden, self.rank, zero_last=True)(features))
        centres = self.param("centres", nn.initializers.normal(1.0), (count, size))
        directions = self.param("directions", nn.initializers.normal(0.1), (self.rank, count, size))
        log_std = self.param("log_std", nn.initializers.zeros, (size,))
        embedding = self.param("embedding", nn.initializers.normal(1.0), (count, self.embed_dim))
        return {
            "logits": logits,
            "features": jnp.concatenate([jnp.ones((*moved.shape[:-1], 1)), moved], -1),
            "bases": jnp.concatenate([centres[None], directions]),
            "log_std": capped(jnp.maximum(log_std, jnp.log(MIN_STD))),
            "embedding": embedding,
            "linear": self.param("linear", nn.initializers.zeros, (self.obs_encoder.spec.size, size)),
        }


def least_squares(obs: Array, y: Array, centres: Array, owner: Array) -> tuple[Array, Array]:
    """(centres c [C, S], A [D, S]) of y [n, S] = c_owner + A s for obs [n, D], given the clusters' means.

    For A both sides are taken relative to the cluster's mean, so that what tells clusters apart is left to the
    centres; a small ridge keeps constant entries of the observation at 0. D may be 0.
    """
    if not obs.shape[-1]:
        return centres, jnp.zeros((0, y.shape[-1]))
    count = jnp.zeros(len(centres)).at[owner].add(1.0)
    middle = jnp.zeros((len(centres), obs.shape[-1])).at[owner].add(obs) / jnp.maximum(count, 1.0)[:, None]
    x = obs - middle[owner]
    gram = x.T @ x + 1e-6 * len(obs) * jnp.eye(obs.shape[-1])
    linear = jnp.linalg.solve(gram, x.T @ (y - centres[owner]))
    return centres - middle @ linear, linear


def mixture_mean(mixture: Any, component: Array) -> Array:
    """[..., H A] m_k(s) - A s of component k [...]."""
    return jnp.einsum("...r,r...s->...s", mixture["features"], mixture["bases"][:, component])
