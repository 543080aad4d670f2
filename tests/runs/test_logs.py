from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from mmbc_jax.core.errors import WorkdirError
from mmbc_jax.runs.logger import Place
from mmbc_jax.runs.loggers import tensorboard
from mmbc_jax.runs.logs import MetricLog, read_rows
from tests.toys.landscape import events
from tests.toys.products import spared

ROOT = Path(__file__).parents[2]


def board(tmp_path, *seen):
    """A log whose rows go to TensorBoard, too."""
    return MetricLog(tmp_path, *seen, loggers=[tensorboard.TensorBoard(Place(tmp_path))])


def row(step, stage="bc", **values):
    return {"stage": stage, "step": step, "point": 0, "seed": 3, **values}


def test_rows_are_json_lines_with_null_for_what_is_not_finite(tmp_path):
    log = MetricLog(tmp_path)
    log.write([row(1, **{"bc/loss": 0.1, "a/nan": math.nan, "a/inf": -math.inf})])
    seen = log.sync().result()
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert seen == {"log_bytes": len(text), "log_crc32": zlib.crc32(text.encode())}
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == row(1, **{"bc/loss": 0.1, "a/nan": None, "a/inf": None})


def test_events_hold_the_finite_values_of_each_run(tmp_path):
    log = board(tmp_path)
    log.write([row(1, **{"bc/loss": 0.5, "a/nan": math.nan}), row(2, **{"bc/loss": 0.25})])
    log.write([{**row(2, "plain", **{"ppo/kl": 1.5}), "point": 4}])
    log.close()
    assert events(tmp_path) == [
        ("bc/point=0/seed=3", "bc/loss", 1, 0.5),
        ("bc/point=0/seed=3", "bc/loss", 2, 0.25),
        ("plain/point=4/seed=3", "ppo/kl", 2, 1.5),
    ]


def test_events_grow_with_every_sync(tmp_path):
    log = board(tmp_path)
    sizes = [0]
    for step in range(3):
        log.write([row(step, **{"bc/loss": float(step)})])
        log.sync().result()
        sizes.append(sum(path.stat().st_size for path in (tmp_path / "tensorboard").rglob("events.*")))
    log.close()
    assert sizes[0] < sizes[1] < sizes[2] < sizes[3]


def test_event_files_are_what_tensorboard_reads(tmp_path):
    """Its own reader checks the checksums of length and data of every record."""
    log = board(tmp_path)
    log.write([row(step, **{"bc/loss": 0.5 * step, "ppo/kl": 1.0}) for step in range(3)])
    log.close()
    (path,) = (tmp_path / "tensorboard" / "bc").rglob("events.out.tfevents.*")
    data, at, versions = path.read_bytes(), 0, []
    while at < len(data):
        (length, check) = struct.unpack_from("<QI", data, at)
        assert check == masked_crc32c(data[at : at + 8])
        body = data[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", data, at + 12 + length) == (masked_crc32c(body),)
        versions.append(Event.FromString(body).file_version)
        at += 16 + length
    assert versions == ["brain.Event:2", "", "", ""]


def test_rows_are_made_in_the_thread_of_the_log_in_the_order_of_the_calls(tmp_path):
    threads, go = [], threading.Event()

    def rows(steps):
        go.wait(30)
        for step in steps:
            threads.append(threading.get_ident())
            yield row(step)

    log = MetricLog(tmp_path)
    log.write(rows(range(3)))
    log.write(rows(range(3, 5)))
    size = log.sync()
    assert not size.done()
    go.set()
    assert size.result()["log_bytes"] == len((tmp_path / "metrics.jsonl").read_bytes())
    log.close()
    assert threading.get_ident() not in threads
    assert [found["step"] for found in read_rows(tmp_path / "metrics.jsonl")] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ends_with", ["write", "sync", "close"])
def test_what_goes_wrong_in_the_thread_is_raised(tmp_path, ends_with):
    def rows():
        yield row(1)
        raise OSError("no space left")

    log = MetricLog(tmp_path)
    log.write(rows())
    while not log._waiting[0].done():
        time.sleep(0.01)
    with pytest.raises(OSError, match="no space left"):
        log.write([row(2)]) if ends_with == "write" else getattr(log, ends_with)()
    if ends_with != "close":
        log.close()


@pytest.mark.parametrize("end", ["raise RuntimeError", "sys.exit(3)", "pass"])
@spared("pass")
def test_a_process_that_ends_without_closing_has_written_its_rows(tmp_path, end):
    script = (
        "import sys\nfrom pathlib import Path\nfrom mmbc_jax.runs.logs import MetricLog\n"
        f"log = MetricLog(Path({str(tmp_path)!r}))\n"
        "for step in range(200):\n"
        "    log.write([dict(stage='bc', step=step, point=0, seed=0, x=1.0)])\n"
        f"{end}\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False)
    assert [found["step"] for found in read_rows(tmp_path / "metrics.jsonl")] == list(range(200))


def test_a_loop_that_is_faster_than_the_disk_waits(tmp_path):
    """No more than a fixed number of writes waits in memory."""
    go, log, ended = threading.Event(), MetricLog(tmp_path), []

    def rows(step):
        go.wait(30)
        yield row(step)

    def fill():
        for step in range(100):
            log.write(rows(step))
        ended.append(True)

    filler = threading.Thread(target=fill)
    filler.start()
    filler.join(0.5)
    assert not ended
    assert len(log._waiting) < 20
    go.set()
    filler.join()
    log.close()
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 100


@pytest.mark.parametrize("torn", ["", '{"stage": "bc", "st', "\x00\x00\x00"])
def test_opening_again_cuts_back_to_the_checkpoint(tmp_path, torn):
    log = board(tmp_path)
    log.write([row(1, x=1.0), row(2, x=2.0)])
    seen = log.sync().result()
    log.write([row(3, x=3.0)])
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write(torn)
    log = board(tmp_path, seen)
    assert log.sync().result() == seen
    log.write([row(3, x=30.0)])
    log.close()
    expected = [row(1, x=1.0), row(2, x=2.0), row(3, x=30.0)]
    assert read_rows(tmp_path / "metrics.jsonl") == expected
    assert [(step, value) for _, _, step, value in events(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_a_first_start_begins_with_nothing(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row(1)) + "\n")
    MetricLog(tmp_path).close()
    assert read_rows(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_rows_that_a_checkpoint_had_seen_otherwise_are_refused(tmp_path, damage):
    log = MetricLog(tmp_path)
    log.write([row(1, x=1.0), row(2, x=2.0)])
    seen = log.sync().result()
    log.close()
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] if damage == "cut" else whole.replace(b"1.0", b"1.5"))
    damaged = path.read_bytes()
    with pytest.raises(WorkdirError, match=r"metrics.jsonl is damaged: its first \d+ bytes"):
        MetricLog(tmp_path, seen)
    assert path.read_bytes() == damaged


def test_a_torn_last_line_is_left_out(tmp_path):
    (tmp_path / "m.jsonl").write_text(json.dumps(row(1)) + "\n" + '{"stage": "bc", "step": 2}')
    assert read_rows(tmp_path / "m.jsonl") == [row(1)]
