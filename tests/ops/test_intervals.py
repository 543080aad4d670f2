import math

import numpy as np
import pytest
from scipy import stats

from mmbc_jax.ops import intervals
from tests.toys.products import spared, sparing


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


def test_over_seeds_of_binary_outcomes_is_wilson():
    """7 of 8 seeds: .875, Wilson .529 to .978; the same as a share of 1000 episodes in each."""
    for episodes in (None, 1000):
        low, high = intervals.over_seeds([1.0] * 7 + [0.0], (0.0, 1.0), episodes)
        assert (low, high) == pytest.approx((0.529, 0.978), abs=1e-3)


def test_over_seeds_of_equal_values():
    # no episodes: as N trials, in units of the domain; a share: as N n trials
    assert intervals.over_seeds([1.0] * 3, (0.0, 1.0)) == pytest.approx(intervals.wilson(3, 3))
    low, high = intervals.wilson(2.75, 3)
    assert intervals.over_seeds([22.0] * 3, (0.0, 24.0)) == pytest.approx((24 * low, 24 * high))
    assert intervals.over_seeds([1.0] * 3, (0.0, 1.0), 200) == pytest.approx(intervals.wilson(600, 600))
    assert intervals.over_seeds([2.0] * 3, (0.0, math.inf)) == (2.0, 2.0)  # nothing bounds it


def test_over_seeds_of_counts():
    """t_2 = 4.303: 22 -+ 4.303 / sqrt(36) = 22 -+ .717 where they agree; 21, 22, 23: s = 1 > .289, 22 -+ 2.484."""
    agreed = intervals.over_seeds([22.0] * 3, (0.0, 24.0), step=1.0)
    assert agreed == pytest.approx((22 - 0.7171, 22 + 0.7171), abs=1e-3)
    assert intervals.over_seeds([0.0] * 3, (0.0, 24.0), step=1.0) == pytest.approx((0.0, 0.7171), abs=1e-3)
    spread = intervals.over_seeds([21.0, 22.0, 23.0], (0.0, 24.0), step=1.0)
    assert spread == pytest.approx((22 - 2.4841, 24.0), abs=1e-3)


def test_over_seeds_is_the_hull_of_t_and_wilson():
    """.9 and .8 of 10: t is .85 +- .635, clipped. .5, .51, .52 of 10: t is .51 +- .025, Wilson of 30 is wider."""
    assert intervals.over_seeds([0.9, 0.8], (0.0, 1.0), 10) == pytest.approx((0.85 - 0.635310, 1.0), abs=1e-5)
    found = intervals.over_seeds([0.5, 0.51, 0.52], (0.0, 1.0), 10)
    assert found == pytest.approx(intervals.wilson(15.3, 30))
    # variance of the mean 1.25e-3 (population), of trials .25 / m: worth m = 200 of the 2 x 1000
    start, end = intervals.t_interval([0.45, 0.55])
    m = 2 * 0.25 / 0.0025
    low, high = intervals.wilson(0.5 * m, m)
    assert intervals.over_seeds([0.45, 0.55], (0.0, 1.0), 1000) == pytest.approx(
        (max(min(start, low), 0.0), min(max(end, high), 1.0))
    )


@pytest.mark.parametrize("domain", [(0.0, 1.0), (0.0, math.inf), (-math.inf, 1.0)])
def test_over_seeds_stays_in_its_domain(domain):
    rng = np.random.default_rng(0)
    for _ in range(200):
        low, high = intervals.over_seeds(rng.beta(0.3, 0.3, rng.integers(2, 9)), domain)
        assert domain[0] <= low <= high <= domain[1]


def test_over_seeds_rejects_what_cannot_be():
    with pytest.raises(ValueError, match="outside"):
        intervals.over_seeds([0.5, 1.5], (0.0, 1.0))


@pytest.mark.parametrize(
    "case",
    sparing(
        [(p, seeds) for p in (0.5, 0.9, 0.97, 0.99, 0.995, 0.999) for seeds in (3, 5, 8)],
        {f"{p}-{seeds}" for p in (0.5, 0.97, 0.995) for seeds in (3, 8)}
        | {f"{p}-{seeds}" for p in (0.9, 0.99, 0.999) for seeds in (5, 8)},
        lambda case: "-".join(map(str, case)),
    ),
)
@spared("0.999-3", "0.995-5", "0.97-5")
def test_coverage_of_binomial_seeds(case):
    """Seeds of 100 episodes each are covered in at least 93 % of 2000 draws; one standard error is .5 %."""
    p, seeds = case
    rng = np.random.default_rng(int(1000 * p) + seeds)
    drawn = rng.binomial(100, p, (2000, seeds)) / 100
    hit = [low <= p <= high for low, high in (intervals.over_seeds(row, (0.0, 1.0), 100) for row in drawn)]
    assert np.mean(hit) >= 0.93


@pytest.mark.parametrize("seeds", [3, 5, 8])
@spared("5", "8")
def test_coverage_of_seeds_that_scatter(seeds):
    """Seeds with rates of their own, Beta(18, 2): the mean .9 is covered in at least 90 % of 2000 draws."""
    rng = np.random.default_rng(seeds)
    drawn = rng.binomial(100, rng.beta(18, 2, (2000, seeds))) / 100
    hit = [low <= 0.9 <= high for low, high in (intervals.over_seeds(row, (0.0, 1.0), 100) for row in drawn)]
    assert np.mean(hit) >= 0.9
