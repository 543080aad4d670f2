import math

import numpy as np
import pytest
from scipy import stats

from mmbc_jax.ops import intervals


def test_wilson_by_hand():
    # 8 of 10, z = 1.959964, z^2 = 3.841459: centre .8 + .192073 = .992073,
    # half 1.959964 * sqrt(.8 * .2 / 10 + 3.841459 / 400) = 1.959964 * sqrt(.025603647) = .313616
    # scale 1.3841459: (.678457, 1.305689) / 1.3841459 = (.490162, .943318)
    low, high = intervals.wilson(8, 10)
    assert low == pytest.approx(0.490162, abs=2e-6)
    assert high == pytest.approx(0.943318, abs=2e-6)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (3, 7), (1010, 1024)])
def test_wilson_agrees_with_scipy(k, n, level):
    expected = stats.binomtest(k, n).proportion_ci(level, method="wilson")
    np.testing.assert_allclose(intervals.wilson(k, n, level), expected, rtol=0, atol=1e-12)


def test_wilson_is_exact_at_the_ends_and_knows_nothing_without_trials():
    assert intervals.wilson(0, 9)[0] == 0.0
    assert intervals.wilson(9, 9)[1] == 1.0
    assert intervals.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n", "level"), [(3, 2, 0.95), (-1, 2, 0.95), (0, -1, 0.95), (1, 2, 1.0)])
def test_wilson_rejects(k, n, level):
    with pytest.raises(ValueError, match=r"successes|level"):
        intervals.wilson(k, n, level)


def test_t_interval_by_hand():
    # mean 2, s = 1, N = 3, t_2(.975) = 4.302653: half 4.302653 / sqrt(3) = 2.484138
    low, high = intervals.t_interval([1.0, 2.0, 3.0])
    assert low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert high == pytest.approx(2 + 2.484138, abs=1e-6)


def test_t_interval_agrees_with_scipy():
    values = np.random.default_rng(0).normal(size=7)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    np.testing.assert_allclose(intervals.t_interval(values, 0.9), expected, rtol=1e-12)


def test_t_interval_of_equal_values_has_no_width():
    assert intervals.t_interval([1.0, 1.0, 1.0]) == (1.0, 1.0)


@pytest.mark.parametrize("values", [[1.0], [], [1.0, math.nan], [[1.0, 2.0]]])
def test_t_interval_rejects(values):
    with pytest.raises(ValueError, match=r"values"):
        intervals.t_interval(values)


def test_bootstrap_of_a_large_sample_agrees_with_the_normal_interval():
    values = np.random.default_rng(0).exponential(size=2000)
    half = 1.959964 * values.std(ddof=1) / math.sqrt(values.size)
    low, high = intervals.bootstrap(values, resamples=4000)
    # a 2.5 % quantile of 4000 draws is known to sqrt(.025 * .975 / 4000) / .0584 = .042 sd, that is
    # .042 / 1.96 = 2.2 % of the half width; 5 sigma are 11 %, plus the skewness of the exponential
    assert low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_bootstrap_is_deterministic_and_takes_other_statistics():
    values = np.arange(21.0)
    assert intervals.bootstrap(values) == intervals.bootstrap(values)
    assert intervals.bootstrap(values) != intervals.bootstrap(values, seed=1)
    low, high = intervals.bootstrap(values, np.median)
    assert 0 <= low < 10 < high <= 20
    assert intervals.bootstrap([3.0]) == (3.0, 3.0)


@pytest.mark.parametrize("values", [[], [1.0, math.inf], [[1.0]]])
def test_bootstrap_rejects(values):
    with pytest.raises(ValueError, match=r"values"):
        intervals.bootstrap(values)
