"""The held-out figures of cloning, policy beside policy, and how separated the modes of the data are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

_SEPARATION = (
    ("separation/modes", "modes per observation"),
    ("separation/multimodal", "share of observations with two or more"),
    ("separation/ratio", "separation ratio there"),
    ("separation/spread", "spread within a mode"),
)


def metric_names(summary: Mapping[str, Any]) -> list[str]:
    """Names under `offline/` in any stage: the loss, best-of-n by n, then the others."""
    names = {name for stage in summary["stages"].values() for name in stage if name.startswith("offline/")}

    def order(name: str) -> tuple[int, int, str]:
        short = name.removeprefix("offline/")
        if short == "loss":
            return (0, 0, short)
        _, found, count = short.partition("best_of_")
        return (1, int(count), short) if found else (2, 0, short)

    return sorted(names, key=order)


def table(summary: Mapping[str, Any]) -> Table | None:
    """Validation loss and chunk errors on held-out episodes, mean over seeds.

    Errors are root mean squares in normalised units; a policy's own loss compares only with itself.

    Args:
      summary: as from `report.summary.build_summary`.

    Returns:
      The table; None where no stage was measured on held-out data.
    """
    names = metric_names(summary)
    if not names:
        return None
    result = Table(
        box=box.SIMPLE_HEAD,
        title="held-out episodes",
        title_justify="left",
        caption=_caption(summary.get("run") or {}),
        caption_justify="left",
    )
    result.add_column("stage")
    for name in names:
        heading = name.removeprefix("offline/").replace("_", " ")
        result.add_column("validation loss" if heading == "loss" else heading, justify="right")
    for stage, metrics in summary["stages"].items():
        means = [(metrics.get(name) or {}).get("mean") for name in names]
        if any(mean is not None for mean in means):
            result.add_row(stage, *("–" if mean is None else f"{mean:.4f}" for mean in means))
    return result


def _caption(run: Mapping[str, Any]) -> str:
    """The separation of the modes, and the precision of networks, as far as they are known."""
    precision = f"networks in {run['precision']}" if run.get("precision") else ""
    return "; ".join(filter(None, (separation_line(run.get("data") or {}), precision)))


def separation_line(data: Mapping[str, Any]) -> str:
    """One line on the separation of the modes in the demonstrations; empty where it was not measured."""
    known = [(label, data.get(key)) for key, label in _SEPARATION]
    parts = [f"{label} {value:.2f}" for label, value in known if value is not None]
    return f"demonstrations: {', '.join(parts)}" if parts else ""
