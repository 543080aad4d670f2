"""What it took to succeed, read off a log."""

from __future__ import annotations

import json

from mmbc_jax.runs.milestones import steps_to_success

ROWS = [
    {"stage": "bc", "step": 1, "point": 0, "seed": 0, "eval/success_rate": 1.0},
    {"stage": "finetune", "step": 1, "point": 0, "seed": 0, "eval/success_rate": 0.94},
    {"stage": "finetune", "step": 2, "point": 0, "seed": 0, "mode/mi": 1.0},
    {"stage": "finetune", "step": 2, "point": 0, "seed": 0, "eval/success_rate": 0.95},
    {"stage": "finetune", "step": 3, "point": 0, "seed": 0, "eval/success_rate": 0.99},
    {"stage": "finetune", "step": 3, "point": 1, "seed": 7, "eval/success_rate": 0.96},
    {"stage": "finetune", "step": 3, "point": 1, "seed": 8, "eval/success_rate": None},
]


def test_the_first_evaluation_that_succeeds_counts(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "torn {")
    assert steps_to_success(log, "finetune") == {(0, 0): 2, (1, 7): 3}
    assert steps_to_success(log, "plain") == {}


def test_without_a_log_nothing_is_known(tmp_path):
    assert steps_to_success(tmp_path / "metrics.jsonl", "finetune") == {}
