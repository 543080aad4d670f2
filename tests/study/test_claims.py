from __future__ import annotations

import dataclasses

import pytest

from mmbc_jax.study import claims
from mmbc_jax.study.plan import Change, Check, Entry, Results, Variant, interval
from mmbc_jax.study.runner import entries_of


def entry(values, **tags):
    return Entry(tags, {"sr": {"per_seed": values}}, {})


FALLING = Results([entry([0.9, 0.8], K=2), entry([0.6, 0.7], K=8), entry([0.2, 0.4], K=16)])


def two(a, b, metric="sr", **fields):
    return Results(
        Entry({"g": g}, {metric: {"per_seed": list(values), **fields}}, {})
        for g, values in (("a", a), ("b", b))
    )


A, B = {"g": "a"}, {"g": "b"}
LOW, HIGH = [0.1, 0.11, 0.12, 0.13], [0.5, 0.51, 0.52, 0.53]


def test_every_mode_needs_every_seed():
    claim = claims.every_mode("", "sr", lambda tags: 4, g="a")
    assert claim.check(two([1.0, 1.0], [0.5])).holds is True
    assert claim.check(two([1.0, 0.75], [1.0])).holds is False
    assert claim.check(Results([])).holds is None


def test_interval_bound_needs_the_whole_interval_of_every_entry():
    # [.9, .8]: .85 +- 31.82 * .05, t with 1 degree of freedom at .99; [.81, .80, .79]: .8 +- 6.965 * .01 / sqrt(3)
    wide, narrow = Results([entry([0.9, 0.8])]), Results([entry([0.81, 0.8, 0.79])])
    assert claims.interval_bound("", "sr", ">", -0.75).check(wide).holds is True
    assert claims.interval_bound("", "sr", ">", -0.73).check(wide).holds is False
    assert claims.interval_bound("", "sr", "<", 0.841).check(narrow).holds is True
    assert claims.interval_bound("", "sr", "<", 0.840).check(narrow).holds is False
    assert claims.interval_bound("", "sr", "<", 1.0).check(Results([entry([0.5])])).holds is None
    assert claims.interval_bound("", "sr", ">", 0.3).check(two(HIGH, HIGH)).holds is True
    assert claims.interval_bound("", "sr", ">", 0.3).check(two(HIGH, LOW)).holds is False
    assert claims.interval_bound("", "sr", ">", 0.3, g="a").check(two(HIGH, LOW)).holds is True


def test_a_gap_is_to_be_told_from_its_margin():
    assert claims.gap("", "sr", A, B, margin=0.3).check(two(HIGH, LOW)).holds is True
    assert claims.gap("", "sr", A, B, margin=0.5).check(two(HIGH, LOW)).holds is False
    assert claims.gap("", "sr", B, A).check(two(HIGH, LOW)).holds is False
    assert claims.gap("", "sr", A, B, margin=-0.1).check(two(LOW, LOW)).holds is True
    assert claims.gap("", "sr", A, B, margin=-0.01).check(two(LOW, LOW)).holds is False
    assert claims.gap("", "sr", A, {"g": "c"}).check(two(HIGH, LOW)).holds is None


def test_means_in_order_are_not_enough():
    scattered = two([0.5, 0.1, 0.9, 0.2], [0.4, 0.3, 0.1, 0.2])
    assert scattered.where(g="a").mean("sr") > scattered.where(g="b").mean("sr")
    assert claims.gap("", "sr", A, B).check(scattered).holds is False


def test_three_seeds_a_side_cannot_tell():
    check = claims.gap("", "sr", A, B).check(two(HIGH[:3], LOW[:3]))
    assert (check.holds, "too few seeds" in check.evidence) == (None, True)


def test_a_gap_over_several_entries_is_one_over_each():
    results = Results([entry(HIGH, f="a"), entry(LOW, f="b"), entry(HIGH, f="c")])
    others = [{"f": "b"}, {"f": "c"}]
    assert claims.gap("", "sr", {"f": "a"}, others[:1], margin=0.3).check(results).holds is True
    failed = claims.gap("", "sr", {"f": "a"}, others, margin=0.3).check(results)
    assert failed.holds is False
    assert "f=c" in failed.evidence
    assert claims.gap("", "sr", others, {"f": "a"}, margin=-0.1).check(results).holds is False


def test_within_needs_both_directions():
    near = [value + 0.02 for value in LOW]
    assert claims.within("", "sr", A, B, 0.1).check(two(LOW, near)).holds is True
    assert claims.within("", "sr", A, B, 0.1).check(two(LOW, HIGH)).holds is False
    assert claims.within("", "sr", A, B, 0.1).check(two(HIGH, LOW)).holds is False
    wild = two([0.1, 0.9, 0.5, 0.2], [0.8, 0.2, 0.3, 0.4])
    assert claims.within("", "sr", A, B, 0.1).check(wild).holds is False


def test_trend_in_both_directions():
    falling = Results([entry(HIGH, K=2), entry([0.3] * 4, K=8), entry(LOW, K=16)])
    assert claims.trend("", "sr", "K", -1, margin=0.3).check(falling).holds is True
    assert claims.trend("", "sr", "K", 1, margin=0.3).check(falling).holds is False
    assert claims.trend("", "sr", "K", -1, margin=0.5).check(falling).holds is False
    assert claims.trend("", "sr", "K", -1, margin=0.1, K=2).check(falling).holds is None
    bump = Results([entry(HIGH, K=1), entry([0.6] * 4, K=2), entry(LOW, K=3)])
    assert claims.trend("", "sr", "K", -1, margin=0.3).check(bump).holds is False
    assert claims.trend("", "sr", "K", -1, margin=0.3, slack=0.1).check(bump).holds is True


def test_excess_is_seed_by_seed():
    def results(above):
        metrics = {"x": {"per_seed": [b + a for a, b in zip(above, (1, 5, 9, 2), strict=True)]}}
        return Results([Entry({}, {**metrics, "y": {"per_seed": [1, 5, 9, 2]}}, {})])

    assert claims.excess("", "x", "y", 0.2).check(results([0.5, 0.51, 0.49, 0.5])).holds is True
    assert claims.excess("", "x", "y", 0.2).check(results([0.5, 0.1, 0.9, 0.3])).holds is False
    assert claims.excess("", "x", "y", 0.2).check(results([0.1, 0.1, 0.1, 0.1])).holds is False
    assert claims.excess("", "x", "z", 0.2).check(results([0.5] * 4)).holds is None


def test_a_conjunction_needs_all():
    both = claims.together(
        "", claims.interval_bound("", "sr", ">", 0.3, g="a"), claims.gap("", "sr", A, B, 0.2)
    )
    assert both.check(two(HIGH, LOW)).holds is True
    assert both.check(two(HIGH, HIGH)).holds is False
    assert both.check(two(LOW, [-1.0, -1.1, -1.2, -1.3])).holds is False
    assert both.check(Results([entry(HIGH, g="a")])).holds is None


def test_custom_is_asked():
    assert claims.custom("s", lambda results: Check(len(results.entries) == 3, "")).check(FALLING).holds


def test_results_by_tag_and_seeds_without_a_value():
    results = Results([entry([0.1, None, float("nan"), 0.3], K=2)])
    assert results.values("sr").tolist() == [0.1, 0.3]
    assert results.mean("sr") == pytest.approx(0.2)
    assert FALLING.tag("K") == [2, 8, 16]
    assert FALLING.where(K=8).mean("sr") == pytest.approx(0.65)


def test_values_of_one_seed_stay_together():
    metrics = {"a": {"per_seed": [1.0, None, 3.0]}, "b": {"per_seed": [4.0, 5.0, float("nan")]}}
    assert Entry({}, metrics, {}).together("a", "b").tolist() == [[1.0, 4.0]]
    assert Entry({}, metrics, {}).together("a", "absent").shape == (0, 2)


def test_entries_carry_the_swept_values():
    summary = {
        "points": [
            {"values": {"policy.beta": 0.1}, "stages": {"bc": {"sr": {"per_seed": [1.0]}}}},
            {"values": {"policy.beta": 1.0}, "stages": {"bc": {"sr": {"per_seed": [0.0]}}}},
        ],
        "run": {},
    }
    found = entries_of(Variant("v", {"prior": "normal"}, None), summary)
    assert [e.tags for e in found] == [{"prior": "normal", "beta": 0.1}, {"prior": "normal", "beta": 1.0}]


def test_stages_beside_have_an_entry_each_before_those_of_the_sweep():
    def stages(value):
        return {"bc": {"sr": {"per_seed": [0.5]}}, "finetune": {"sr": {"per_seed": [value]}}}

    summary = {
        "points": [{"values": {"finetune.mi_coef": x}, "stages": stages(x)} for x in (0.0, 2.0)],
        "run": {},
    }
    found = entries_of(Variant("v", {}, None, stage="finetune", beside=("bc",)), summary)
    assert [(e.tags, e.per_seed("sr").tolist()) for e in found] == [
        ({"stage": "bc"}, [0.5]),
        ({"stage": "finetune", "mi_coef": 0.0}, [0.0]),
        ({"stage": "finetune", "mi_coef": 2.0}, [2.0]),
    ]


def test_figures_under_another_setting_have_names_and_domains_of_their_own():
    shifts = {"gust": {"sr_m": {"per_seed": [0.99, 0.9]}}}
    summary = {
        "points": [{"values": {}, "stages": {"bc": {"sr_m": {"per_seed": [1.0, 1.0]}, "shifts": shifts}}}],
        "run": {},
    }
    (found,) = entries_of(Variant("v", {}, None), summary)
    assert set(found.metrics) == {"sr_m", "shifts/gust/sr_m"}
    assert Results([found]).shown("shifts/gust/sr_m") == "0.945 [0.373, 1]"  # .945 -+ 12.7 * .045, clipped


def test_interval_text():
    assert interval(FALLING.values("absent")) == "no value"
    assert Results([entry([0.5])]).shown("sr") == "0.5"
    # t with 1 degree of freedom: .85 +- 12.706 * .05; nothing bounds a metric that is declared nowhere
    assert Results([entry([0.9, 0.8])]).shown("sr") == "0.85 [0.215, 1.49]"
    # a share of 10 episodes: clipped
    rates = Entry({}, {"success_rate": {"per_seed": [0.9, 0.8], "n": 10}}, {})
    assert Results([rates]).shown("success_rate") == "0.85 [0.215, 1]"


def test_intervals_of_counts_end_at_the_number_of_modes():
    tables = [[[5, 5, 0, 0]], [[5, 0, 5, 0]]]
    metrics = {"modes_kept": {"per_seed": [2, 3]}, "z_mode_table": {"per_seed": tables}}
    assert Entry({}, metrics, {}).span("modes_kept") == (0.0, 3.0)


def test_a_claim_tells_every_version():
    claim = claims.interval_bound("", "sr", ">", 0.5)
    change = Change(2, "K = 8", "only K = 16", "a wall is thin")
    assert (claim.changed(change).version, claim.changed(change).history) == (2, (change,))
    with pytest.raises(ValueError, match="version 3"):
        dataclasses.replace(claim, version=3, history=(change,))


def test_shares_of_samples_that_agree_are_known_by_their_samples():
    """Wilson at 0 of 4 x 512: z^2 / (2048 + z^2) = .0019; over four seeds alone it would be .49."""
    square = 1.959964**2
    metrics = {"bridges/off_support": {"per_seed": [0.0] * 4}, "bridges/samples": {"per_seed": [512] * 4}}
    low, high = Entry({}, metrics, {}).span("bridges/off_support")
    assert (low, high) == pytest.approx((0.0, square / (2048 + square)))
    metrics.pop("bridges/samples")
    assert Entry({}, metrics, {}).span("bridges/off_support")[1] == pytest.approx(square / (4 + square))
