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


class Walks(NamedTuple):
    """n walks of S steps.

    Attributes:
      points: [n, S + 1, P] where they lead, in the points of `_paths`.
      stride: [n, S] distances in base space.
      length: [n, S] distances of the points.
    """

    points: np.ndarray
    stride: np.ndarray
    length: np.ndarray


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
    points, stride = _walk(case, anchor.obs, first, second, steps, normal)
    points = np.asarray(points, np.float64)
    return Walks(points, np.asarray(stride, np.float64), np.linalg.norm(np.diff(points, axis=1), axis=-1))


@functools.partial(jax.jit, static_argnames=("steps", "normal"))
def _walk(
    case: Case, obs: Obs, first: PyTree, second: PyTree, steps: int, normal: bool
) -> tuple[Array, Array]:
    tau = jnp.linspace(0.0, 1.0, steps + 1)
    from_first = jnp.cos(0.5 * jnp.pi * tau) if normal else 1.0 - tau
    from_second = jnp.sin(0.5 * jnp.pi * tau) if normal else tau

    def between(a: Array, b: Array) -> Array:
        shape = (1, -1) + (1,) * (a.ndim - 1)
        return from_first.reshape(shape) * a[:, None] + from_second.reshape(shape) * b[:, None]

    w = jax.tree.map(between, first, second)
    rows = jax.tree.leaves(w)[0].shape[:2]
    flat = merge_leading(w)
    many = repeated(obs, rows[0] * rows[1])
    points = path_points(case.normalizer, case.policy.transport(case.variables, many, flat))
    along = flat_leaves(flat).reshape(*rows, -1)
    return points.reshape(*rows, -1), jnp.linalg.norm(jnp.diff(along, axis=1), axis=-1)
