"""Deterministic chunk regression: the policy without a base.

The network regresses the chunk on the observation, so its minimiser is E[chunk | s]: between two modes it
goes down the middle. It fits the pair (base, transport) with an empty base, w in R^0, so everything written
against the pair (diagnostics, rollouts, steering) runs on it and shows what no base at all can do.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import bind, init_backbone, make_backbone, network_config
from mmbc_jax.policies._common import masked_mse


def default_config() -> ConfigDict:
    """Only the network."""
    return ConfigDict(network_config())


@dataclasses.dataclass(frozen=True)
class MSEPolicy:
    """chunk = f(obs).

    Attributes:
      spec: sizes.
      network: from the observation to a chunk.
    """

    spec: PolicySpec
    network: nn.Module

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters of the network."""
        return Variables(init_backbone(self.network, key, jnp.zeros((1, self.spec.obs_dim))))

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Mean squared error per example [B] over the recorded actions; `key` and `hp` are not used."""
        error = masked_mse(bind(self.network, variables.params, batch.obs)(), batch.chunk, batch.mask)
        return Loss(error, jnp.zeros(()), {"bc/chunk_mse": error.mean()}, variables.stats)

    def base_distribution(self, variables: Variables, obs: Array) -> Any:
        """The empty base: w has shape [..., 0] and log-probability 0."""
        empty = jnp.zeros((*obs.shape[:-1], 0))
        return distrax.Independent(distrax.Normal(empty, jnp.ones_like(empty)), 1)

    def transport(self, variables: Variables, obs: Array, w: PyTree) -> Array:
        """Chunk [..., H, A] for obs [..., D]; w [..., 0] carries nothing."""
        return bind(self.network, variables.params, obs)()


@register("policy", default_config)
def build(
    cfg: ConfigDict, spec: PolicySpec, *, prior: MakePrior | None = None, sampler: Sampler | None = None
) -> MSEPolicy:
    """A regression policy; `prior` and `sampler` are accepted as by every policy and have no part in it.

    Raises:
      ConfigError: an option of the network cannot work.
    """
    return MSEPolicy(spec, make_backbone(cfg, *spec.chunk_shape))
