"""Metric files: JSON lines are the truth, TensorBoard events are made from them."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from mmbc_jax.core.files import plain

Row = dict[str, Any]
_AXES = ("stage", "step", "point", "seed")


class MetricLog:
    """`metrics.jsonl` and `tensorboard/` of a work directory.

    Opening it cuts the JSON lines back to `size` bytes (what the newest checkpoint had seen, a torn
    last line included) and writes the event files anew from what is left, so both always agree with
    the checkpoint a run continues from.

    Args:
      workdir: where to write.
      size: bytes of `metrics.jsonl` to keep.
      write: False for a log that writes nothing, of a process beside the one that does.
    """

    def __init__(self, workdir: Path, size: int = 0, write: bool = True):
        self.path, self._silent = Path(workdir) / "metrics.jsonl", not write
        if self._silent:
            return
        self.path.touch()
        with self.path.open("r+b") as handle:
            handle.truncate(min(size, self.path.stat().st_size))
        events = Path(workdir) / "tensorboard"
        shutil.rmtree(events, ignore_errors=True)
        self._events_root = events
        self._writers: dict[str, SummaryWriter] = {}
        for row in read_rows(self.path):
            self._to_events(row)
        self._handle = self.path.open("a", encoding="utf-8")

    def write(self, rows: Iterable[Row]) -> None:
        """Appends rows; each has `stage`, `step`, `point`, `seed` and scalars named `group/name`."""
        if self._silent:
            return
        for row in rows:
            self._handle.write(json.dumps(plain(row)) + "\n")
            self._to_events(row)
        self._handle.flush()

    def sync(self) -> int:
        """Forces everything to disk and returns the size of `metrics.jsonl` in bytes."""
        if self._silent:
            return 0
        self._handle.flush()
        os.fsync(self._handle.fileno())
        for writer in self._writers.values():
            writer.flush()
        return self._handle.tell()

    def close(self) -> None:
        """Closes all files."""
        if self._silent:
            return
        self._handle.close()
        for writer in self._writers.values():
            writer.close()

    def _to_events(self, row: Row) -> None:
        run = f"{row['stage']}/point{row['point']}_seed{row['seed']}"
        if run not in self._writers:
            self._writers[run] = SummaryWriter(str(self._events_root / run), flush_secs=3600)
        for name, value in row.items():
            if name not in _AXES and isinstance(value, (int, float)) and math.isfinite(value):
                self._writers[run].add_scalar(name, value, row["step"])


def read_rows(path: Path) -> list[Row]:
    """All whole rows of a `metrics.jsonl`; a torn last line is left out."""
    rows = []
    with Path(path).open(encoding="utf-8") as handle:
        for line in handle:
            if line.endswith("\n"):
                rows.append(json.loads(line))
    return rows
