"""What figures of a whole sweep share: which of its points are shown, and how they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from mmbc_jax.data.windows import spread_indices
from mmbc_jax.report import style, table

MOST_LABELS = 20  # of an axis of points


def paths_of_sweep(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """The dotted fields that take more than one value over some points of a summary, in their order."""
    names = list(points[0]["values"]) if points else []
    return [name for name in names if len({point["values"][name] for point in points}) > 1]


def short(path: str) -> str:
    """The last part of a dotted field."""
    return path.rsplit(".", 1)[-1]


def label_of(point: Mapping[str, Any], paths: Sequence[str]) -> str:
    """`lam=0.3 noise=0.1` for a point of a summary, in these fields alone."""
    return table.point_label({path: point["values"][path] for path in paths})


def label_rows(ax: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    """Names rows 0, 1, .. of axes by the swept values of the points, as many as can be read."""
    paths = paths_of_sweep(points)
    shown = spread_indices(len(points), MOST_LABELS).tolist()
    if len(paths) == 1:
        labels = [f"{points[i]['values'][paths[0]]:.4g}" for i in shown]
        ax.set_ylabel(short(paths[0]))
    else:
        labels = [label_of(points[i], paths) for i in shown]
    ax.set_yticks(shown, labels, fontsize=7)
    ax.tick_params(length=0, labelcolor=style.INK)


def bare(ax: Axes, title: str = "") -> None:
    """The look of axes that hold a map of cells."""
    style.dress(ax, title)
    for side in ax.spines.values():
        side.set_visible(False)
    ax.tick_params(length=0)
