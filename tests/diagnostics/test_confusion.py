"""How often a verdict names the mechanism that was planted; the table is in docs/results/verdicts.md."""

from __future__ import annotations

import pytest

from mmbc_jax.diagnostics.verdict import HELD, MECHANISMS

from ._planted import ONE, TWO, judged


def shares(found):
    return sum(one.right for one in found) / len(found), sum(one.shown for one in found) / len(found)


def wrong(found):
    return [(one.planted, one.policy, one.verdict.mechanism) for one in found if not one.right]


def never_none_at_a_loss(found):
    """Scripted demonstrations succeed always."""
    return all(one.verdict.mechanism != "none" for one in found if one.success < HELD)


def test_every_mechanism_is_planted():
    assert set(ONE) | {"unmeasured", "unexplained"} == set(MECHANISMS)
    assert {name for names in TWO for name in names} == set(ONE) - {"none"}


@pytest.mark.slow
def test_planted_mechanisms_are_named():
    # 3 of each mechanism: 2 wrong at a true rate of .95 happen in one draw of nine, and more in one of thirty
    found = judged(24)
    assert shares(found)[0] >= 22 / 24, wrong(found)
    assert never_none_at_a_loss(found)
    assert min(one.success for one in found if one.planted == ("none",)) >= HELD


@pytest.mark.slow
def test_of_two_planted_mechanisms_one_is_named_and_both_show():
    found = judged(14, pairs=True)
    assert shares(found)[0] >= 12 / 14, wrong(found)
    assert shares(found)[1] >= 12 / 14
    assert never_none_at_a_loss(found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1000])
def test_planted_mechanisms_are_named_nearly_always(seed):
    found, pairs = judged(200, seed=seed), judged(140, pairs=True, seed=seed)
    assert shares(found)[0] >= 0.95, wrong(found)
    assert min(shares(pairs)) >= 0.8, wrong(pairs)
    assert never_none_at_a_loss(found + pairs)
