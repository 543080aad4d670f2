from __future__ import annotations

import dataclasses

import pytest

from mmbc_jax.study import claims
from mmbc_jax.study.plan import Change, Check, Entry, Results, Variant, entries_of, interval


def entry(values, **tags):
    return Entry(tags, {"sr": {"per_seed": values}}, {})


FALLING = Results([entry([0.9, 0.8], K=2), entry([0.6, 0.7], K=8), entry([0.2, 0.4], K=16)])


def test_bound_needs_every_seed():
    assert claims.bound("", "sr", ">=", 0.2).check(FALLING).holds is True
    assert claims.bound("", "sr", ">=", 0.3).check(FALLING).holds is False
    assert claims.bound("", "sr", ">=", 0.6, K=8).check(FALLING).holds is True
    assert claims.bound("", "sr", ">=", 0.6, K=5).check(FALLING).holds is None
    assert claims.bound("", "other", "<=", 1.0).check(FALLING).holds is None


def test_mean_bound_looks_at_the_mean_of_each_entry():
    assert claims.mean_bound("", "sr", ">=", 0.3).check(FALLING).holds is True
    assert claims.mean_bound("", "sr", ">=", 0.31).check(FALLING).holds is False
    assert "K=16" in claims.mean_bound("", "sr", ">=", 0.3).check(FALLING).evidence


def test_interval_bound_needs_the_whole_interval():
    # [0.9, 0.8]: .85 +- .635; [.81, .80, .79]: .8 +- 4.303 * .01 / sqrt(3) = .8 +- .0248
    wide, narrow = Results([entry([0.9, 0.8])]), Results([entry([0.81, 0.8, 0.79])])
    assert claims.interval_bound("", "sr", ">", 0.2).check(wide).holds is True
    assert claims.interval_bound("", "sr", ">", 0.22).check(wide).holds is False
    assert claims.interval_bound("", "sr", "<", 0.83).check(narrow).holds is True
    assert claims.interval_bound("", "sr", "<", 0.82).check(narrow).holds is False
    assert claims.interval_bound("", "sr", "<", 1.0).check(Results([entry([0.5])])).holds is None


def test_trend_in_both_directions():
    assert claims.trend("", "sr", "K", -1).check(FALLING).holds is True
    assert claims.trend("", "sr", "K", 1).check(FALLING).holds is False
    bump = Results([entry([0.5], K=1), entry([0.55], K=2), entry([0.1], K=3)])
    assert claims.trend("", "sr", "K", -1).check(bump).holds is False
    assert claims.trend("", "sr", "K", -1, slack=0.06).check(bump).holds is True
    flat = Results([entry([0.5], K=1), entry([0.5], K=2)])
    assert claims.trend("", "sr", "K", 1, slack=0.1).check(flat).holds is False
    assert claims.trend("", "sr", "K", 1, K=2).check(FALLING).holds is None


def test_gap_compares_means():
    check = claims.gap("", "sr", {"K": 2}, {"K": 16}, margin=0.5).check(FALLING)
    assert check.holds is True
    assert claims.gap("", "sr", {"K": 2}, {"K": 16}, margin=0.6).check(FALLING).holds is False
    assert claims.gap("", "sr", {"K": 2}, {"K": 99}).check(FALLING).holds is None


def test_a_family_against_the_best_of_the_rest():
    rates = Results(
        [entry([0.80, 0.84], family="a"), entry([0.85, 0.81], family="b"), entry([0.1], family="c")]
    )

    def check(wins, lower, margin, family="a"):
        claim = claims.against_the_rest("", "sr", family, wins=wins, lower=lower, margin=margin)
        return claim.check(rates).holds

    # means .82, .83 and .1
    assert check(wins=True, lower=False, margin=0.02) is True
    assert check(wins=True, lower=False, margin=0.0) is False
    assert check(wins=False, lower=False, margin=0.0) is True
    assert check(wins=True, lower=True, margin=0.7) is False
    assert check(wins=True, lower=True, margin=0.0, family="c") is True
    assert check(wins=True, lower=True, margin=0.0, family="absent") is None


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
    claim = claims.bound("", "sr", ">=", 0.5)
    change = Change(2, "K = 8", "only K = 16", "a wall is thin")
    assert (claim.changed(change).version, claim.changed(change).history) == (2, (change,))
    with pytest.raises(ValueError, match="version 3"):
        dataclasses.replace(claim, version=3, history=(change,))
