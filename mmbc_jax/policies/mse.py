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
from ml_collections import ConfigDict

from mmbc_jax.core.protocols import Prior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.embedding import fourier_features
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.policies._common import check_network, masked_mse, network_config


def default_config() -> ConfigDict:
    """Only the network."""
    return ConfigDict(network_config())


@dataclasses.dataclass(frozen=True)
class MSEPolicy:
    """chunk = f(obs).

    Attributes:
      spec: sizes.
      network: from features of the observation to a flat chunk.
      fourier_octaves: octaves of `fourier_features` of the observation.
    """

    spec: PolicySpec
    network: MLP
    fourier_octaves: int

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters of the network."""
        features = fourier_features(jnp.zeros((1, self.spec.obs_dim)), self.fourier_octaves)
        return Variables(params=self.network.init(key, features)["params"])

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Mean squared error of the chunk over the recorded actions; `key` and `hp` are not used."""
        error = masked_mse(self._predict(variables, batch.obs), batch.chunk, batch.mask)
        return Loss(error, jnp.zeros(()), {"bc/chunk_mse": error.mean()}, variables.stats)

    def base_distribution(self, variables: Variables, obs: Array) -> Any:
        """The empty base: w has shape [..., 0] and log-probability 0."""
        empty = jnp.zeros((*obs.shape[:-1], 0))
        return distrax.Independent(distrax.Normal(empty, jnp.ones_like(empty)), 1)

    def transport(self, variables: Variables, obs: Array, w: PyTree) -> Array:
        """Chunk [..., H, A] for obs [..., D]; w [..., 0] carries nothing."""
        return self._predict(variables, obs)

    def _predict(self, variables: Variables, obs: Array) -> Array:
        features = fourier_features(obs, self.fourier_octaves)
        flat = jnp.asarray(self.network.apply({"params": variables.params}, features))
        return flat.reshape(*obs.shape[:-1], *self.spec.chunk_shape)


@register("policy", default_config)
def build(
    cfg: ConfigDict, spec: PolicySpec, *, prior: Prior | None = None, sampler: Sampler | None = None
) -> MSEPolicy:
    """A regression policy; `prior` and `sampler` are accepted as by every policy and have no part in it.

    Raises:
      ConfigError: an option of the network cannot work.
    """
    check_network(cfg)
    network = MLP(
        hidden=tuple(cfg.hidden),
        out=spec.chunk_len * spec.action_dim,
        activation=cfg.activation,
        layer_norm=cfg.layer_norm,
        residual=cfg.residual,
        zero_last=True,
    )
    return MSEPolicy(spec, network, cfg.fourier_octaves)
