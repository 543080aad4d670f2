from __future__ import annotations

import json
import math
import time

import pytest

from mmbc_jax.runs.logs import MetricLog, read_rows
from tests.toys.landscape import events


def row(step, stage="bc", **values):
    return {"stage": stage, "step": step, "point": 0, "seed": 3, **values}


def test_rows_are_json_lines_with_null_for_what_is_not_finite(tmp_path):
    log = MetricLog(tmp_path)
    log.write([row(1, **{"bc/loss": 0.1, "a/nan": math.nan, "a/inf": -math.inf})])
    size = log.sync()
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert len(text) == size
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == row(1, **{"bc/loss": 0.1, "a/nan": None, "a/inf": None})


def test_events_hold_the_finite_values_of_each_run(tmp_path):
    log = MetricLog(tmp_path)
    log.write([row(1, **{"bc/loss": 0.5, "a/nan": math.nan}), row(2, **{"bc/loss": 0.25})])
    log.write([{**row(2, "plain", **{"ppo/kl": 1.5}), "point": 4}])
    log.close()
    assert events(tmp_path) == [
        ("bc/point0_seed3", "bc/loss", 1, 0.5),
        ("bc/point0_seed3", "bc/loss", 2, 0.25),
        ("plain/point4_seed3", "ppo/kl", 2, 1.5),
    ]


def test_events_grow_with_every_sync(tmp_path):
    log = MetricLog(tmp_path)
    sizes = [0]
    for step in range(3):
        log.write([row(step, **{"bc/loss": float(step)})])
        for _ in range(
            100
        ):  # events pass through a thread of the writer, which a busy machine may keep waiting
            log.sync()
            size = sum(path.stat().st_size for path in (tmp_path / "tensorboard").rglob("events.*"))
            if size > sizes[-1]:
                break
            time.sleep(0.05)
        sizes.append(size)
    log.close()
    assert sizes[0] < sizes[1] < sizes[2] < sizes[3]


@pytest.mark.parametrize("torn", ["", '{"stage": "bc", "st', "\x00\x00\x00"])
def test_opening_again_cuts_back_to_the_checkpoint(tmp_path, torn):
    log = MetricLog(tmp_path)
    log.write([row(1, x=1.0), row(2, x=2.0)])
    size = log.sync()
    log.write([row(3, x=3.0)])
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write(torn)
    log = MetricLog(tmp_path, size)
    assert log.sync() == size
    log.write([row(3, x=30.0)])
    log.close()
    expected = [row(1, x=1.0), row(2, x=2.0), row(3, x=30.0)]
    assert read_rows(tmp_path / "metrics.jsonl") == expected
    assert [(step, value) for _, _, step, value in events(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_a_first_start_and_a_size_beyond_the_end(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row(1)) + "\n")
    MetricLog(tmp_path, 10**9).close()
    assert read_rows(tmp_path / "metrics.jsonl") == [row(1)]
    MetricLog(tmp_path).close()
    assert read_rows(tmp_path / "metrics.jsonl") == []


def test_a_torn_last_line_is_left_out(tmp_path):
    (tmp_path / "m.jsonl").write_text(json.dumps(row(1)) + "\n" + '{"stage": "bc", "step": 2}')
    assert read_rows(tmp_path / "m.jsonl") == [row(1)]
