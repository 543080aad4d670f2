"""Learning curves from metrics.jsonl: small multiples, one line per sweep point, seeds as bands."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.data.windows import spread_indices
from mmbc_jax.report import quantities, style
from mmbc_jax.report.finished import Draw, Finished

Row = Mapping[str, Any]
MOST_KEYS = 8  # sweep points that are told apart by a legend; more share a bar of colours
HELD_OUT = "offline/loss"
"""Of a stage's entry in the summary: the loss on demonstrations that it did not train on."""
LOSS = "/loss"
"""Ending of the training loss that it compares with."""
KEYS = ("stage", "step", "seed", "point")

# what a reader looks for first; a part matches at the end of a metric's name or as one of its words
WANTED = (
    "success_rate", "success", "modes_kept", "mode_entropy", "mi_z_mode", "mode/mi", "mi_estimate", "reward",
    "return", "loss/total", "bc/loss", "loss", "discriminator", "entropy", "kl", "clip_fraction", "grad_norm",
)  # fmt: skip


def metric_names(rows: Iterable[Row], limit: int = 9) -> list[str]:
    """The most telling scalars of some rows, the ones that a reader looks for first.

    Args:
      rows: of one stage.
      limit: most names to return.

    Returns:
      Names by the order of `WANTED`, then by first appearance; those that are never finite, or hold
      one and the same value throughout a run of several steps, are left out.
    """
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            if name not in KEYS and "/" in name and _finite(value):
                values[name].append(float(value))
    names = [name for name, seen in values.items() if len(seen) == 1 or min(seen) < max(seen)]

    def rank(name: str) -> int:
        for place, part in enumerate(WANTED):
            if name.endswith("/" + part) or name == part:
                return place
        return len(WANTED)

    found: dict[object, str] = {}  # of equal curves, such as a loss of one term, the first is shown
    for name in sorted(names, key=rank):
        found.setdefault(tuple(values[name]) if len(values[name]) > 1 else name, name)
    return list(found.values())[:limit]


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)


def series(rows: Iterable[Row], name: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """One metric as arrays.

    Args:
      rows: of one stage.
      name: the metric.

    Returns:
      Sweep point to (steps [T] ascending, values [N, T]); NaN where a seed has no finite value at a step.
      If a step occurs twice (a run that was resumed), the later row counts.
    """
    found: dict[int, dict[int, dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if _finite(row.get(name)):
            point, seed = int(row.get("point") or 0), int(row.get("seed") or 0)
            found[point][seed][float(row["step"])] = float(row[name])
    result = {}
    for point, seeds in sorted(found.items()):
        steps = sorted({step for values in seeds.values() for step in values})
        table = [[values.get(step, math.nan) for step in steps] for _, values in sorted(seeds.items())]
        result[point] = (np.array(steps), np.array(table))
    return result


def learning_curves(
    rows: Sequence[Row],
    stage: str,
    env: str,
    metrics: Sequence[str] | None = None,
    point_labels: Mapping[int, str] | None = None,
    facts: Mapping[str, Any] | None = None,
    held_out: Mapping[int, float] | None = None,
) -> Figure:
    """One panel per metric over the steps of a stage.

    The line is the mean over seeds, the band runs from the lowest to the highest seed.

    Args:
      rows: of metrics.jsonl: `stage`, `step`, `seed`, `point` and scalars named `group/name`; other
        stages' rows are ignored.
      stage: the stage to draw.
      env: the environment's name.
      metrics: names to draw; by default `metric_names`.
      point_labels: legend entry per sweep point.
      facts: the run's parameters, for the footer.
      held_out: loss on demonstrations that were not trained on, of each sweep point where it is known, to be shown
        beside the training loss.

    Returns:
      The figure.

    Raises:
      ValueError: the stage has no row with a finite metric.
    """
    rows = [row for row in rows if row.get("stage") == stage]
    names = list(metrics) if metrics is not None else metric_names(rows)
    data = {name: series(rows, name) for name in names}
    data = {name: lines for name, lines in data.items() if lines}
    if not data:
        raise ValueError(f"no finite metric in the {len(rows)} rows of stage {stage!r}")
    points = sorted({point for lines in data.values() for point in lines})
    columns = min(3, len(data))
    height = math.ceil(len(data) / columns)
    figure = style.new_figure(max(5.0, 3.6 * columns), 1.1 + 2.3 * height)
    axes = figure.subplots(height, columns, squeeze=False, sharex=True).ravel()
    for ax, (name, lines) in zip(axes, data.items(), strict=False):
        _panel(ax, name, lines, points)
        if held_out and name.endswith(LOSS) and len(points) <= MOST_KEYS:
            _held_out(ax, held_out, points, max(float(steps[-1]) for steps, _ in lines.values()))
    for ax in axes[len(data) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(data) - columns) : len(data)]:
        ax.set_xlabel(quantities.step_of(stage))
        ax.tick_params(labelbottom=True)
    names = [(point_labels or {}).get(point, f"point {point}") for point in points]
    if len(points) > MOST_KEYS:
        _colour_key(figure, list(axes[: len(data)]), names)
    elif len(points) > 1:
        _legend_of(figure, names)
    seeds = max(values.shape[0] for lines in data.values() for _, values in lines.values())
    band = f"{'mean' if len(points) > MOST_KEYS else 'mean and min..max'} of {seeds} seeds"
    style.add_title(figure, style.SEPARATOR.join((env, stage, band if seeds > 1 else "1 seed")))
    style.add_footer(figure, facts or {})
    return figure


def _panel(
    ax: Axes,
    name: str,
    lines: Mapping[int, tuple[np.ndarray, np.ndarray]],
    points: Sequence[int],
) -> None:
    """Mean lines and bands of one metric; a logarithmic axis where what is positive spans two decades.

    With many sweep points there are lines alone.
    """
    shades = _shades(len(points))
    strokes = style.strokes(len(points))
    if len(points) > MOST_KEYS:
        drawn = [np.column_stack([steps, over_seeds(values)[0]]) for steps, values in lines.values()]
        ax.add_collection(
            LineCollection(drawn, colors=[shades[points.index(p)] for p in lines], linewidths=0.8, alpha=0.75)
        )
        ax.autoscale()
    for point, (steps, values) in () if len(points) > MOST_KEYS else lines.items():
        stroke = strokes[points.index(point)]
        mean, low, high = over_seeds(values)
        if len(points) == 1 and len(steps) >= 12:
            stroke = stroke | {"marker": ""}
        every = max(len(steps) // 6, 1) if len(steps) >= 12 else 1
        ax.plot(steps, mean, **stroke, linewidth=1.4, markersize=3.5, markevery=every)
        if values.shape[0] > 1:
            ax.fill_between(steps, low, high, color=stroke["color"], alpha=0.18, linewidth=0)
    everything = np.concatenate([values.ravel() for _, values in lines.values()])
    bottom, top = float(np.nanmin(everything)), float(np.nanmax(everything))
    if quantities.is_share(name) and bottom >= 0 and top <= 1:
        ax.set_ylim(-0.03, 1.03)
    elif bottom > 0 and top > 100 * bottom:
        ax.set_yscale("log")
        ax.set_ylim(bottom=max(0.7 * bottom, 1e-4 * float(np.nanmedian(everything))))
    style.dress(ax, name, grid="both")
    ax.set_ylabel(quantities.unit_of(name))
    ax.yaxis.label.set_fontsize(8)


def _held_out(ax: Axes, losses: Mapping[int, float], points: Sequence[int], last: float) -> None:
    """Of one sweep point a dashed line, of a few an open marker each at the end; the axis reaches them."""
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, 0.9 * min(losses.values())), max(high, 1.1 * max(losses.values())))
    said = "open: held out, at the end"
    if len(points) == 1:
        (loss,) = losses.values()
        ax.axhline(loss, color=style.INK, linewidth=1.0, linestyle="--", zorder=2)
        said = f"dashed: held out, at the end, {loss:.3g}"
    for point, stroke in zip(points, style.strokes(len(points)), strict=True) if len(points) > 1 else ():
        if point in losses:
            ax.plot(
                [last],
                [losses[point]],
                **stroke,
                markersize=6,
                markerfacecolor="white",
                zorder=4,
                clip_on=False,
            )
    ax.text(0.98, 0.97, said, transform=ax.transAxes, ha="right", va="top", fontsize=7, color=style.INK)


def _shades(count: int) -> list[Any]:
    return [colormaps["viridis"](place) for place in np.linspace(0.0, 0.95, count)]


def _legend_of(figure: Figure, names: Sequence[str]) -> None:
    handles = [
        Line2D([], [], **stroke, linewidth=1.4, markersize=4, label=label)
        for stroke, label in zip(style.strokes(len(names)), names, strict=True)
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)


def _colour_key(figure: Figure, axes: Sequence[Axes], names: Sequence[str]) -> None:
    """A bar from the first sweep point to the last, beside all panels."""
    count = len(names)
    norm = BoundaryNorm(np.arange(count + 1) - 0.5, count)
    mapped = ScalarMappable(norm, ListedColormap(_shades(count)))
    bar = figure.colorbar(mapped, ax=list(axes), fraction=0.03, pad=0.01, aspect=40, spacing="uniform")
    shown = spread_indices(count, 9).tolist()
    bar.set_ticks(shown, labels=[names[i] for i in shown])
    bar.ax.minorticks_off()
    style.dress_bar(bar)


def over_seeds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean, min, max) over seeds [N, T] -> [T], without the seeds that lack a step; each step has one."""
    known = np.isfinite(values)
    mean = np.where(known, values, 0.0).sum(0) / known.sum(0)
    return mean, np.where(known, values, np.inf).min(0), np.where(known, values, -np.inf).max(0)


def held_out_of(run: Finished, stage: str) -> dict[int, float]:
    """{sweep point: loss on demonstrations that were not trained on, at the end of a stage}, where it is known."""
    found = {}
    for point, entry in enumerate(run.found["points"]):
        mean = (entry["stages"].get(stage, {}).get(HELD_OUT) or {}).get("mean")
        if mean is not None:
            found[point] = float(mean)
    return found


@register("figure", Options)
def build(options: Options) -> Draw:
    """A figure of every stage that logged something."""

    def draw(run: Finished) -> Iterator[tuple[str, Figure]]:
        for name in run.results:
            own = [row for row in run.rows if row["stage"] == name]
            if metric_names(own):
                env = run.found["run"]["env"]
                held_out = held_out_of(run, name)
                figure = learning_curves(
                    own, name, env, point_labels=run.point_labels, facts=run.facts, held_out=held_out
                )
                yield f"curves_{name}", figure

    return draw
