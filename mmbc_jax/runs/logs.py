"""Metric files: JSON lines are the truth, what other loggers write is made from them.

A sweep has a row of each of its runs for every logged step. So rows are made, written and forced to disk in a thread
of the log's own while the device computes the next epoch.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from mmbc_jax.core.errors import DataError, WorkdirError, cut
from mmbc_jax.core.files import plain
from mmbc_jax.runs.logger import AXES, Logger, Row

Mark = dict[str, int]
"""What a checkpoint had seen of `metrics.jsonl`: "log_bytes" of it, with the checksum "log_crc32"."""
_MOST_WAITING = 16  # writes that wait for the thread at most; a faster loop waits with them
_Value = TypeVar("_Value")


class MetricLog:
    """`metrics.jsonl` of a work directory, and what other loggers make of its rows.

    Opening it cuts the JSON lines back to `seen` (what the newest checkpoint had seen, a torn
    last line included) and starts the loggers anew from what is left, so all agree with
    the checkpoint a run continues from. What goes wrong in the log's thread is raised by a later call.

    Args:
      workdir: where to write.
      seen: of `metrics.jsonl` to keep; None for nothing.
      write: False for a log that writes nothing, of a process beside the one that does.
      folder: of the JSON lines, in `workdir`.
      loggers: that get every row, too.
    """

    def __init__(
        self,
        workdir: Path,
        seen: Mark | None = None,
        write: bool = True,
        folder: str = "",
        loggers: Sequence[Logger] = (),
    ):
        self.path, self._silent = Path(workdir) / folder / "metrics.jsonl", not write
        self._waiting: deque[Future[Any]] = deque()
        self._one_at_a_time = threading.Lock()
        if self._silent:
            return
        self._loggers = tuple(loggers)
        self.path.touch()
        self._cut(seen or {})
        self._thread = ThreadPoolExecutor(1, "metrics")  # the interpreter's end waits for what it has to do

    def write(self, rows: Iterable[Row]) -> None:
        """Appends rows, soon; each has `stage`, `step`, `point`, `seed` and scalars named `group/name`.

        Args:
          rows: gone through in the log's thread, so a generator costs the caller nothing.
        """
        if not self._silent:
            self._later(self._append, rows)

    def append(self, rows: Iterable[Row]) -> None:
        """Appends rows that the loggers have had."""
        if not self._silent:
            self._later(self._append, rows, False)

    def sync(self) -> Future[Mark]:
        """What there is of `metrics.jsonl`, once everything written up to here is on disk."""
        if self._silent:
            nothing: Future[Mark] = Future()
            nothing.set_result({"log_bytes": 0, "log_crc32": 0})
            return nothing
        return self._later(self._force)

    def rewind(self, seen: Mark) -> None:
        """Cuts the JSON lines back to what a checkpoint had `seen`, and starts the loggers anew."""
        if not self._silent:
            self._later(self._shorten, seen).result()

    def close(self) -> None:
        """Waits until everything is written and closes all files."""
        if self._silent:
            return
        try:
            self._later(self._flush)
            while self._waiting:
                self._waiting.popleft().result()
        finally:
            self._thread.shutdown()
            self._handle.close()

    def _cut(self, seen: Mark) -> None:
        self._crc = check_seen(self.path, seen)
        with self.path.open("r+b") as handle:
            handle.truncate(seen.get("log_bytes", 0))
        for logger in self._loggers:
            logger.restart()
        for row in read_rows(self.path) if self._loggers else ():
            for logger in self._loggers:
                logger.add(row)
        self._handle = self.path.open("a", encoding="utf-8")

    def _shorten(self, seen: Mark) -> None:
        self._handle.close()
        self._cut(seen)

    def _later(self, call: Callable[..., _Value], *args: Any) -> Future[_Value]:
        with self._one_at_a_time:
            while self._waiting and (self._waiting[0].done() or len(self._waiting) >= _MOST_WAITING):
                self._waiting.popleft().result()
            future = self._thread.submit(call, *args)
            self._waiting.append(future)
            return future

    def _append(self, rows: Iterable[Row], new: bool = True) -> None:
        for row in rows:
            line = json.dumps(plain(row)) + "\n"
            self._crc = zlib.crc32(line.encode(), self._crc)
            self._handle.write(line)
            for logger in self._loggers if new else ():
                logger.add(row)
        self._handle.flush()

    def _flush(self) -> None:
        for logger in self._loggers:
            logger.flush()

    def _force(self) -> Mark:
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._flush()
        return {"log_bytes": self._handle.tell(), "log_crc32": self._crc}


def check_seen(path: Path, seen: Mark) -> int:
    """Checks that a `metrics.jsonl` begins with what a checkpoint had seen of it.

    Returns:
      The checksum of that.

    Raises:
      WorkdirError: it does not.
    """
    size = seen.get("log_bytes", 0)
    with Path(path).open("rb") as handle:
        kept = handle.read(size)
    crc = zlib.crc32(kept)
    if len(kept) < size or crc != seen.get("log_crc32", crc):
        raise WorkdirError(
            f"{path} is damaged: its first {size} bytes are not those that the newest checkpoint had seen; "
            "put the file back, or train in another --workdir"
        )
    return crc


def read_rows(path: Path) -> list[Row]:
    """All whole rows of a `metrics.jsonl`; a torn last line is left out.

    Raises:
      DataError: a line before it is damaged.
    """
    rows = []
    with Path(path).open("rb") as handle:
        for number, line in enumerate(handle, 1):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                rows.append({**row, **{axis: row[axis] for axis in AXES}})
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise DataError(
                    f"line {number} of {path} is damaged ({type(error).__name__}: {cut(str(error))}); remove it"
                ) from error
    return rows
