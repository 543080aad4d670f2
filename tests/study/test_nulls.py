"""How often a world without the effect passes a claim, against what counting says."""

from __future__ import annotations

import numpy as np
import pytest

from mmbc_jax.study import claims
from mmbc_jax.study.nulls import LIMIT, null_rate
from mmbc_jax.study.plan import Check, Entry, Results

DRAWS = 2000
A, B = {"g": "a"}, {"g": "b"}


def entry(values, metric="x", **tags):
    return Entry(tags, {metric: {"per_seed": values, "n": 100}}, {})


def far_apart(seeds):
    return Results(
        [entry([1.0 + 0.01 * i for i in range(seeds)], g="a"), entry([0.01 * i for i in range(seeds)], g="b")]
    )


SPLIT = 1 / 70  # of the splits of two times four values, the one that was seen


def close(expected, draws=DRAWS):
    return pytest.approx(expected, abs=4 * np.sqrt(max(expected, 0.005) / draws))


@pytest.mark.parametrize(
    ("claim", "results"),
    [
        (claims.gap("", "x", A, B), far_apart(4)),
        (claims.gap("", "x", A, B, margin=0.5), far_apart(4)),
        (claims.within("", "x", A, B, 0.5), far_apart(4)),
        (
            claims.trend("", "x", "K", 1, margin=0.1),
            Results([entry([k + 0.01 * i for i in range(4)], K=k) for k in (1, 2, 3)]),
        ),
    ],
)
def test_two_sides_that_do_not_differ_pass_by_the_seen_split_alone(claim, results):
    assert null_rate(claim, results, DRAWS) == close(SPLIT)


def test_more_seeds_pass_by_the_size_of_the_test():
    rate = null_rate(claims.gap("", "x", A, B), far_apart(6), DRAWS)
    assert rate == close(claims.SIZE)


def test_the_null_of_several_pairs_takes_the_effect_from_one():
    """As far apart as they are, the other pair passes in every draw."""
    results = Results([entry([10.0 * i + 0.01 * j for j in range(4)], g=g) for i, g in enumerate("cba")])
    claim = claims.gap("", "x", A, [B, {"g": "c"}])
    assert claim.check(results).holds
    assert null_rate(claim, results, DRAWS) == close(SPLIT)


def test_shuffling_leaves_other_entries_and_metrics_alone():
    results = Results([entry([1.0, None, 2.0], g="a"), entry([3.0], g="b"), entry([9.0], g="c")])
    drawn = claims.gap("", "x", A, B).null(results, np.random.default_rng(0))
    assert sorted([*drawn.where(g="a").values("x"), *drawn.where(g="b").values("x")]) == [1.0, 2.0, 3.0]
    assert drawn.where(g="c").values("x").tolist() == [9.0]
    assert drawn.where(g="a").entries[0].episodes("x") == 100


def test_worlds_of_a_margin_stay_inside_the_domain_with_their_difference():
    results = Results([entry([1.0] * 4, "success_rate", g="a"), entry([1.0] * 4, "success_rate", g="b")])
    drawn = claims.gap("", "success_rate", A, B, margin=-0.02).null(results, np.random.default_rng(0))
    a, b = (drawn.where(g=g).values("success_rate") for g in "ab")
    assert max(*a, *b) == pytest.approx(1.0)
    assert min(*a, *b) >= 0.0
    assert len({round(v, 6) for v in [*(a + 0.02), *b]}) == 2


def test_an_interval_bound_is_passed_by_one_side_of_the_level():
    results = Results([entry([5.0, 6.0, 7.0, 6.0])])
    assert null_rate(claims.interval_bound("", "x", ">", 4.0), results, DRAWS) == close(0.01)
    both = Results(
        [entry([5.0, 6.0, 7.0, 6.0], g=g) for g in "ab"]
    )  # one at the limit, the other as it was found
    assert null_rate(claims.interval_bound("", "x", ">", 2.0), both, DRAWS) == close(0.01)


def test_a_share_at_its_limit_scatters_at_least_as_its_episodes_do():
    results = Results([entry([0.0] * 4, "success_rate")])
    null = claims.interval_bound("", "success_rate", "<", 0.5).null
    drawn = [null(results, np.random.default_rng(i)).values("success_rate") for i in range(200)]
    many = np.concatenate(drawn)
    assert many.std() == pytest.approx(0.05, rel=0.15)  # sqrt(.25 / 100)


@pytest.mark.parametrize("modes", [2, 8, 16])
def test_a_mode_missed_per_seed_is_seldom_overlooked_by_four_seeds(modes):
    claim = claims.every_mode("", "valid_mode_coverage", lambda tags: modes)
    results = Results([entry([1.0] * 4, "valid_mode_coverage")])
    rate = null_rate(claim, results, DRAWS)
    assert rate == close((1 - 1 / modes) ** (4 * modes))
    assert rate <= LIMIT


def test_an_excess_at_its_limit():
    metrics = {"x": {"per_seed": [1.5, 2.6, 3.4, 4.5]}, "y": {"per_seed": [1.0, 2.0, 3.0, 4.0]}}
    rate = null_rate(claims.excess("", "x", "y", 0.2), Results([Entry({}, metrics, {})]), DRAWS)
    assert rate == close(0.01)


def test_a_conjunction_passes_no_more_than_its_parts():
    claim = claims.together("", claims.gap("", "x", A, B), claims.interval_bound("", "x", ">", 0.9, g="a"))
    assert null_rate(claim, far_apart(4), DRAWS) <= LIMIT


def test_what_has_no_null_has_no_rate():
    results = Results([entry([1.0, 1.0, 1.0], "valid_mode_coverage")])
    at_the_end = claims.interval_bound("", "valid_mode_coverage", "<", 1.0)  # of what a share can be
    assert null_rate(at_the_end, results) is None
    assert null_rate(claims.custom("", lambda r: Check(True, "")), results) is None
    assert null_rate(claims.interval_bound("", "absent", ">", 0.5), results) is None


def test_the_rate_is_a_figure():
    claim = claims.gap("", "x", {"g": "a"}, {"g": "b"})
    assert null_rate(claim, far_apart(3), 200) == null_rate(claim, far_apart(3), 200)
