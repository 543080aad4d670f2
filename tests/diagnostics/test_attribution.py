"""Success per mode: figures where failures are attributed, exact bounds where they are not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mmbc_jax.diagnostics.attribution import commanded, success_by_mode


def by_mode(table, attempts=None, kept=None):
    table = np.asarray(table)
    attempts = np.zeros_like(table[:, :-1]) if attempts is None else np.asarray(attempts)
    kept = table[:, :-1].sum(0) > 0 if kept is None else np.asarray(kept)
    return success_by_mode(table, attempts, kept)


def test_one_command_does_not_tell_which_modes_are_mastered():
    """Two modes succeed at .98, two at .70 of 100 attempts each; z is one, so mc_08 = .5 cannot be seen.

    98, 98, 70, 70 successes and 64 failures: modes stay at .8 with at most 24, 24, 17, 17 failures. Worst:
    18 + 18 lose two, 25 a third (61 <= 64). Best: 64 <= 82 can be spread so that all stay.
    """
    found = by_mode([[98, 98, 70, 70, 64]])
    assert found["mc_08"] is found["sr_m"] is found["success_per_mode"] is None
    assert found["mc_08_bounds"] == [0.25, 1.0]
    assert found["failures_attributed"] == 0.0
    low, high = found["sr_m_bounds"]
    assert low <= (0.98 + 0.98 + 0.7 + 0.7) / 4 <= high


def test_the_environment_says_what_failures_attempted():
    found = by_mode([[98, 98, 70, 70, 64]], attempts=[[2, 2, 30, 30]])
    assert found["success_per_mode"] == pytest.approx([0.98, 0.98, 0.7, 0.7])
    assert found["mc_08"] == 0.5
    assert found["mc_08_bounds"] == [0.5, 0.5]
    assert found["sr_m_bounds"] == pytest.approx([found["sr_m"]] * 2)
    assert found["failures_attributed"] == 1.0


def test_pure_commands_say_it_too_but_not_the_bounds():
    # z 0 commands mode 0 (9 of 9), z 1 mode 1 (8 of 10 successes): their failures are charged there
    found = by_mode([[9, 0, 1], [2, 8, 5]])
    assert found["success_per_mode"] == pytest.approx([11 / 12, 8 / 13])
    assert found["mc_08"] == 0.5
    # 11 successes stand 2 failures, 8 stand 2: six can undo both; all six on one leave the other
    assert found["mc_08_bounds"] == [0.0, 0.5]
    # z 1 at 7 of 10: nobody knows
    assert by_mode([[9, 0, 1], [3, 7, 5]])["mc_08"] is None
    # nor of a z that never succeeds, while one without failures needs no attribution
    assert by_mode([[9, 0, 1], [0, 0, 5]])["mc_08"] is None
    assert by_mode([[9, 0, 1], [5, 5, 0]])["mc_08"] == 1.0


def test_commanded():
    assert commanded(np.array([[4, 0], [4, 1], [3, 7], [0, 30], [0, 0]])).tolist() == [-1, 0, -1, 1, -1]


@pytest.mark.parametrize("case", range(40))
def test_bounds_are_the_extremes_over_every_attribution(case):
    """All ways of charging up to 7 failures to 3 modes, one after another."""
    rng = np.random.default_rng(case)
    wins = rng.integers(0, 25, 3)
    known, free = rng.integers(0, 3, 3), int(rng.integers(0, 8))
    kept = (wins > 0) & (rng.uniform(size=3) > 0.2)
    found = by_mode([[*wins, known.sum() + free]], attempts=[known], kept=kept)
    means, mastered, rates = [], [], []
    for split in itertools.product(range(free + 1), repeat=3):
        if sum(split) != free:
            continue
        rate = np.where(kept, wins / np.maximum(wins + known + split, 1), 0.0)
        means.append(rate.mean())
        mastered.append((rate >= 0.8 - 1e-9).mean())
        rates.append(rate)
    assert found["sr_m_bounds"] == pytest.approx([min(means), max(means)])
    assert found["mc_08_bounds"] == pytest.approx([min(mastered), max(mastered)])
    np.testing.assert_allclose(
        found["success_per_mode_bounds"], np.stack([np.min(rates, 0), np.max(rates, 0)], 1)
    )


def test_bounds_that_agree_are_a_figure():
    """990 successes in one mode stand 247 failures: 10 change nothing. One z is no command, however pure."""
    found = by_mode([[990, 0, 0, 0, 10]])
    assert found["mc_08"] == 0.25
    assert found["sr_m"] is found["success_per_mode"] is None
    assert found["failures_attributed"] == 0.0


def test_a_single_mode_takes_every_failure():
    found = by_mode([[7, 3]])
    assert found["success_per_mode_bounds"] == [[0.7, 0.7]]
    assert found["mc_08_bounds"] == [0.0, 0.0]
    assert found["sr_m_bounds"] == pytest.approx([0.7, 0.7])


def test_nothing_succeeds():
    found = by_mode([[0, 0, 9]])
    assert found["mc_08_bounds"] == found["sr_m_bounds"] == [0.0, 0.0]
