"""What it took to succeed: read off the evaluations that were logged while a stage trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SUCCEEDS = 0.95
FIGURE = "env_steps_to_95"


def steps_to_success(log: Path, stage: str) -> dict[tuple[int, int], int]:
    """{(sweep point, seed): training steps until the first evaluation with a success rate of `SUCCEEDS`}.

    Runs that never got there are left out; an evaluation is as fine as `evaluation.every_epochs`.
    """
    found: dict[tuple[int, int], int] = {}
    if not log.exists():
        return found
    with log.open(encoding="utf-8") as rows:
        for line in rows:
            try:
                row: dict[str, Any] = json.loads(line)
            except ValueError:
                continue  # the log says so itself where it matters
            rate = row.get("eval/success_rate") if row.get("stage") == stage else None
            if rate is not None and rate >= SUCCEEDS:
                found.setdefault((int(row["point"]), int(row["seed"])), int(row["step"]))
    return found
