r"""Walks through base space between samples that land in different modes, and what kind of base it is.

Between two base samples a and b the walk is w(tau) = cos(pi tau / 2) a + sin(pi tau / 2) b where the base is
N(0, I): every w(tau) of independent a and b is again N(0, I), so the walk stays where samples come from.
Otherwise it is straight. A continuous transport crosses the gap between the modes on every such walk; how
much of the walk that takes, and how steep it is there, is what smoothness costs.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.diagnostics._path_metric import Anchor, path_points, repeated
from mmbc_jax.diagnostics.case import Case, float_leaves
from mmbc_jax.ops.leading_axes import merge_leading

_TOLERANCE = 1e-3  # of log-densities, per entry of w
_ROUNDING = 2.0 * float(np.finfo(np.float32).eps)  # of a difference, in units of what is subtracted


class Walks(NamedTuple):
    """n walks of S steps.

    Attributes:
      points: [n, S + 1, P] where they lead, in the points of `_path_metric`.
      stride: [n, S] distances in base space.
      length: [n, S] distances of the points.
      first: [n, ...] base samples that they start from.
      second: [n, ...] and go to.
    """

    points: np.ndarray
    stride: np.ndarray
    length: np.ndarray
    first: PyTree
    second: PyTree


def base_kind(case: Case, obs: Obs, w: PyTree) -> tuple[bool, bool]:
    """Whether a base has integer leaves, and whether it is N(0, I).

    The latter is read from its log-density at its own samples, whatever class it is of.

    Args:
      case: with the policy.
      obs: one observation.
      w: [n, ...] samples of its base there.

    Returns:
      (discrete, standard normal).
    """
    leaves, _ = float_leaves(w)
    discrete = len(leaves) < len(jax.tree.leaves(w))
    size = flat_leaves(w).shape[1]
    if discrete or size == 0:
        return discrete, False
    log_density = base_log_prob(case, obs, w)
    if log_density is None:
        return False, False
    wanted = -0.5 * (np.square(np.asarray(flat_leaves(w))).sum(-1) + size * np.log(2 * np.pi))
    return False, bool(np.all(np.abs(np.asarray(log_density) - wanted) <= _TOLERANCE * size))


@jax.jit
def flat_leaves(w: PyTree) -> Array:
    """[n, W] the float leaves of base samples [n, ...], side by side."""
    leaves, _ = float_leaves(w)
    rows = jax.tree.leaves(w)[0].shape[0]
    return jnp.concatenate([jnp.zeros((rows, 0)), *(leaf.reshape(rows, -1) for leaf in leaves)], axis=-1)


@jax.jit
def base_log_prob(case: Case, obs: Obs, w: PyTree) -> Array | None:
    """[n] log-density of the base at w [n, ...] for one observation; None where it has none."""
    count = jax.tree.leaves(w)[0].shape[0]
    base = case.policy.base_distribution(case.variables, repeated(obs, count))
    return log_prob(base, w)


def log_prob(distribution: Any, value: PyTree) -> Array | None:
    """`distribution.log_prob(value)`, or None where it has no density (a base given by its sampler alone)."""
    try:
        return distribution.log_prob(value)
    except (AttributeError, NotImplementedError):
        return None


def walk_between(
    case: Case, anchor: Anchor, w: PyTree, label: np.ndarray, pairs: int, steps: int, normal: bool
) -> Walks | None:
    """Walks between pairs of base samples of different modes.

    Args:
      case: with the policy.
      anchor: where.
      w: [n, ...] base samples, float leaves only.
      label: [n] their modes, `OFF` for none.
      pairs: number of walks.
      steps: S.
      normal: whether the base is N(0, I).

    Returns:
      The walks; None where fewer than two modes were reached.
    """
    known = np.flatnonzero(label >= 0)
    # A shift by a quarter of the samples sorted by mode pairs each with another mode where no mode fills it.
    order = known[np.argsort(label[known], kind="stable")]
    found: list[tuple[int, int]] = []
    for shift in range(max(1, len(order) // 4), len(order)):
        other = np.roll(order, -shift)
        apart = label[order] != label[other]
        found += list(zip(order[apart].tolist(), other[apart].tolist(), strict=True))
        if len(found) >= 4 * pairs:
            break
    if not found:
        return None
    chosen = [found[i] for i in np.linspace(0, len(found) - 1, pairs).round().astype(int)]
    first, second = (jax.tree.map(lambda x, i=i: x[np.asarray(i)], w) for i in zip(*chosen, strict=True))
    return _walked(case, anchor.obs, first, second, np.zeros(pairs), steps, 1.0, normal)


def steepest(case: Case, anchor: Anchor, walks: Walks, normal: bool) -> float:
    """The largest slope on the walks, looked at again in as many steps within the steepest step of each.

    One step may hold a whole jump; its mean slope is then a small part of the slope there. What rounding can add in
    such short steps is taken off, so that a slope remains a lower bound of L.
    """
    slope = walks.length / np.maximum(walks.stride, 1e-12)
    steps = slope.shape[1]
    start = slope.argmax(axis=1) / steps
    closer = _walked(case, anchor.obs, walks.first, walks.second, start, steps, 1.0 / steps, normal)
    far = np.linalg.norm(np.asarray(flat_leaves(walks.first)), axis=-1).max()
    run = closer.stride + _ROUNDING * far
    rise = closer.length - _ROUNDING * np.linalg.norm(closer.points, axis=-1).max()
    return max(float(slope.max()), float((rise / run).max()))


def _walked(
    case: Case,
    obs: Obs,
    first: PyTree,
    second: PyTree,
    start: np.ndarray,
    steps: int,
    span: float,
    normal: bool,
) -> Walks:
    """The parts of walks from tau = start [n] to start + span."""
    points, stride = _walk(case, obs, first, second, jnp.asarray(start, jnp.float32), span, steps, normal)
    points = np.asarray(points, np.float64)
    length = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    return Walks(points, np.asarray(stride, np.float64), length, first, second)


@functools.partial(jax.jit, static_argnames=("steps", "normal"))
def _walk(
    case: Case,
    obs: Obs,
    first: PyTree,
    second: PyTree,
    start: Array,
    span: float,
    steps: int,
    normal: bool,
) -> tuple[Array, Array]:
    tau = start[:, None] + span * jnp.linspace(0.0, 1.0, steps + 1)
    from_first = jnp.cos(0.5 * jnp.pi * tau) if normal else 1.0 - tau
    from_second = jnp.sin(0.5 * jnp.pi * tau) if normal else tau

    def between(a: Array, b: Array) -> Array:
        shape = (*tau.shape, *(1,) * (a.ndim - 1))
        return from_first.reshape(shape) * a[:, None] + from_second.reshape(shape) * b[:, None]

    w = jax.tree.map(between, first, second)
    rows = jax.tree.leaves(w)[0].shape[:2]
    flat = merge_leading(w)
    many = repeated(obs, rows[0] * rows[1])
    points = path_points(case.normalizer, case.policy.transport(case.variables, many, flat))
    along = flat_leaves(flat).reshape(*rows, -1)
    return points.reshape(*rows, -1), jnp.linalg.norm(jnp.diff(along, axis=1), axis=-1)
