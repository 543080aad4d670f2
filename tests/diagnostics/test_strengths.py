"""Success per mode against strength, from tables that are counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmbc_jax.diagnostics.strengths import pooled, success_as_told, success_by_strength, told
from mmbc_jax.ops.intervals import over_seeds, wilson
from mmbc_jax.report.summary import summarise_stage
from mmbc_jax.report.table import text

# z 0 and 2 mean mode 0 (10 of 10, 8 of 9), z 1 means mode 2, z 3 is spread, z 4 succeeds too rarely
OWN = np.array([[10, 0, 0, 0], [0, 1, 9, 0], [8, 1, 0, 1], [5, 5, 0, 0], [0, 4, 0, 6]])
PLAYED = np.array([[4, 6, 0, 0], [0, 0, 2, 8], [5, 0, 0, 5], [9, 1, 0, 0], [0, 10, 0, 0]])


def test_commands_mean_what_they_mean_without_the_perturbation():
    expected = np.zeros((5, 3), bool)
    expected[[0, 2, 1], [0, 0, 2]] = True
    np.testing.assert_array_equal(told(OWN), expected)


def test_success_as_told():
    """Mode 0: 4 + 5 of 20; the 6 of z 0 that evade to mode 1 count against it. Mode 1 is told by no z."""
    won, tried = success_as_told(OWN, PLAYED)
    assert (won.tolist(), tried.tolist()) == ([9, 0, 2], [20, 0, 10])


def test_a_policy_of_one_command_is_told_nothing():
    """Shares of all episodes, of the modes that it keeps: 1 of 101 successes is not yet 1 %."""
    won, tried = success_as_told(np.array([[60, 40, 0, 1]]), np.array([[30, 0, 9, 61]]))
    assert (won.tolist(), tried.tolist()) == ([30, 0, 0], [100, 100, 0])


def test_intervals():
    one = pooled([9], [20])
    assert (one["mean"], one["n"], one["ci95"]) == (0.45, 20, list(wilson(9, 20)))
    two = pooled([9, 5, 0], [20, 10, 0])
    assert (two["per_seed"], two["n"]) == ([0.45, 0.5, None], 10)
    assert two["ci95"] == list(over_seeds([0.45, 0.5], (0.0, 1.0), 10))
    assert pooled([0], [0]) is None


def metrics(table):
    table = np.asarray(table)
    return {
        "n": int(table.sum()), "success_rate": float(table[:, :-1].sum() / table.sum()),
        "z_mode_table": table.tolist(), "wilson95": [0.0, 1.0],
    }  # fmt: skip


def test_a_sweep_in_the_summary():
    """Sorted by strength, beside the settings that are no sweep; the table shows those alone."""
    shifts = {"calm": metrics(OWN), "push=0.5": metrics(PLAYED), "push=0": metrics(OWN)}
    stage = summarise_stage([metrics(OWN) | {"shifts": shifts}])
    found = stage["strengths"]["push"]
    assert (found["strengths"], found["settings"]) == ([0.0, 0.5], ["push=0", "push=0.5"])
    rates = [[entry and entry["mean"] for entry in mode] for mode in found["success_per_mode"]]
    assert rates == [[18 / 20, 9 / 20], [None, None], [9 / 10, 2 / 10]]
    shown = text({"stages": {"finetune": stage}, "run": {}})
    assert "under calm" in shown
    assert "push" not in shown


def test_without_modes_or_sweeps_there_is_nothing_per_mode():
    bare = {"n": 4, "success_rate": 0.5, "z_mode_table": None}
    assert success_by_strength([bare], [{"calm": bare}]) == {}
    found = success_by_strength([bare], [{"a=1": bare, "a=2": bare}])
    assert found["a"]["success_per_mode"] == []


@pytest.mark.parametrize("lost", [0, 1])
def test_a_seed_that_diverged_has_no_part(lost):
    gone = {"n": 50, "success_rate": None, "z_mode_table": None}
    seeds = [metrics(OWN), metrics(OWN)]
    shifted = [{"push=1": metrics(PLAYED), "push=0": metrics(OWN)} for _ in seeds]
    seeds[lost], shifted[lost] = gone, {"push=1": gone, "push=0": gone}
    assert success_by_strength(seeds, shifted)["push"]["success_per_mode"][0][1]["per_seed"] == [0.45]
