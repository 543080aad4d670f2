"""Puts stages of several runs side by side in one table, every seed shown.

Run:  python scripts/compare.py "reference=runs/a:bc" "no discovery=runs/b:finetune" --out docs/results/table.md

Each argument is LABEL=WORKDIR:STAGE, or LABEL=WORKDIR:STAGE@POINT for one point of a sweep.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mmbc_jax.core.errors import UserError
from mmbc_jax.core.files import read_json
from mmbc_jax.report import table


def read_entry(argument: str) -> tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(label, stage metrics, timing, run facts) of one argument.

    Raises:
      UserError: it is not of the form LABEL=WORKDIR:STAGE[@POINT], or the run has no such stage.
    """
    label, eq, place = argument.rpartition("=")
    workdir, colon, stage = place.rpartition(":")
    stage, _, point = stage.partition("@")
    if not (eq and colon and stage):
        raise UserError(f"{argument!r} is not LABEL=WORKDIR:STAGE[@POINT]")
    path = Path(workdir) / "summary.json"
    if not path.is_file():
        raise UserError(f"{path} is not there: has the run finished?")
    found = read_json(path)
    points = found["points"]
    index = int(point) if point.isdigit() else 0
    if index >= len(points) or stage not in points[index]["stages"]:
        raise UserError(f"{path} has no stage {stage!r} at point {index}")
    timing = found["run"]["timings"].get(stage, {})
    return label, points[index]["stages"][stage], timing, found["run"]


def combine(entries: Sequence[str]) -> dict[str, Any]:
    """A summary whose stages are the labelled entries."""
    read = [read_entry(entry) for entry in entries]
    stages = {label: stage for label, stage, _, _ in read}
    timings = {label: timing for label, _, timing, _ in read}
    return {"stages": stages, "run": {"timings": timings}}


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("entries", nargs="+", metavar="LABEL=WORKDIR:STAGE[@POINT]")
    parser.add_argument("--out", help="also write the table as markdown to this file")
    args = parser.parse_args(argv)
    try:
        found = combine(args.entries)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console(width=table.WIDTH).print(table.table(found))
    if args.out:
        Path(args.out).write_text(table.markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
