"""How often a world without the effect passes a claim, against what counting says."""

from __future__ import annotations

import numpy as np
import pytest

from mmbc_jax.study import claims
from mmbc_jax.study.nulls import null_rate
from mmbc_jax.study.plan import Check, Entry, Results

DRAWS = 2000


def entry(values, metric="x", **tags):
    return Entry(tags, {metric: {"per_seed": values, "n": 100}}, {})


def far_apart(seeds):
    return Results(
        [entry([1.0 + 0.01 * i for i in range(seeds)], g="a"), entry([0.01 * i for i in range(seeds)], g="b")]
    )


@pytest.mark.parametrize(("seeds", "expected"), [(3, 1 / 20), (4, 1 / 70)])
def test_a_gap_by_nearly_all_of_the_distance_is_the_one_arrangement(seeds, expected):
    """1.0 apart, asked for .95: only the data's own split of the C(2N, N) passes."""
    claim = claims.gap("", "x", {"g": "a"}, {"g": "b"}, margin=0.95)
    assert claim.check(far_apart(seeds)).holds
    rate = null_rate(claim, far_apart(seeds), DRAWS)
    assert rate == pytest.approx(expected, abs=4 * np.sqrt(expected / DRAWS))


def test_a_gap_without_a_margin_passes_half_of_the_nulls():
    assert null_rate(claims.gap("", "x", {"g": "a"}, {"g": "b"}), far_apart(4), DRAWS) == pytest.approx(
        0.5, abs=0.05
    )


def test_a_trend_over_three_single_values_passes_a_sixth():
    results = Results([entry([float(k)], K=k) for k in (1, 2, 3)])
    assert null_rate(claims.trend("", "x", "K", 1), results, DRAWS) == pytest.approx(1 / 6, abs=0.035)


def test_a_family_against_the_rest():
    """Of four families with one value each, any is the best in a quarter of the draws, and is not in the others."""
    results = Results([entry([float(i)], family=name) for i, name in enumerate("abcd")])
    for wins, expected in ((True, 0.25), (False, 0.75)):
        claim = claims.against_the_rest("", "x", "d", wins=wins, lower=False)
        assert null_rate(claim, results, DRAWS) == pytest.approx(expected, abs=0.04)


def test_shuffling_leaves_other_entries_and_metrics_alone():
    results = Results([entry([1.0, None, 2.0], g="a"), entry([3.0], g="b"), entry([9.0], g="c")])
    claim = claims.gap("", "x", {"g": "a"}, {"g": "b"})
    drawn = claim.null(results, np.random.default_rng(0))
    assert sorted(drawn.where(g="a").values("x").tolist() + drawn.where(g="b").values("x").tolist()) == [
        1.0,
        2.0,
        3.0,
    ]
    assert drawn.where(g="c").values("x").tolist() == [9.0]
    assert drawn.where(g="a").entries[0].episodes("x") == 100


def test_bounds_are_tried_at_their_limit_or_at_a_stated_value():
    """Seeds around the limit pass by a half each: 1/2^4 all of four, 1/2 their mean; far below it never."""
    results = Results([entry([5.0, 6.0, 7.0, 6.0])])
    assert null_rate(claims.bound("", "x", ">=", 4.0), results, DRAWS) == pytest.approx(1 / 16, abs=0.025)
    assert null_rate(claims.mean_bound("", "x", ">=", 4.0), results, DRAWS) == pytest.approx(0.5, abs=0.05)
    assert null_rate(claims.mean_bound("", "x", ">=", 4.0, null=-5.0), results, DRAWS) == 0.0


def test_an_interval_bound_is_passed_by_one_side_of_the_level():
    results = Results([entry([5.0, 6.0, 7.0, 6.0])])
    rate = null_rate(claims.interval_bound("", "x", ">", 4.0), results, DRAWS)
    assert rate == pytest.approx(0.025, abs=4 * np.sqrt(0.025 / DRAWS))


def test_what_has_no_null_has_no_rate():
    results = Results([entry([1.0, 1.0, 1.0], "valid_mode_coverage")])
    at_the_end = claims.bound("", "valid_mode_coverage", ">=", 1.0)  # of what a share can be
    assert null_rate(at_the_end, results) is None
    assert null_rate(claims.bound("", "valid_mode_coverage", ">=", 1.0, null=0.8), results, DRAWS) < 0.025
    assert null_rate(claims.custom("", lambda r: Check(True, "")), results) is None
    assert null_rate(claims.bound("", "absent", ">=", 0.5), results) is None


def test_the_rate_is_a_figure():
    claim = claims.gap("", "x", {"g": "a"}, {"g": "b"})
    assert null_rate(claim, far_apart(3), 200) == null_rate(claim, far_apart(3), 200)
