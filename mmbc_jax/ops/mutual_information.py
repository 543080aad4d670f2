"""Entropy, mutual information and agreement of partitions, from counts, on the host.

Everything takes counts, not probabilities, so that the number of samples stays known: it decides the bias.
All logarithms are natural unless a base is given, so the results are in nats.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

if TYPE_CHECKING:  # no checker can tell at run time what numpy takes for an array
    from numpy.typing import ArrayLike


def _counts(counts: ArrayLike, ndim: int) -> np.ndarray:
    """Counts as float64, checked for shape, sign and finiteness."""
    array = np.asarray(counts, np.float64)
    if array.ndim != ndim:
        raise ValueError(f"counts have {array.ndim} dimensions, {ndim} needed")
    if not np.all(np.isfinite(array)) or np.any(array < 0):
        raise ValueError("counts must be finite and not negative")
    return array


def _plug_in(counts: np.ndarray) -> float:
    """-sum p log p with p = counts / sum, in nats; 0 for an empty histogram."""
    filled = counts[counts > 0]
    if filled.size == 0:
        return 0.0
    p = filled / filled.sum()
    return max(0.0, float(-(p * np.log(p)).sum()))


def entropy(counts: ArrayLike, base: float | None = None) -> float:
    """Plug-in entropy of a histogram.

    `H = -sum_k p_k log p_k` with `p_k = counts_k / sum(counts)` and `0 log 0 = 0`.

    Args:
      counts: [K] finite, not negative.
      base: base of the logarithm, > 1; natural (nats) where None. With base K the result lies in [0, 1].

    Returns:
      The entropy; 0 for an empty histogram.

    Raises:
      ValueError: counts of the wrong shape or sign, or a base that is not above 1.
    """
    value = _plug_in(_counts(counts, 1))
    if base is None:
        return value
    if not base > 1.0:
        raise ValueError(f"base {base} is not above 1")
    return value / math.log(base)


def perplexity(counts: ArrayLike) -> float:
    """The effective number of classes, `exp(H)` of a histogram [K]: in [1, K], 1 where it is empty."""
    return math.exp(entropy(counts))


def mutual_information(table: ArrayLike) -> float:
    """Plug-in mutual information of a table of joint counts, in nats.

    `I(X; Y) = H(X) + H(Y) - H(X, Y)` at the observed frequencies. It is biased upwards: for n samples
    of independent X and Y by about `(|X| - 1)(|Y| - 1) / 2n` nats.

    Args:
      table: [X, Y] joint counts, finite, not negative.

    Returns:
      The estimate, in [0, min(log X, log Y)]; 0 for an empty table.

    Raises:
      ValueError: counts of the wrong shape or sign.
    """
    joint = _counts(table, 2)
    value = _plug_in(joint.sum(1)) + _plug_in(joint.sum(0)) - _plug_in(joint.ravel())
    return max(0.0, value)


def mutual_information_corrected(table: ArrayLike) -> float:
    """Mutual information with Miller and Madow's correction of each entropy, in nats.

    Each plug-in entropy is too small by about `(m - 1) / 2n`, with m the number of occupied cells, so
    `I_MM = I_plug-in + (m_X + m_Y - m_XY - 1) / 2n` (Miller 1955), cut off where no information can be: below at 0
    and above at log min(X, Y), which a table with one occupied cell a row passes otherwise.

    Args:
      table: [X, Y] joint counts, finite, not negative.

    Returns:
      The corrected estimate, in [0, log min(X, Y)]; 0 for an empty table.

    Raises:
      ValueError: counts of the wrong shape or sign.
    """
    joint = _counts(table, 2)
    total = joint.sum()
    if total == 0:
        return 0.0
    occupied = (joint.sum(1) > 0).sum() + (joint.sum(0) > 0).sum() - (joint > 0).sum() - 1
    corrected = mutual_information(joint) + float(occupied) / (2.0 * float(total))
    return min(max(0.0, corrected), math.log(min(joint.shape)))


def labels_of(table: ArrayLike) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """The two label sequences, one entry per sample, that a table of joint counts summarises.

    Args:
      table: [X, Y] whole, not negative counts.

    Returns:
      (x [n] int64, y [n] int64) with n the sum of the table.
    """
    joint = _counts(table, 2).astype(np.int64)
    rows, columns = np.nonzero(joint)
    repeats = joint[rows, columns]
    return np.repeat(rows, repeats), np.repeat(columns, repeats)


def nmi(a: ArrayLike, b: ArrayLike) -> float:
    """Normalised mutual information of two labelings [n] of the same items, `2 I / (H_a + H_b)` in [0, 1].

    Two labelings that both put everything into one class count as identical: 1 (scikit-learn's convention).
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(np.asarray(a), np.asarray(b), average_method="arithmetic"))


def ari(a: ArrayLike, b: ArrayLike) -> float:
    """Adjusted Rand index of two labelings [n] of the same items: 1 identical, 0 expected by chance."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(np.asarray(a), np.asarray(b)))
