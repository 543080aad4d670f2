"""What it took to succeed, read off a log."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from mmbc_jax.evaluation.results import StageResult, save_result
from mmbc_jax.runs.milestones import CLOCK, WINDOW, seconds_at, steps_to_success
from mmbc_jax.runs.stage_run import _seconds
from tests.toys.landscape import finished_run

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


@pytest.mark.parametrize(("step", "seconds"), [(1, 1.5), (4, 6.0), (5, 6.5), (6, 7.0), (8, 8.0), (9, None)])
def test_the_steps_of_an_epoch_share_its_seconds(step, seconds):
    """Epochs of four steps that took 6 s and 2 s; of a third nothing is known."""
    assert seconds_at([6.0, 8.0], step, 4) == seconds


def staged(name, env_steps, parent=None):
    return SimpleNamespace(
        name=name, env_steps=env_steps, parent=parent, schedule=SimpleNamespace(steps_per_epoch=2)
    )


def test_discovery_counts_and_cloning_does_not(tmp_path):
    """The clone is the same for all that are compared; a run that never succeeded has no time."""
    stage = staged("finetune", 9, staged("discover", 9, staged("bc", 0)))
    run = SimpleNamespace(workdir=tmp_path, stage=stage)
    meta = {CLOCK: [4.0, 5.0]}
    assert _seconds(run, [3, None], meta) == [None, None]  # nobody knows what discovery took
    for name, taken in (("bc", 1000.0), ("discover", 30.0)):
        save_result(tmp_path, StageResult(name, 1, np.zeros((1, 1), int), [{}], {CLOCK: taken}, None))
    assert _seconds(run, [3, None], meta) == [34.5, None]
    assert _seconds(SimpleNamespace(workdir=tmp_path, stage=stage.parent), [4], meta) == [5.0]


def test_a_summary_has_the_seconds_of_every_point_and_seed():
    facts = json.loads((finished_run() / "summary.json").read_text())
    for stage, timing in facts["run"]["timings"].items():
        found = timing["wall_s_to_95"]
        assert [len(point) for point in found] == [len(facts["run"]["seeds"])] * len(facts["points"])
        for point, own in zip(found, facts["points"], strict=True):
            steps = own["stages"][stage].get("env_steps_to_95", {}).get("per_seed", [None] * len(point))
            assert [second is None for second in point] == [step is None for step in steps]
