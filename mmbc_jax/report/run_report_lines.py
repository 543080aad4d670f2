"""What is said of a run in a line each: verdicts, and what diverged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmbc_jax.report import table


def stopped(found: Mapping[str, Any]) -> list[str]:
    """A line per stage of which runs diverged."""
    lines = []
    for name, runs in found["run"]["stopped"].items():
        labels = [
            ", ".join(filter(None, (table.point_label(found["points"][point]["values"]), f"seed {seed}")))
            + (f" (step {step})" if step else " (where it started from)")
            for point, seed, step in runs
        ]
        lines.append(f"{name}: diverged, and left out of all figures: {'; '.join(labels)}")
    return lines


def verdicts(found: Mapping[str, Any]) -> list[str]:
    """A line per stage, sweep point and seed that was diagnosed."""
    lines = []
    for point in found["points"]:
        label = table.point_label(point["values"])
        for name, stage in point["stages"].items():
            for seed, judged in zip(
                found["run"]["seeds"], (stage.get("verdict") or {}).get("per_seed") or (), strict=False
            ):
                where = ", ".join(filter(None, (name, label, f"seed {seed}")))
                lines.append(f"{where}: {judged['text']}" if judged else "")
    return [line for line in lines if line]
