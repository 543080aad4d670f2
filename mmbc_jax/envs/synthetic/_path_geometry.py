"""Geometry of a path task: mean paths, obstacles, the experts' spread, and what follows from them.

See `_path_task` for the task that is made of it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from mmbc_jax.core.types import Array, Key, PyTree
from mmbc_jax.envs.synthetic._statistics import rice_mean

MAX_MODES = 64  # of the tasks where K is traced


class Spread(NamedTuple):
    """How the experts scatter around their mean path; isotropic Gaussian errors.

    Attributes:
      end: [] standard deviation per axis of the last position.
      step: [T - 1] standard deviation per axis of each displacement.
      distance: [] a bound that an expert's mean distance D from its own mean path keeps.
    """

    end: Array
    step: Array
    distance: Array


class PathGeometry:
    """Paths of K modes in the unit square, with obstacles.

    Subclasses give `default_params`, `point`, `boxes` (and `collides` where there is a shorter way), `spread` and
    `start`.

    Args:
      points: T.
      rows: M, `MAX_MODES` where K is a traced parameter, else K.
    """

    shifts: tuple[int, ...] = (1,)  # some closest pair of modes is (k, k + shift mod K)

    def __init__(self, points: int, rows: int):
        self.points, self.rows = points, rows

    def default_params(self) -> PyTree:
        """The traced parameters; "num_modes" among them where K is free."""
        raise NotImplementedError

    def point(self, params: PyTree, mode: Array, phase: Array) -> Array:
        """Mean path [..., 2] of `mode` [...] int32 at `phase` [...] = t / (T - 1)."""
        raise NotImplementedError

    def boxes(self, params: PyTree) -> tuple[Array, Array]:
        """Obstacles: (centres [n, 2], half sizes [n, 2]); a negative half size is no obstacle."""
        raise NotImplementedError

    def spread(self, params: PyTree) -> Spread:
        """How the experts scatter."""
        raise NotImplementedError

    def start(self, params: PyTree, key: Key) -> Array:
        """Draws the first position [2]."""
        raise NotImplementedError

    def collides(self, params: PyTree, position: Array) -> Array:
        """[...] bool: `position` [..., 2] lies in an obstacle, border included."""
        centres, halves = self.boxes(params)
        return (jnp.abs(position[..., None, :] - centres) <= halves).all(-1).any(-1)

    def mean_paths(self, params: PyTree) -> Array:
        """[M, T, 2] mean path of every mode; rows beyond K repeat row 0, so a minimum needs no mask."""
        phase = jnp.arange(self.points) / (self.points - 1)
        return self.point(params, self._modes(params)[:, None], phase[None])

    def separation(self, params: PyTree) -> Array:
        """[] Delta, the smallest mean distance of two mean paths; 0 where K = 1."""
        paths, modes = self.mean_paths(params), self._modes(params)
        others = [(modes + shift) % self._count(params) for shift in self.shifts]
        distances = [jnp.linalg.norm(paths - paths[other], axis=-1).mean(-1) for other in others]
        return jnp.stack(distances).min()

    def expert_length(self, params: PyTree) -> Array:
        """[] mean over modes of the experts' expected path length, sum_t E|d_t + s_t n|."""
        steps = jnp.linalg.norm(jnp.diff(self.mean_paths(params), axis=1), axis=-1)
        lengths = rice_mean(steps, self.spread(params).step).sum(-1)
        real = jnp.arange(self.rows) < self._count(params)
        return jnp.where(real, lengths, 0.0).sum() / real.sum()

    def _count(self, params: PyTree) -> Array:
        """[] K."""
        return jnp.asarray(params.get("num_modes", self.rows), jnp.int32)

    def _modes(self, params: PyTree) -> Array:
        """[M] int32: 0, ..., K - 1, then 0."""
        row = jnp.arange(self.rows)
        return jnp.where(row < self._count(params), row, 0)

    def _mean(self, params: PyTree, mode: Array, step: Array) -> Array:
        """[..., 2] mean path of `mode` [...] at time `step`; the last position from then on."""
        return self.point(params, mode, jnp.minimum(step, self.points - 1) / (self.points - 1))

    def _distances(self, params: PyTree, position: Array, step: Array) -> Array:
        """[M] distance of `position` [2] to every mean path at time `step`."""
        return jnp.linalg.norm(position - self._mean(params, self._modes(params), step), axis=-1)
