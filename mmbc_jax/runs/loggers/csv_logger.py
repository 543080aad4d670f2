"""Comma-separated files: `csv/STAGE/FIELD=VALUE/seed=N.csv` with a row a logged step, and `csv/results.csv`."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbc_jax.core.files import plain
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.runs.logger import Ended, Place, Row

FOLDER = "csv"


class CsvFiles:
    """Writes a file a run; a metric that begins later is a column that earlier rows leave empty.

    Args:
      place: where.
    """

    def __init__(self, place: Place):
        self._place, self._root = place, place.workdir / FOLDER
        self._gathered: dict[str, list[Row]] = {}
        self._columns: dict[str, list[str]] = {}

    def restart(self) -> None:
        """Removes the files of its stages."""
        stages = self._place.stages
        for folder in [self._root] if stages is None else [self._root / stage for stage in stages]:
            shutil.rmtree(folder, ignore_errors=True)
        self._gathered.clear()
        self._columns.clear()

    def add(self, row: Row) -> None:
        """Gathers a row."""
        values = {name: value for name, value in plain(row).items() if name != "stage"}
        self._gathered.setdefault(self._place.of(row), []).append(values)

    def flush(self) -> None:
        """Appends what has gathered; a file that gets a new column is written anew."""
        for run, rows in self._gathered.items():
            if not rows:
                continue
            path = self._root.joinpath(*run.split("/")).with_suffix("")
            path = path.parent / f"{run.rsplit('/', 1)[-1]}.csv"
            before = self._columns.get(run, [])
            columns = list(dict.fromkeys([*before, *(name for row in rows for name in row)]))
            path.parent.mkdir(parents=True, exist_ok=True)
            if columns != before:
                old: list[Mapping[str, Any]] = _read(path) if before else []
                _write(path, columns, [*old, *rows], "w")
            else:
                _write(path, columns, rows, "a")
            self._columns[run] = columns
            rows.clear()

    def finish(self, ended: Ended) -> None:
        """A row a run with its final figures."""
        rows = [{"run": run.name, **plain(run.metrics)} for run in ended.runs]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        self._root.mkdir(parents=True, exist_ok=True)
        _write(self._root / "results.csv", columns, rows, "w")


def _read(path: Path) -> list[Mapping[str, Any]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], mode: str) -> None:
    with path.open(mode, newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, restval="")
        if mode == "w":
            writer.writeheader()
        writer.writerows(rows)


@register("logger", Options)
def build(options: Options, place: Place) -> CsvFiles:
    """See the module docstring."""
    return CsvFiles(place)
