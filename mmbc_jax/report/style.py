"""One look for all figures: sizes, colours that colour-blind readers can tell apart, titles and footers.

Figures are `matplotlib.figure.Figure` objects on the Agg canvas. `pyplot` is never imported, so no global
state is touched and nothing needs a display.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, colors
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure

from mmbc_jax.core.files import write_atomic

INK = "#222222"
MUTED = "#6b6b6b"
FAINT = "#d9d9d9"
FAILED = "#9a9a9a"
DPI = 150
SEPARATOR = "  ·  "

# Okabe and Ito's colour-blind-safe hues without black and yellow, which ink and paper take, and two more
HUES = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#332288", "#661100")

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", "-.", ":")


def palette(count: int) -> list[tuple[float, float, float]]:
    """Colours for `count` classes, the same for a class in every figure.

    Up to 8 classes are the eight hues; up to 24 add a dark and a light version of each; above that the
    classes run through the viridis map in order.

    Args:
      count: number of classes, >= 0.

    Returns:
      `count` distinct RGB tuples in [0, 1].
    """
    if count > 3 * len(HUES):
        return [colors.to_rgb(colormaps["viridis"](x)) for x in np.linspace(0.0, 0.95, count)]
    result = []
    for index in range(count):
        base = np.array(colors.to_rgb(HUES[index % len(HUES)]))
        level = index // len(HUES)
        shade = (base, 0.6 * base, 0.55 * base + 0.45)[level]
        result.append(colors.to_rgb(tuple(shade.tolist())))
    return result


def strokes(count: int) -> list[dict[str, Any]]:
    """Keyword arguments of `count` lines that hue alone does not tell apart: colour, dashes and marker of each.

    The first eight have a marker each; the dashes change with every line, so that two of one marker never share them.
    """
    return [
        {
            "color": colour,
            "marker": _MARKERS[index % len(_MARKERS)],
            "linestyle": _DASHES[(index + index // len(_MARKERS)) % len(_DASHES)],
        }
        for index, colour in enumerate(palette(count))
    ]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches with constrained layout on an Agg canvas."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress_bar(bar: Colorbar) -> None:
    """Applies the common look to a bar of colours."""
    bar.ax.tick_params(labelsize=7, length=0)
    bar.outline.set_visible(False)  # type: ignore[operator]


def dress(ax: Axes, title: str = "", grid: str = "") -> None:
    """Applies the common look to axes.

    Args:
      ax: changed in place.
      title: left-aligned; none where empty.
      grid: `x`, `y`, `both`, or empty for no grid.
    """
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MUTED)
    ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=8, length=3)
    ax.xaxis.label.set_fontsize(9)
    ax.yaxis.label.set_fontsize(9)
    if title:
        ax.set_title(title, loc="left", fontsize=9.5, color=INK)
    if grid:
        ax.grid(axis=grid, color=FAINT, linewidth=0.6)  # type: ignore[arg-type]
        ax.set_axisbelow(True)


def number(value: float | None, digits: int = 2) -> str:
    """A number with `digits` decimals, without them where it is whole; an en dash for None."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.{digits}f}"


def interval(entry: Mapping[str, Any], digits: int = 2) -> str:
    """`mean [low, high]` of one aggregated metric, only the mean where it has no interval."""
    text = "–" if entry.get("mean") is None else f"{entry['mean']:.{digits}f}"
    if entry.get("ci95"):
        low, high = entry["ci95"]
        text += f" [{low:.{digits}f}, {high:.{digits}f}]"
    return text


def shown_seed(metrics: Mapping[str, Any]) -> int:
    """Index of the first seed of a summary's stage that has figures, not having diverged; 0 where none has."""
    columns = [
        entry["per_seed"] for name, entry in metrics.items() if name != "n" and entry and "per_seed" in entry
    ]
    seeds = max(map(len, columns), default=0)
    return next((i for i in range(seeds) if any(column[i] is not None for column in columns)), 0)


def headline(
    env: str, stage: str, metrics: Mapping[str, Any], num_modes: int, seed: int | None = None
) -> str:
    """The title every result figure carries: environment, stage, success, modes kept, episodes.

    Args:
      env: the environment's name; left out where empty.
      stage: the stage's name; left out where empty.
      metrics: one stage of a summary (`diagnostics.modes.aggregate`).
      num_modes: K; the modes are left out where it is 0.
      seed: index of the one seed that the figure shows, with that seed's values and Wilson interval;
        None for means over the seeds.

    Returns:
      One line.
    """
    success, kept = metrics["success_rate"], metrics.get("modes_kept") or {}
    seeds = len(success["per_seed"])
    modes, count = kept.get("mean"), f"n = {success.get('n')}"
    if seed is None or seeds == 1:
        count += f" x {seeds} seeds" if seeds > 1 else ""
    else:
        modes = kept["per_seed"][seed] if kept else None
        success = {"mean": success["per_seed"][seed], "ci95": success["wilson95"][seed]}
        count += f", seed {seed} of {seeds}"
    parts = [part for part in (env, stage) if part] + [f"SR {interval(success)}"]
    if num_modes and modes is not None:
        parts.append(f"{number(modes, 1)} of {num_modes} modes kept")
    return SEPARATOR.join([*parts, count])


def add_mode_key(figure: Figure, handles: Sequence[Artist], columns: int = 1) -> None:
    """Beside the panels, which colour is which mode."""
    figure.legend(
        handles=handles,
        loc="outside right upper",
        fontsize=7.5,
        frameon=False,
        title="mode",
        title_fontsize=8,
        ncols=columns,
    )


def add_title(figure: Figure, text: str) -> None:
    """A left-aligned title over the whole figure, wrapped at its parts to the figure's width."""
    room = int(10.5 * figure.get_figwidth())  # characters of bold 11 point
    lines = [""]
    for part in text.split(SEPARATOR):
        joined = f"{lines[-1]}{SEPARATOR}{part}" if lines[-1] else part
        if len(joined) <= room or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(part)
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11, color=INK, fontweight="bold")


def add_footer(figure: Figure, facts: Mapping[str, Any]) -> None:
    """The parameters of the run, in one small line below everything.

    Args:
      figure: changed in place.
      facts: name to value in the order to print; entries that are None are left out.
    """
    text = "   ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    if text:
        figure.supxlabel(text, x=0.01, ha="left", fontsize=7.5, color=MUTED)


def save(figure: Figure, path: str | Path, dpi: int = DPI) -> Path:
    """Writes the figure as a PNG without a time stamp or software version, whole or not at all.

    Args:
      figure: what to write.
      path: ends in `.png`; its folder is made.
      dpi: pixels per inch.

    Returns:
      The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    # As `savefig` does, but without its first pass over everything, which only measures.
    write_atomic(path, lambda file: canvas.print_png(file, metadata={"Software": None}))
    return path
