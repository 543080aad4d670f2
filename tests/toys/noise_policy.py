"""A policy without a network: what is steered is what comes out."""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax.numpy as jnp

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.types import Array, Batch, Key, PolicySpec, PyTree, Variables


@dataclasses.dataclass(frozen=True)
class NoisePolicy:
    """chunk = x0, plus the sum of a noise path of `path` steps where there is one.

    `seen` collects every w that is asked for.
    """

    spec: PolicySpec
    prior: str = "normal"
    path: int = 0
    seen: list = dataclasses.field(default_factory=list, compare=False)

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        built = registry.build("prior", plugin("prior", self.prior), self.spec.chunk_shape, spec=self.spec)
        return Variables({}, {"prior": built.init(key)})

    def base_distribution(self, variables: Variables, obs: Array) -> Any:
        built = registry.build("prior", plugin("prior", self.prior), self.spec.chunk_shape, spec=self.spec)
        x0 = built.distribution(variables.stats["prior"], obs)
        if not self.path:
            return x0
        zeros = jnp.zeros((*obs.shape[:-1], self.path, *self.spec.chunk_shape))
        path = distrax.Independent(distrax.Normal(zeros, jnp.ones_like(zeros)), 3)
        return distrax.Joint({"path": path, "x0": x0})

    def transport(self, variables: Variables, obs: Array, w: PyTree) -> Array:
        self.seen.append(w)
        return w["x0"] + w["path"].sum(-3) if self.path else w
