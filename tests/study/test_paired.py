"""Claims about two entries seed by seed."""

from __future__ import annotations

import numpy as np
import pytest

from mmbc_jax.study.nulls import null_rate
from mmbc_jax.study.paired import paired_gap
from mmbc_jax.study.plan import Entry, Results

A, B = {"Z": 32, "mi_coef": 0.5}, {"Z": 32, "mi_coef": 0.0}


def results(a, b, seeds=None):
    seeds = list(range(len(a))) if seeds is None else seeds
    return Results(
        Entry(tags, {"commandable": {"per_seed": list(values), "n": 64}}, {"seeds": list(own)})
        for tags, values, own in ((A, a, range(len(a))), (B, b, seeds))
    )


def claim(margin=0.0):
    return paired_gap("MI adds ways", "commandable", A, B, margin)


def test_the_scatter_that_both_share_does_not_count():
    """d = 3, 2, 4, 3, 3, 3: mean 3, s = .632, t_5 = 2.571: 3 -+ .66; unpaired, the seeds scatter by 10."""
    b = np.array([2.0, 20, 5, 12, 8, 15])
    check = claim().check(results(b + [3, 2, 4, 3, 3, 3], b))
    assert check.holds
    assert "3 [2.34, 3.66], n = 6 seeds" in check.evidence
    assert not claim(2.5).check(results(b + [3, 2, 4, 3, 3, 3], b)).holds
    assert not claim().check(results(b + [3, -2, 4, -3, 3, -1], b)).holds


def test_signs_that_may_be_exchanged_pass_once_in_2_to_the_n():
    """Of 2^6 arrangements of six equal differences one passes, 1.6 %; of four one in 16, 6.3 %: a weak claim."""
    for count, expected in ((6, 1 / 64), (4, 1 / 16)):
        b = np.arange(float(count))
        rate = null_rate(claim(), results(b + 3.0, b), draws=2000)
        assert rate == pytest.approx(expected, abs=4 * (expected / 2000) ** 0.5)


@pytest.mark.parametrize("other", [[0, 1, 2, 7], [0, 1, 2]])
def test_other_seeds_cannot_be_paired(other):
    found = claim().check(results([3.0, 4, 5, 6], [1.0] * len(other), other))
    assert found.holds is None


def test_a_seed_without_a_value_is_left_out():
    assert "n = 3 seeds" in claim().check(results([3.0, 4, None, 6], [1.0, 2, 3, 4])).evidence
