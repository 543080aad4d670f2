"""A policy that lives outside the package: chunk = bias + w, with a squared-error loss on the bias."""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, Variables


def default_config() -> ConfigDict:
    return ConfigDict({"start": 0.5, "pull": 1.0})


@dataclasses.dataclass(frozen=True)
class BiasPolicy:
    spec: PolicySpec
    start: float

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        return Variables({"bias": jnp.full(self.spec.chunk_shape, self.start)})

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        error = jnp.square(variables.params["bias"] - batch.chunk).mean((-2, -1))
        return Loss(hp["pull"] * error, jnp.zeros(()), {"bc/error": error.mean()}, variables.stats)

    def base_distribution(self, variables: Variables, obs: Array) -> Any:
        zeros = jnp.zeros((*obs.shape[:-1], *self.spec.chunk_shape))
        return distrax.Independent(distrax.Normal(zeros, jnp.ones_like(zeros)), 2)

    def transport(self, variables: Variables, obs: Array, w: Array) -> Array:
        return variables.params["bias"] + w


@register("policy", default_config, hparams=("pull",))
def build(cfg: ConfigDict, spec: PolicySpec, **_: Any) -> BiasPolicy:
    return BiasPolicy(spec, cfg.start)


def not_registered(cfg: ConfigDict) -> None:
    """A function that nobody marked."""
