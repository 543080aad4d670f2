"""The held-out table: columns in order, one row per measured stage, and the separation line."""

from __future__ import annotations

import io

from rich.console import Console

from mmbc_jax.report import offline_table

SUMMARY = {
    "stages": {
        "bc": {
            "offline/best_of_16": {"mean": 0.1},
            "offline/best_of_4": {"mean": 0.2},
            "offline/loss": {"mean": 0.5},
            "offline/spread": {"mean": 0.3},
            "success_rate": {"mean": 1.0},
        },
        "baseline": {"offline/best_of_4": {"mean": 0.25}},
        "plain": {"success_rate": {"mean": 1.0}},
    },
    "run": {"data": {"separation/modes": 1.5, "separation/ratio": None}},
}


def render(summary):
    buffer = io.StringIO()
    Console(file=buffer, width=110, no_color=True).print(offline_table.table(summary))
    return buffer.getvalue()


def test_columns_are_ordered_by_n():
    assert offline_table.metric_names(SUMMARY) == [
        "offline/loss",
        "offline/best_of_4",
        "offline/best_of_16",
        "offline/spread",
    ]


def test_rows_are_the_measured_stages():
    text = render(SUMMARY)
    assert [line.split()[0] for line in text.splitlines() if line.split()[:1] and "0." in line][:2] == [
        "bc",
        "baseline",
    ]
    assert "plain" not in text
    assert "0.2500" in text
    assert "–" in text


def test_nothing_measured_gives_no_table():
    assert offline_table.table({"stages": {"plain": {"success_rate": {"mean": 1.0}}}}) is None


def test_separation_line_leaves_out_what_was_not_measured():
    assert (
        offline_table.separation_line(SUMMARY["run"]["data"]) == "demonstrations: modes per observation 1.50"
    )
    assert offline_table.separation_line({}) == ""
