"""Modes at a glance: what each command z leads to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.data.windows import spread_indices
from mmbc_jax.diagnostics.modes import KEPT_SHARE, staircase
from mmbc_jax.report import style
from mmbc_jax.report.figures._points import bare, label_rows
from mmbc_jax.report.finished import Draw, Finished

BLUES = LinearSegmentedColormap.from_list("share", ["#ffffff", "#9ecae1", "#2171b5", "#08306b"])
_MOST_POINTS, _SHORT = 60, 3  # rows of a map of points, and characters of a label that fits a cell
_LUMA = np.array((0.299, 0.587, 0.114))  # brightness of red, green and blue (Rec. 601)
REDS = LinearSegmentedColormap.from_list("failed", ["#ffffff", "#f4a582", "#b2182b"])


def z_mode_heatmap(
    metrics: Mapping[str, Any],
    env: str,
    mode_names: Sequence[str] = (),
    stage: str = "",
    facts: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Figure:
    """Where the episodes of each z end: one row per z, one column per mode, failures apart.

    Each row is a distribution over its episodes and sums to 1. Modes that no episode reached are dropped
    where K > 8 and counted in the axis label; the names of those that are not kept are grey. Rows are
    sorted by dominant mode, so that a policy that z commands shows as a staircase.

    Args:
      metrics: the stage's entry of the summary, with `z_mode_table`.
      env: the environment's name.
      mode_names: K labels; numbers where empty.
      stage: its name.
      facts: the run's parameters, for the footer.
      seed: index of the seed to draw; None for the first that has not diverged.

    Returns:
      The figure; its axes are the modes, the failed column, and the colour bar.

    Raises:
      ValueError: the environment labels no modes.
    """
    seed = style.shown_seed(metrics) if seed is None else seed
    tables = metrics["z_mode_table"]["per_seed"]
    if tables[seed] is None:
        raise ValueError(f"{env}: no modes to tabulate")
    counts = np.asarray(tables[seed], np.int64)
    num_modes = counts.shape[1] - 1
    names = list(mode_names) or [str(index) for index in range(num_modes)]
    order = staircase(counts)
    reached = counts[:, :-1].sum(0) > 0
    keep = np.flatnonzero(reached) if num_modes > 8 and reached.any() else np.arange(num_modes)
    share = (counts / np.maximum(counts.sum(1, keepdims=True), 1))[order]

    width = float(np.clip(2.6 + 0.46 * (len(keep) + 1), 7.5, 15.0))
    figure = style.new_figure(width, float(np.clip(1.9 + 0.32 * len(order), 3.4, 13.0)))
    left, right = figure.subplots(1, 2, width_ratios=[max(len(keep), 1), 1.2])
    image = _cells(left, share[:, keep], BLUES)
    _cells(right, share[:, -1:], REDS)
    rows = [f"z {index}  (n = {counts[index].sum()})" for index in order]
    left.set_yticks(range(len(rows)), rows, fontsize=8)
    _mode_axis(left, counts, keep, names)
    right.set_xticks([0], ["failed"], fontsize=8)
    right.set_yticks([])
    bar = figure.colorbar(image, ax=right, fraction=0.9, pad=0.3, label="share of z's episodes")
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)  # type: ignore[operator]
    style.add_title(figure, style.headline(env, stage, metrics, num_modes, seed))
    style.add_footer(figure, facts or {})
    return figure


def _mode_axis(ax: Axes, counts: np.ndarray, keep: np.ndarray, names: Sequence[str]) -> None:
    """Names of the columns, slanted where they would touch, grey where the mode is not kept."""
    slanted = len(keep) > 6 and max(len(names[i]) for i in keep) > 3
    ax.set_xticks(range(len(keep)), [names[i] for i in keep], rotation=60 if slanted else 0, fontsize=8)
    total = max(int(counts[:, :-1].sum()), 1)
    for label, mode in zip(ax.get_xticklabels(), keep, strict=True):
        if counts[:, mode].sum() / total < KEPT_SHARE:
            label.set_color(style.FAILED)
        if slanted:
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    num_modes = counts.shape[1] - 1
    dropped = num_modes - len(keep)
    ax.set_xlabel("mode" + (f"   ({dropped} of {num_modes} never reached, not shown)" if dropped else ""))


def _cells(ax: Axes, share: np.ndarray, cmap: LinearSegmentedColormap) -> Any:
    """One heat map of shares in [0, 1], with percentages where they can be read."""
    image = ax.imshow(share, cmap=cmap, vmin=0.0, vmax=1.0, aspect="auto")
    ax.set_xticks(np.arange(share.shape[1] + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(share.shape[0] + 1) - 0.5, minor=True)
    ax.grid(which="minor", color=style.FAINT, linewidth=0.5)
    ax.tick_params(which="both", length=0, labelcolor=style.INK)
    for side in ax.spines.values():
        side.set_visible(False)
    if share.shape[0] <= 32 and share.shape[1] <= 24:
        for row, column in zip(*np.nonzero(share >= 0.01), strict=True):
            value = share[row, column]
            ink = "white" if value > 0.55 else style.INK
            ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=ink)
    return image


def commands_over_points(
    points: Sequence[Mapping[str, Any]],
    stage: str,
    env: str,
    mode_names: Sequence[str],
    facts: Mapping[str, Any] | None = None,
) -> Figure:
    """What each z leads to over a sweep: a row per point, a column per z, in the colour of its most frequent mode.

    The mode is written into its cell: its label where that is short, else its number, which the key explains. The
    paler a cell, the fewer of the command's episodes end in that mode; white has none. At most 60 points, of each the
    first seed that has not diverged.

    Args:
      points: of a summary, whose runs differ.
      stage: to show.
      env: the environment's name.
      mode_names: K labels.
      facts: the run's parameters, for the footer.
    """
    every_point = len(points)
    points = [points[i] for i in spread_indices(every_point, _MOST_POINTS)]
    found = [point["stages"][stage] for point in points]
    tables = [metrics["z_mode_table"]["per_seed"][style.shown_seed(metrics)] for metrics in found]
    counts = np.asarray(tables, np.int64)  # [S, Z, K + 1]
    num_z, count = counts.shape[1], len(mode_names)
    colours = np.array(style.palette(count))
    dominant = counts[..., :-1].argmax(-1)
    purity = counts[..., :-1].max(-1) / np.maximum(counts.sum(-1), 1)
    cells = 1.0 - purity[..., None] * (1.0 - colours[dominant])
    height = float(np.clip(1.9 + 0.15 * len(points), 3.6, 11.0))
    figure = style.new_figure(float(np.clip(2.6 + 0.36 * num_z, 6.0, 13.0)), height)
    ax = figure.subplots()
    ax.imshow(cells, aspect="auto", interpolation="nearest")
    short = all(len(mode_names[mode]) <= _SHORT for mode in np.unique(dominant[purity > 0]))
    written = [name if short else str(mode) for mode, name in enumerate(mode_names)]
    for row, column in zip(*np.nonzero(purity > 0), strict=True):
        ink = "white" if cells[row, column] @ _LUMA < 0.5 else style.INK
        text = written[dominant[row, column]]
        ax.text(column, row, text, ha="center", va="center", fontsize=6, color=ink)
    bare(ax)
    label_rows(ax, points)
    every = -(-num_z // 16)
    ax.set_xticks(range(0, num_z, every), [f"z {index}" for index in range(0, num_z, every)], fontsize=8)
    seen = np.unique(dominant[purity > 0])
    if 0 < len(seen) <= 48:
        names = [mode_names[mode] if short else f"{mode}: {mode_names[mode]}" for mode in seen]
        handles = [Patch(color=colours[mode], label=name) for mode, name in zip(seen, names, strict=True)]
        style.add_mode_key(figure, handles, columns=-(-len(seen) // 24))
    over = f"{len(points)} of {every_point}" if len(points) < every_point else f"{every_point}"
    parts = (env, stage, f"where each z leads over {over} points", "paler: fewer of its episodes")
    style.add_title(figure, style.SEPARATOR.join(filter(None, parts)))
    style.add_footer(figure, facts or {})
    return figure


@register("figure", Options)
def build(options: Options) -> Draw:
    """A map of every stage that commands modes; one over all points where there are many."""

    def draw(run: Finished) -> Iterator[tuple[str, Figure]]:
        if run.setup.env is None or not run.setup.env_spec.num_modes:
            return
        spec = run.setup.env_spec
        for label, result, metrics, _ in run.evaluated():
            if result.num_modes > 1:
                figure = z_mode_heatmap(metrics, spec.name, spec.mode_names, stage=label, facts=run.facts)
                yield f"z_modes_{label}", figure
        names = spec.mode_labels
        for name, own in run.swept.items():
            if run.results[name].num_modes > 1:
                points = [run.found["points"][point] for point in own]
                yield f"z_modes_{name}", commands_over_points(points, name, spec.name, names, facts=run.facts)

    return draw
