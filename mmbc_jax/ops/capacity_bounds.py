"""How many separated modes a Lipschitz map of a Gaussian can have, and what it must spill between them.

A generative policy sends a base `w ~ N(0, I_m)` through a map of Lipschitz constant L. Let its modes be sets
of mass p_i, any two of them at least `delta` apart (between the sets: for tubes of radius r, the distance of
the centres less 2r). The preimages are then `delta / L` apart, so their enlargements by `h = delta / 2L` are
disjoint, and by Gaussian isoperimetry an enlargement has mass at least `Phi(Phi^-1(p_i) + h)`. Hence

  sum_i Phi(Phi^-1(p_i) + h) <= 1                                 whatever the dimension m,
  mass outside the modes >= sum_i [Phi(Phi^-1(p_i) + h) - p_i]    (the bridges).

Both need a true L. Sampled Jacobians bound L from below and certify nothing; with them, report the L that the
observed modes require instead. Sources: Borell 1975 and Sudakov & Tsirelson 1974 (isoperimetry), the mode
count of arXiv 2605.22493. Everything is numpy in float64 on the host; arguments broadcast, and scalars give
numpy scalars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr, ndtri

if TYPE_CHECKING:  # no checker can tell at run time what numpy takes for an array
    from numpy.typing import ArrayLike

Result = Float64[np.ndarray | np.float64, "*shape"]

_SLACK = 1e-12  # masses that sum to 1 within this count as filling the whole base
_BISECTIONS = 100


def printed_mode_bound(L: ArrayLike, delta: ArrayLike, tau: ArrayLike) -> Result:
    """The mode count as printed in arXiv 2605.22493: `1 + ceil(2 Phi^-1(1 - tau/2) L / delta)`.

    It holds for a scalar base only. The clip of each of m coordinates to [-1/2, 1/2] is 1-Lipschitz with 2^m
    modes at delta = 1, more than this allows from m = 3 on. Use `mode_bound` in higher dimensions.

    Args:
      L: in [0, inf], Lipschitz constant of the map.
      delta: >= 0, smallest distance between modes, in the units of the map's output.
      tau: in (0, 1], the mass that makes a mode.

    Returns:
      The bound on the number of modes of mass >= tau, as a float: 1 where L is 0 or tau is 1, else inf where
      delta is 0.

    Raises:
      ValueError: an argument out of range.
    """
    share, slope, distance = np.broadcast_arrays(_tau(tau), _slope(L), _distance(delta))
    # Phi^-1(1 - tau/2) = -Phi^-1(tau/2), and the right side keeps its digits for a small tau
    width = -2.0 * ndtri(share / 2.0)
    several = (width > 0.0) & (slope > 0.0)
    with np.errstate(divide="ignore"):
        ratio = np.where(several, slope, 1.0) / distance
    return np.where(several, 1.0 + np.ceil(np.where(several, width, 1.0) * ratio), 1.0)[()]


def mode_bound(L: ArrayLike, delta: ArrayLike, tau: ArrayLike) -> Result:
    """A mode count that holds in every dimension: `1 / Phi(Phi^-1(tau) + delta / 2L)`.

    Each mode of mass >= tau takes at least that enlarged mass, and they add up to at most 1.

    Args:
      L: in [0, inf], Lipschitz constant of the map.
      delta: >= 0, smallest distance between mode sets.
      tau: in (0, 1], the mass that makes a mode.

    Returns:
      The bound (not rounded down), in [1, 1/tau].

    Raises:
      ValueError: an argument out of range.
    """
    return (1.0 / _enlarge(_tau(tau), _half_gap(L, delta)))[()]


def enlargement_sum(masses: ArrayLike, L: ArrayLike, delta: ArrayLike) -> Result:
    """`sum_i Phi(Phi^-1(p_i) + delta / 2L)`, which must not exceed 1.

    Args:
      masses: [..., N] mass of each mode, summing to at most 1; what is missing lies outside the modes.
      L: [...] in [0, inf], Lipschitz constant of the map.
      delta: [...] >= 0, smallest distance between mode sets.

    Returns:
      [...] the sum. Above 1, no L-Lipschitz map of a Gaussian has such modes.

    Raises:
      ValueError: an argument out of range.
    """
    p = _mode_masses(masses)
    total: Result = _enlarge(p, _half_gap(L, delta)[..., None]).sum(-1)[()]
    return total


def bridge_mass_bound(masses: ArrayLike, L: ArrayLike, delta: ArrayLike) -> Result:
    """The least mass between the modes: `sum_i [Phi(Phi^-1(p_i) + delta / 2L) - p_i]`.

    Two plateaus joined by a line of slope L, on a scalar base, meet it with equality.

    Args:
      masses: [..., N] mass of each mode, summing to at most 1.
      L: [...] in [0, inf], Lipschitz constant of the map.
      delta: [...] >= 0, smallest distance between mode sets.

    Returns:
      [...] the bound, >= 0. Above `1 - sum(masses)` the three arguments contradict each other.

    Raises:
      ValueError: an argument out of range.
    """
    p = _mode_masses(masses)
    gain = _enlarge(p, _half_gap(L, delta)[..., None]) - p
    bridges: Result = np.maximum(gain, 0.0).sum(-1)[()]
    return bridges


def required_lipschitz(masses: ArrayLike, delta: ArrayLike) -> Result:
    """The smallest L that the modes allow: the root of `enlargement_sum(masses, L, delta) = 1`.

    By bisection in `h = delta / 2L`, in which the sum rises from `sum(masses)` towards N. Estimated masses
    that leave nothing outside the modes demand a jump (inf), so bound the mass outside from above first, for
    instance by the upper end of its confidence interval.

    Args:
      masses: [..., N] mass of each mode, summing to at most 1.
      delta: [...] >= 0, smallest distance between mode sets.

    Returns:
      [...] the Lipschitz constant: 0 where fewer than two modes have mass or delta is 0, and inf where two or
      more modes fill the whole base at delta > 0.

    Raises:
      ValueError: an argument out of range.
    """
    p, distance = _mode_masses(masses), _distance(delta)
    ordered = np.sort(p, -1)
    second = ordered[..., -2] if p.shape[-1] > 1 else np.zeros(p.shape[:-1])
    several = second > 0.0
    # at this h the two largest modes reach a half each, so the root lies below
    high = np.where(several, -ndtri(np.where(several, np.minimum(second, 0.5), 0.5)), 0.0)
    low = np.zeros_like(high)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        fits = _enlarge(p, middle[..., None]).sum(-1) <= 1.0
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    full = p.sum(-1) > 1.0 - _SLACK
    slope = np.where(full, np.inf, 0.5 / np.where(several & ~full, low, 1.0))
    moves = several & (distance > 0.0)
    return np.where(moves, np.where(moves, slope, 0.0) * distance, 0.0)[()]


def _enlarge(p: np.ndarray, h: np.ndarray) -> np.ndarray:
    """`Phi(Phi^-1(p) + h)` with h in [0, inf]; nothing grows from mass 0."""
    filled = p > 0.0
    return np.where(filled, ndtr(ndtri(np.where(filled, p, 0.5)) + h), 0.0)


def _half_gap(L: ArrayLike, delta: ArrayLike) -> np.ndarray:
    """`delta / 2L`: inf at L = 0, since a constant map has one value, so one mode."""
    slope, distance = np.broadcast_arrays(_slope(L), _distance(delta))
    return np.where(slope > 0.0, 0.5 * distance / np.where(slope > 0.0, slope, 1.0), np.inf)


def _slope(L: ArrayLike) -> np.ndarray:
    slope = np.asarray(L, np.float64)
    if not np.all(slope >= 0.0):
        raise ValueError("L must be >= 0")
    return slope


def _distance(delta: ArrayLike) -> np.ndarray:
    distance = np.asarray(delta, np.float64)
    if not np.all(np.isfinite(distance)) or np.any(distance < 0.0):
        raise ValueError("delta must be finite and >= 0")
    return distance


def _tau(tau: ArrayLike) -> np.ndarray:
    share = np.asarray(tau, np.float64)
    if not np.all((share > 0.0) & (share <= 1.0)):
        raise ValueError("tau must lie in (0, 1]")
    return share


def _mode_masses(masses: ArrayLike) -> np.ndarray:
    """[..., N] masses that sum to at most 1, up to the rounding of a normalised histogram."""
    p = np.asarray(masses, np.float64)
    if not np.all((p >= 0.0) & (p <= 1.0)):
        raise ValueError("masses must lie in [0, 1]")
    if p.ndim == 0 or p.shape[-1] == 0:
        raise ValueError("masses need at least one mode on their last axis")
    if np.any(p.sum(-1) > 1.0 + 1e-9):
        raise ValueError("masses must sum to at most 1")
    return p
