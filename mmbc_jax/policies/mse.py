"""Deterministic chunk regression: the policy without a base.

The network regresses the chunk on the observation, so its minimiser is E[chunk | s]: between two modes it
goes down the middle. It fits the pair (base, transport) with an empty base, w in R^0, so everything written
against the pair (diagnostics, rollouts, steering) runs on it and shows what no base at all can do.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import NetworkOptions, bind, init_backbone, make_backbone
from mmbc_jax.policies._common import masked_mse
from mmbc_jax.priors.normal import gaussian_noise


@dataclasses.dataclass(frozen=True, kw_only=True)
class MSEOptions(NetworkOptions):
    """Only the network."""


@dataclasses.dataclass(frozen=True)
class MSEPolicy:
    """chunk = f(obs).

    Attributes:
      spec: sizes and observations.
      network: from the observation to a chunk.
    """

    spec: PolicySpec
    network: nn.Module

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters of the network."""
        return Variables(init_backbone(self.network, key, self.spec.obs.dummy(1)))

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Mean squared error per example [B] over the recorded actions; `key` and `hp` are not used."""
        error = masked_mse(bind(self.network, variables.params, batch.obs)(), batch.chunk, batch.mask)
        return Loss(error, jnp.zeros(()), {"bc/chunk_mse": error.mean()}, variables.stats)

    def base_distribution(self, variables: Variables, obs: Obs) -> Any:
        """The empty base: w has shape [..., 0] and log-probability 0."""
        return gaussian_noise(self.spec.obs.batch_shape(obs), (0,))

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """Chunk [..., H, A] for obs [...]; w [..., 0] carries nothing."""
        return bind(self.network, variables.params, obs)()


@register("policy", MSEOptions, needs_prior="none", needs_sampler=False)
def build(
    options: MSEOptions, spec: PolicySpec, *, prior: MakePrior | None = None, sampler: Sampler | None = None
) -> MSEPolicy:
    """A regression policy; `prior` and `sampler` are accepted as by every policy and have no part in it."""
    return MSEPolicy(spec, make_backbone(options, spec, spec.action_dim))
