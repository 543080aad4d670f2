r"""A policy in other coordinates: it models y = (a - o) M, an affine map of the flat chunk a, and hands out a.

`path`: y_h = (a_1 + .. + a_h) / c, the path that displacements take. Independent noise on recorded positions makes
noise of sqrt(2) times its size on every action but not more than itself on the path, so that modes which
differ by less than that per step are far apart as paths. Suits families that cluster or reconstruct chunks.

`whitened`: the principal components of the paths, each in units of its own spread, or of `FLOOR` times the largest
spread where it has less, over c. The few directions in which modes differ then have the scale of the base, and
what is noise stays small and near Gaussian, so that a flow or a diffusion spends itself on the modes.

c is the largest entry on all the windows that there are at `init`, so that y lies in [-1, 1]. Whitened coordinates
mix the steps of a chunk: there what runs past the end of an episode counts as recorded (its last action repeats).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.protocols import Field, Policy, capabilities, native
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.ops.leading_axes import over_chunk

COORDINATES = ("actions", "path", "whitened")
FLOOR = 0.1
_BLOCK = 4096  # windows looked at together
MIN_SIGMA = 1e-6  # where no noise is left its estimate is without meaning, but finite


def path_map(chunks: Array, every: Array | None = None) -> tuple[Array, Array, Array]:
    """(M, its inverse, o) of path coordinates, [n, n], [n, n] and [n] with n = H A.

    Args:
      chunks: [B, H, A] that the map is fitted to.
      every: [M, H, A] that are to lie in [-1, 1]; None for `chunks`.
    """
    steps, actions = chunks.shape[-2:]
    matrix = jnp.kron(jnp.triu(jnp.ones((steps, steps))), jnp.eye(actions))
    inverse = jnp.kron(jnp.eye(steps) - jnp.eye(steps, k=1), jnp.eye(actions))
    return _scaled(matrix, inverse, jnp.zeros(steps * actions), chunks if every is None else every)


def whitening_map(chunks: Array, every: Array | None = None) -> tuple[Array, Array, Array]:
    """(M, its inverse, o) of whitened coordinates, fitted to chunks [B, H, A]; see `path_map`."""
    sums, differences, _ = path_map(chunks)
    mean = chunks.reshape(len(chunks), -1).mean(0)
    flat = _apply(chunks.reshape(len(chunks), -1), sums)
    centred = flat - flat.mean(0)
    values, vectors = jnp.linalg.eigh(centred.T @ centred / len(flat))
    spread = jnp.sqrt(jnp.maximum(values, 0.0))
    spread = jnp.maximum(spread, jnp.maximum(FLOOR * spread[-1], 1e-6))
    matrix, inverse = _apply(sums, vectors / spread), _apply((vectors * spread).T, differences)
    return _scaled(matrix, inverse, mean, chunks if every is None else every)


def _scaled(matrix: Array, inverse: Array, offset: Array, every: Array) -> tuple[Array, Array, Array]:
    def largest(chunks: Array) -> Array:
        return jnp.abs(_apply(chunks.reshape(len(chunks), -1) - offset, matrix)).max()

    # in blocks, since y of all windows at once may not fit the memory; the last one overlaps the one before
    size = min(len(every), _BLOCK)
    starts = jnp.minimum(jnp.arange(0, len(every), size), len(every) - size)
    found = jax.lax.map(lambda start: largest(jax.lax.dynamic_slice_in_dim(every, start, size)), starts)
    scale = jnp.maximum(found.max(), 1e-6)
    return matrix / scale, inverse * scale, offset


def _apply(flat: Array, matrix: Array) -> Array:
    return jnp.einsum("...i,ij->...j", flat, matrix, precision="highest")


MAPS = {"path": path_map, "whitened": whitening_map}


@dataclasses.dataclass(frozen=True)
class AffinePolicy:
    """Any policy, in other coordinates; what it can do besides its contract it can do here too.

    Attributes:
      spec: sizes and observations; the same in all coordinates.
      inner: works on y [..., H, A] where others work on chunks.
      coordinates: a key of `MAPS`.
    """

    spec: PolicySpec
    inner: Any
    coordinates: str

    @property
    def capabilities(self) -> frozenset[str]:
        """Those of the inner policy, and `modelled`."""
        return capabilities(self.inner) | {"modelled"}

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Variables of the inner policy, with the fitted map among the statistics."""
        matrix, inverse, offset = MAPS[self.coordinates](sample_batch.chunk, sample_batch.every)
        stats = {"matrix": matrix, "inverse": inverse, "offset": offset}
        variables = self.inner.init(key, self._batch(sample_batch, stats))
        return Variables(variables.params, {**stats, "inner": variables.stats})

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """The inner loss in these coordinates."""
        loss = self.inner.loss(self._inner(variables), key, self._batch(batch, variables.stats), hp)
        return loss.replace(stats={**variables.stats, "inner": loss.stats})

    def base_distribution(self, variables: Variables, obs: Obs) -> Any:
        """That of the inner policy."""
        return self.inner.base_distribution(self._inner(variables), obs)

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """Chunk [..., H, A] of what the inner policy makes of w."""
        return _outer(self.inner.transport(self._inner(variables), obs, w), variables.stats)

    def log_prob(self, variables: Variables, obs: Obs, chunk: Array) -> Array:
        """[...] log p(chunk | obs): the density of y plus log |det M|."""
        volume = jnp.linalg.slogdet(variables.stats["matrix"])[1]
        return self.inner.log_prob(self._inner(variables), obs, _map(chunk, variables.stats)) + volume

    def posterior(self, variables: Variables, obs: Obs, chunk: Array) -> Any:
        """q(z | obs, chunk [..., H, A]) of the inner policy."""
        return self.inner.posterior(self._inner(variables), obs, _map(chunk, variables.stats))

    def field(self, variables: Variables, obs: Obs) -> Field:
        """The inner field, moved; see `AffineField`."""
        return AffineField(self.inner.field(self._inner(variables), obs), variables.stats)

    def chain(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """[N + 1, ..., H, A] the points that the inner policy visits, moved; the last is the chunk of `transport`."""
        return _outer(self.inner.chain(self._inner(variables), obs, w), variables.stats)

    def modelled(self, variables: Variables, chunk: Array) -> Array:
        """y of chunks [..., H, A]."""
        return _map(chunk, variables.stats)

    def _inner(self, variables: Variables) -> Variables:
        return Variables(variables.params, variables.stats["inner"])

    def _batch(self, batch: Batch, stats: PyTree) -> Batch:
        mask = jnp.ones_like(batch.mask) if self.coordinates == "whitened" else batch.mask
        every = None if batch.every is None else _map(batch.every, stats)
        return batch.replace(chunk=_map(batch.chunk, stats), mask=mask, every=every)


@dataclasses.dataclass(frozen=True)
class AffineField:
    """A field over y = (x - o) M as one over x = y M^-1 + o, all points of its paths moved by the one map.

    Velocities turn with M^-1. With y = alpha d + sigma n the data estimate becomes d M^-1 + o and the noise
    n M^-1 + (1 - alpha) / sigma o, so that alpha and sigma recombine them to x. A method that steps along velocities
    (Euler, Heun) therefore visits here the moved points that it visits in y; one that recombines data and noise at
    other levels does so where alpha + sigma = 1 or o = 0.

    Attributes:
      inner: over y.
      stats: {"matrix", "inverse", "offset"} of the map.
    """

    inner: Field
    stats: PyTree

    @property
    def native(self) -> tuple[Field, Callable[[Array], Array]]:
        """(the field over y, y [..., H, A] to chunks)."""
        field, out = native(self.inner)
        return field, lambda y: _outer(out(y), self.stats)

    def velocity(self, x: Array, t: Array) -> Array:
        """dx/dt at x [..., H, A] and time t [] or [...]."""
        return _turned(self.inner.velocity(_map(x, self.stats), t), self.stats)

    def denoise(self, x: Array, t: Array) -> tuple[Array, Array]:
        """(data, noise) estimates, each [..., H, A]."""
        data, noise = self.inner.denoise(_map(x, self.stats), t)
        alpha, sigma = self.inner.path(over_chunk(t))
        # towards the data 1 - alpha falls at least as fast as sigma, so the share stays bounded
        share = (1.0 - alpha) / jnp.maximum(sigma, MIN_SIGMA)
        offset = self.stats["offset"].reshape(x.shape[-2:])
        return _outer(data, self.stats), _turned(noise, self.stats) + share * offset

    def path(self, t: Array) -> tuple[Array, Array]:
        """(alpha, sigma), the same in all coordinates."""
        return self.inner.path(t)


def _map(chunk: Array, stats: PyTree) -> Array:
    """y of chunks [..., H, A]."""
    flat = chunk.reshape(*chunk.shape[:-2], -1) - stats["offset"]
    return _apply(flat, stats["matrix"]).reshape(chunk.shape)


def _turned(y: Array, stats: PyTree) -> Array:
    """y [..., H, A] through the linear part of the way back."""
    return _apply(y.reshape(*y.shape[:-2], -1), stats["inverse"]).reshape(y.shape)


def _outer(y: Array, stats: PyTree) -> Array:
    """Chunks of y [..., H, A]."""
    flat = _apply(y.reshape(*y.shape[:-2], -1), stats["inverse"]) + stats["offset"]
    return flat.reshape(y.shape)


def in_coordinates(policy: Policy, coordinates: str) -> Policy:
    """The policy itself for "actions", else in the coordinates of that name; what it can do is kept."""
    if coordinates == "actions":
        return policy
    made: Any = AffinePolicy(policy.spec, policy, coordinates)
    return made
