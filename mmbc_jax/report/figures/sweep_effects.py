"""What a sweep does: the main figures of a stage against the swept values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.report import style
from mmbc_jax.report.figures._points import bare, paths_of_sweep, short
from mmbc_jax.report.finished import Draw, Finished

# (metric of a stage, heading, whether it is a share)
SHOWN = (
    ("success_rate", "success rate", True),
    ("modes_kept", "modes kept", False),
    ("mode_entropy", "mode entropy", True),
    ("commandable", "commandable modes", False),
    ("mi_z_mode", "I(z; mode), nats", False),
    ("offline/best_of_16", "error of the best of 16", False),
)
COUNTS = ("modes kept", "commandable modes")
_MANY = 14  # values of a field beyond which not all are named
Point = Mapping[str, Any]


def sweep_effects(
    points: Sequence[Point], stage: str, env: str, facts: Mapping[str, Any] | None = None
) -> Figure:
    """Small multiples of a stage's figures over the points of a sweep.

    One swept field: means over seeds with their 95 % intervals, and the single seeds as dots. Two: a map of means,
    the best point framed. More: against each field in turn, a dot a point and the mean of those with equal values.

    Args:
      points: two or more of a summary, whose runs differ.
      stage: to show.
      env: the environment's name.
      facts: the run's parameters, for the footer.

    Raises:
      ValueError: nothing was swept, or the stage has none of the figures.
    """
    paths = paths_of_sweep(points)
    known = [shown for shown in SHOWN if any(_mean(point, stage, shown[0]) is not None for point in points)]
    if not paths or not known:
        raise ValueError(f"{len(paths)} swept fields, {len(known)} figures of stage {stage!r}")
    if len(paths) > 2:
        figure = style.new_figure(max(6.0, 2.9 * len(paths)), 1.0 + 2.1 * len(known))
        grid = figure.subplots(len(known), len(paths), squeeze=False, sharex="col", sharey="row")
        for row, (metric, heading, share) in zip(grid, known, strict=True):
            for ax, path in zip(row, paths, strict=True):
                _against(ax, points, stage, metric, path)
                _finish(ax, heading, share)
        for ax, path in zip(grid[-1], paths, strict=True):
            ax.set_xlabel(short(path))
    else:
        columns = min(3, len(known))
        rows = math.ceil(len(known) / columns)
        figure = style.new_figure(max(5.5, 3.7 * columns), 1.0 + 2.6 * rows)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, (metric, heading, share) in zip(axes, known, strict=False):
            if len(paths) == 1:
                _curve(ax, points, stage, metric, paths[0])
                _finish(ax, heading, share)
            else:
                _map(ax, points, stage, metric, (paths[0], paths[1]))
                bare(ax, heading)
        for ax in axes[len(known) :]:
            ax.set_visible(False)
    seeds = len(points[0]["stages"][stage].get("success_rate", {}).get("per_seed", ())) or 1
    over = f"{seeds} seeds" if seeds > 1 else "1 seed"
    style.add_title(figure, style.SEPARATOR.join(filter(None, (env, stage, f"{len(points)} points", over))))
    style.add_footer(figure, facts or {})
    return figure


def _entry(point: Point, stage: str, metric: str) -> Mapping[str, Any]:
    return point["stages"][stage].get(metric) or {}


def _mean(point: Point, stage: str, metric: str) -> float | None:
    return _entry(point, stage, metric).get("mean")


def _means(points: Sequence[Point], stage: str, metric: str) -> np.ndarray:
    values = [_mean(point, stage, metric) for point in points]
    return np.array([math.nan if value is None else value for value in values])


def _finish(ax: Axes, heading: str, share: bool) -> None:
    if share:
        ax.set_ylim(-0.03, 1.03)
    elif ax.dataLim.y0 >= 0 and (heading in COUNTS or ax.dataLim.height < 1e-9):
        ax.set_ylim(0, 1.12 * max(ax.dataLim.y1, 1e-9))
    style.dress(ax, heading, grid="both")


def _scale(ax: Axes, values: np.ndarray) -> None:
    """A logarithmic axis where the values span more than a decade; linear near a zero among them."""
    positive = values[values > 0]
    if values.min() < 0 or len(positive) < 2 or positive.max() < 12 * positive.min():
        return
    even = np.diff(np.unique(values))
    if np.allclose(even, even[0]):
        return  # chosen on a linear scale
    if values.min() > 0:
        ax.set_xscale("log")
    else:
        ax.set_xscale("symlog", linthresh=positive.min())


def _curve(ax: Axes, points: Sequence[Point], stage: str, metric: str, path: str) -> None:
    """Means, intervals and seeds against the one swept field."""
    at = np.array([point["values"][path] for point in points], float)
    order = np.argsort(at, kind="stable")
    at, chosen = at[order], [points[i] for i in order]
    mean = _means(chosen, stage, metric)
    shade = style.HUES[0]
    bounds = [_entry(point, stage, metric).get("ci95") or (math.nan, math.nan) for point in chosen]
    low, high = np.array(bounds, float).T
    ax.fill_between(at, low, high, color=shade, alpha=0.18, linewidth=0)
    ax.plot(at, mean, color=shade, linewidth=1.4, marker="o", markersize=2.5 if len(at) > 20 else 4)
    seeds = [
        (x, value)
        for x, point in zip(at, chosen, strict=True)
        for value in _entry(point, stage, metric).get("per_seed", ())
        if value is not None
    ]
    if len(seeds) > len(at):
        ax.plot(*zip(*seeds, strict=True), ".", color=style.INK, markersize=3, alpha=0.45)
    _scale(ax, at)
    ax.set_xlabel(short(path))


def _against(ax: Axes, points: Sequence[Point], stage: str, metric: str, path: str) -> None:
    """A dot a point against one of several swept fields, evenly spaced by rank, and the mean at each value."""
    at = np.array([point["values"][path] for point in points], float)
    values, place = np.unique(at, return_inverse=True)
    found = _means(points, stage, metric)
    shift = np.random.default_rng(0).uniform(-0.16, 0.16, len(at))  # so that equal dots lie beside each other
    ax.plot(place + shift, found, ".", color=style.HUES[0], markersize=4, alpha=0.5)
    groups = [found[(place == i) & np.isfinite(found)] for i in range(len(values))]
    means = [group.mean() if len(group) else math.nan for group in groups]
    ax.plot(range(len(values)), means, color=style.INK, linewidth=1.4, marker="_", markersize=12)
    _name_values(ax.set_xticks, values)


def _map(ax: Axes, points: Sequence[Point], stage: str, metric: str, paths: tuple[str, str]) -> None:
    """Means over two swept fields; the field with more values runs to the right."""
    right, up = sorted(paths, key=lambda path: -len({point["values"][path] for point in points}))
    columns, rows = (np.unique([point["values"][path] for point in points]) for path in (right, up))
    cells = np.full((len(rows), len(columns)), math.nan)
    for point, value in zip(points, _means(points, stage, metric), strict=True):
        row, column = (
            int(np.searchsorted(known, point["values"][path]))
            for known, path in ((rows, up), (columns, right))
        )
        cells[row, column] = value
    image = ax.imshow(cells, cmap="viridis", origin="lower", aspect="auto")
    if np.isfinite(cells).any() and np.nanmax(cells) > np.nanmin(cells):
        best = np.unravel_index(np.nanargmax(-cells if metric.startswith("offline/") else cells), cells.shape)
        ax.plot(best[1], best[0], "s", markersize=11, fillstyle="none", color="white", markeredgewidth=1.6)
    if cells.size <= 80:
        middle = (np.nanmin(cells) + np.nanmax(cells)) / 2
        for (row, column), value in np.ndenumerate(cells):
            ink = style.INK if value > middle else "white"
            ax.text(column, row, style.number(value), ha="center", va="center", fontsize=7, color=ink)
    _name_values(ax.set_xticks, columns)
    _name_values(ax.set_yticks, rows)
    ax.set_xlabel(short(right))
    ax.set_ylabel(short(up))
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.05, pad=0.03)
    style.dress_bar(bar)


def _name_values(set_ticks: Any, values: np.ndarray) -> None:
    every = math.ceil(len(values) / _MANY)
    shown = range(0, len(values), every)
    set_ticks(list(shown), [f"{values[i]:.3g}" for i in shown], fontsize=8)


@register("figure", Options)
def build(options: Options) -> Draw:
    """A figure of every stage that differs between sweep points."""

    def draw(run: Finished) -> Iterator[tuple[str, Figure]]:
        for name in run.results:
            points = [run.found["points"][point] for point in run.distinct(name)]
            if len(points) > 1 and any(
                _mean(p, name, metric) is not None for p in points for metric, _, _ in SHOWN
            ):
                env = run.found["run"]["env"]
                yield f"sweep_{name}", sweep_effects(points, name, env, facts=run.facts)

    return draw
