"""The permutation test of two samples: exact, whatever the values are distributed like."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # no checker can tell at run time what numpy takes for an array
    from numpy.typing import ArrayLike

MOST = 20000


def permutation_p(high: ArrayLike, low: ArrayLike) -> float:
    """How likely a split of the pooled values is to put at least as large a sum into the first sample.

    Under exchangeability it is at most p with probability p. With two samples of n values it is never below
    1 / C(2n, n), which is 1/20 for three and 1/70 for four. All splits are counted where there are at most `MOST`;
    above, as many random ones (the same at every call) and the one that was seen.

    Args:
      high: [n] values that are supposed to be larger on average, n >= 1.
      low: [m] the others, m >= 1.

    Returns:
      One-sided p in (0, 1].
    """
    first, second = np.asarray(high, np.float64), np.asarray(low, np.float64)
    pooled = np.concatenate([first, second])
    sums = pooled[_splits(pooled.size, first.size)].sum(axis=1)
    slack = 1e-9 * np.abs(pooled).sum()  # of sums of the same values in another order
    seen = sums >= first.sum() - slack
    exact = math.comb(pooled.size, first.size) <= MOST
    return float(seen.mean() if exact else (1 + seen.sum()) / (1 + seen.size))


def least_p(high: int, low: int) -> float:
    """The least p that samples of these sizes can reach."""
    return 1.0 / math.comb(high + low, high)


@lru_cache(maxsize=32)
def _splits(total: int, size: int) -> np.ndarray:
    """[splits, size] indices of the first sample."""
    if math.comb(total, size) <= MOST:
        return np.array(list(itertools.combinations(range(total), size)))
    rng = np.random.default_rng(0)
    return np.argsort(rng.random((MOST, total)), axis=1)[:, :size]
