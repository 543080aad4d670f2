r"""A policy in path coordinates: it models the running sum of a chunk and hands out the chunk.

For actions that are displacements, y_h = (a_1 + .. + a_h) / c is the path that the chunk takes. Independent noise on
recorded positions makes noise of sqrt(2) times its size on every single action but not more than itself on
the path, so that modes which differ by less than that per step are far apart as paths. The map is linear and
invertible: a_h = c (y_h - y_{h-1}); c is the largest |a_1 + .. + a_h| of the data, so that y lies in [-1, 1].
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from mmbc_jax.core.protocols import HasLogProb, HasPosterior, Policy
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables

COORDINATES = ("actions", "path")


@dataclasses.dataclass(frozen=True)
class PathPolicy:
    """Any policy, in path coordinates.

    Attributes:
      inner: works on y [..., H, A] where others work on chunks.
    """

    inner: Policy

    @property
    def spec(self) -> PolicySpec:
        """Sizes; the same for chunks and paths."""
        return self.inner.spec

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Variables of the inner policy, with the scale c among the statistics."""
        scale = jnp.maximum(jnp.abs(self._sum(sample_batch.chunk)).max(), 1e-6)
        variables = self.inner.init(key, self._to_path(sample_batch, scale))
        return Variables(variables.params, {"inner": variables.stats, "scale": scale})

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """The inner loss on paths."""
        loss = self.inner.loss(
            self._inner(variables), key, self._to_path(batch, variables.stats["scale"]), hp
        )
        return loss.replace(stats={**variables.stats, "inner": loss.stats})

    def base_distribution(self, variables: Variables, obs: Array) -> Any:
        """That of the inner policy."""
        return self.inner.base_distribution(self._inner(variables), obs)

    def transport(self, variables: Variables, obs: Array, w: PyTree) -> Array:
        """Chunk [..., H, A] of the inner policy's path."""
        y = self.inner.transport(self._inner(variables), obs, w) * variables.stats["scale"]
        return jnp.diff(y, axis=-2, prepend=0.0)

    def _inner(self, variables: Variables) -> Variables:
        return Variables(variables.params, variables.stats["inner"])

    def _sum(self, chunk: Array) -> Array:
        # As a product: a cumulative sum is compiled to a quadratic loop, slower on a CPU.
        lower = jnp.tril(jnp.ones((self.spec.chunk_len, self.spec.chunk_len)))
        return jnp.einsum("ij,...ja->...ia", lower, chunk, precision="highest")

    def _to_path(self, batch: Batch, scale: Array) -> Batch:
        return batch.replace(chunk=self._sum(batch.chunk) / scale)


@dataclasses.dataclass(frozen=True)
class LatentPathPolicy(PathPolicy):
    """With the inner policy's posterior."""

    def posterior(self, variables: Variables, obs: Array, chunk: Array) -> Any:
        """q(z | obs, chunk) for obs [..., D] and chunk [..., H, A]."""
        y = self._sum(chunk) / variables.stats["scale"]
        return self.inner.posterior(self._inner(variables), obs, y)  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True)
class DensityPathPolicy(PathPolicy):
    """With the inner policy's density."""

    def log_prob(self, variables: Variables, obs: Array, chunk: Array) -> Array:
        """[...] log p(chunk | obs): the density of y, less log c for each entry (the sum has determinant 1)."""
        scale = variables.stats["scale"]
        inner = self.inner.log_prob(self._inner(variables), obs, self._sum(chunk) / scale)  # type: ignore[attr-defined]
        return inner - math.prod(self.spec.chunk_shape) * jnp.log(scale)


def in_coordinates(policy: Policy, coordinates: str) -> Policy:
    """The policy itself for "actions", in path coordinates for "path"; what it can do is kept."""
    if coordinates == "actions":
        return policy
    if isinstance(policy, HasPosterior):
        return LatentPathPolicy(policy)
    return DensityPathPolicy(policy) if isinstance(policy, HasLogProb) else PathPolicy(policy)
