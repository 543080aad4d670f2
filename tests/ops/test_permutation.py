from __future__ import annotations

import numpy as np
import pytest

from mmbc_jax.ops import permutation
from mmbc_jax.ops.permutation import least_p, permutation_p


def test_against_counting_by_hand():
    # sums of two of {1, 2, 3, 4}: 3 4 5 5 6 7
    assert permutation_p([3, 4], [1, 2]) == pytest.approx(1 / 6)
    assert permutation_p([2, 4], [1, 3]) == pytest.approx(2 / 6)
    assert permutation_p([1, 4], [2, 3]) == pytest.approx(4 / 6)
    assert permutation_p([1, 2], [3, 4]) == 1.0
    assert permutation_p([5.0, 5.0], [5.0, 5.0]) == 1.0


def test_rounding_does_not_split_ties():
    assert permutation_p([0.1, 0.2, 0.3], [0.3, 0.2, 0.1]) == permutation_p([1, 2, 3], [3, 2, 1])


def test_the_least_p():
    assert permutation_p(range(4, 8), range(4)) == pytest.approx(least_p(4, 4)) == pytest.approx(1 / 70)


def test_random_splits_agree_with_all(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 1, 8), rng.normal(0, 1, 8)
    exact = permutation_p(a, b)
    permutation._splits.cache_clear()
    monkeypatch.setattr(permutation, "MOST", 12000)
    assert permutation_p(a, b) == pytest.approx(exact, abs=4 * np.sqrt(exact / 12000))
    permutation._splits.cache_clear()
