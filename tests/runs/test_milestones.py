"""What it took to succeed, read off a log."""

from __future__ import annotations

import json

from mmbc_jax.runs.milestones import WINDOW, steps_to_success

RUN = {"stage": "finetune", "point": 0, "seed": 7}


def rows(rates, episodes=100.0, **of):
    return [
        RUN | of | {"step": step, "rollout/success_rate": rate, "rollout/episodes": episodes}
        for step, rate in enumerate(rates, 1)
    ]


def write(log, lines):
    log.write_text("".join(json.dumps(row) + "\n" for row in lines) + "torn {")


def test_the_episodes_of_a_window_are_taken_together(tmp_path):
    """Rates .9, .9, 1, 1, 1 have the mean .96, and the window is full at the fifth row only."""
    log = tmp_path / "metrics.jsonl"
    assert WINDOW == 5
    write(log, rows([0.9, 0.9, 1.0, 1.0, 1.0, 1.0]) + rows([0.9] * 8, seed=8) + rows([1.0] * 5, stage="bc"))
    assert steps_to_success(log, "finetune") == {(0, 7): 5}
    assert steps_to_success(log, "plain") == {}


def test_rows_weigh_by_their_episodes(tmp_path):
    """One row of 10 episodes at 0 among 4 of 100 at 1: 400 of 410 is .976; among 4 of 10, 40 of 50 is .8."""
    log = tmp_path / "metrics.jsonl"
    few = rows([0.0], episodes=10.0)
    write(log, few + rows([1.0] * 4))
    assert steps_to_success(log, "finetune") == {(0, 7): 4}
    write(log, few + rows([1.0] * 4, episodes=10.0))
    assert steps_to_success(log, "finetune") == {}


def test_rows_without_a_finished_episode_count_as_none(tmp_path):
    log = tmp_path / "metrics.jsonl"
    write(log, rows([None, 1.0, 1.0, None, 1.0, 1.0, 1.0]))
    assert steps_to_success(log, "finetune") == {(0, 7): 7}


def test_without_a_log_nothing_is_known(tmp_path):
    assert steps_to_success(tmp_path / "metrics.jsonl", "finetune") == {}
