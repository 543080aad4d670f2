"""How the stages share their successes among modes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.diagnostics.modes import KEPT_SHARE
from mmbc_jax.ops.intervals import over_seeds, wilson
from mmbc_jax.report import style
from mmbc_jax.report.figures._points import bare, label_rows
from mmbc_jax.report.finished import Draw, Finished

_FLOOR = 0.003  # of a logarithmic axis of shares


def mode_shares(
    stages: Mapping[str, Mapping[str, Any]],
    env: str,
    num_modes: int,
    mode_names: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> Figure:
    """The share of each mode among the successful episodes, stage beside stage.

    Bars are means over seeds with their 95 % intervals: over seeds where there are several, else Wilson's over the
    successes. Dots are single seeds. The dashed line is the uniform share 1/K; bars below the dotted one (1 %) do
    not count as kept. With more than 8 modes, of which one may take all, the axis is logarithmic.

    Args:
      stages: stage name to its entry of the summary, in order.
      env: the environment's name.
      num_modes: K >= 1.
      mode_names: K labels; numbers where empty.
      facts: the run's parameters, for the footer.

    Returns:
      The figure, one panel per stage: in a row for K <= 8, else below each other.

    Raises:
      ValueError: no stages, or no modes.
    """
    if not stages or num_modes < 1:
        raise ValueError(f"{len(stages)} stages, {num_modes} modes")
    names = list(mode_names) or [str(index) for index in range(num_modes)]
    beside = num_modes <= 8
    if beside:
        figure = style.new_figure(max(6.0, 3.0 * len(stages)), 4.2)
        axes = figure.subplots(1, len(stages), squeeze=False, sharey=True)[0]
    else:
        figure = style.new_figure(max(8.5, 0.42 * num_modes), 1.1 + 1.9 * len(stages))
        axes = figure.subplots(len(stages), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for ax, (name, metrics) in zip(axes, stages.items(), strict=True):
        _share_panel(ax, metrics, num_modes, 0.0 if beside else _FLOOR)
        title = style.headline("", name, metrics, num_modes)
        style.dress(ax, title.replace(style.SEPARATOR, "\n") if beside else title, grid="y")
    rotate = 60 if max(map(len, names)) > 3 and num_modes > 6 else 0
    for ax in axes if beside else axes[-1:]:
        ax.set_xticks(range(num_modes), names, rotation=rotate, fontsize=8)
    if beside:
        axes[0].set_ylim(0.0, min(1.0, 1.1 * max(ax.dataLim.y1 for ax in axes)))
    else:
        axes[0].set_yscale("log")
        axes[0].set_ylim(_FLOOR, 1.0)
        axes[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes[-1].set_xlabel("" if beside else "mode")
    figure.legend(handles=_lines(num_modes), loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    figure.supylabel("share of successful episodes", fontsize=9, color=style.INK)
    style.add_title(figure, f"{env}  ·  mode shares by stage")
    style.add_footer(figure, facts or {})
    return figure


def _lines(num_modes: int) -> list[Line2D]:
    """What the lines of a panel mean."""
    return [
        Line2D([], [], color=style.INK, linewidth=1.2, label="95 % interval"),
        Line2D([], [], color=style.MUTED, linewidth=0.8, linestyle="--", label=f"even, 1/{num_modes}"),
        Line2D([], [], color=style.MUTED, linewidth=0.8, linestyle=":", label=f"kept from {KEPT_SHARE:.0%}"),
    ]


def _intervals(metrics: Mapping[str, Any], share: np.ndarray) -> np.ndarray:
    """[2, K] lower and upper ends around the mean of shares [N, K]."""
    if len(share) > 1:
        return np.array([over_seeds(column, (0.0, 1.0)) for column in share.T]).T
    tables = [one for one in (metrics.get("z_mode_table") or {}).get("per_seed", ()) if one is not None]
    won = int(np.asarray(tables[0])[:, :-1].sum()) if tables else 0
    return np.array([wilson(won * one, won) for one in share[0]]).T


def _share_panel(ax: Axes, metrics: Mapping[str, Any], num_modes: int, floor: float) -> None:
    """Bars from `floor` up with their intervals, seeds' dots and the two reference lines of one stage."""
    known = [share for share in metrics.get("mode_share", {}).get("per_seed", ()) if share is not None]
    if not known:
        ax.text(0.5, 0.5, "no success", transform=ax.transAxes, ha="center", color=style.MUTED)
    else:
        share = np.asarray(known, np.float64)
        mean, ends = share.mean(0), _intervals(metrics, share)
        shades = style.palette(num_modes) if num_modes <= len(style.HUES) else style.HUES[4]
        ax.bar(range(num_modes), np.maximum(mean - floor, 0.0), bottom=floor, color=shades, width=0.8)
        shown = mean > 0
        around = np.maximum(np.abs(ends - mean), 0.0)[:, shown]
        at = np.arange(num_modes)[shown]
        ax.errorbar(at, mean[shown], around, fmt="none", ecolor=style.INK, elinewidth=1.2, capsize=0)
        if len(share) > 1:
            spot = np.tile(np.arange(num_modes), len(share))
            ax.plot(spot, share.ravel(), ".", color=style.INK, markersize=3, alpha=0.7)
    ax.axhline(1.0 / num_modes, color=style.MUTED, linewidth=0.8, linestyle="--")
    ax.axhline(KEPT_SHARE, color=style.MUTED, linewidth=0.8, linestyle=":")
    ax.set_xlim(-0.6, num_modes - 0.4)


def shares_over_points(
    points: Sequence[Mapping[str, Any]],
    stage: str,
    env: str,
    mode_names: Sequence[str],
    facts: Mapping[str, Any] | None = None,
) -> Figure:
    """The mode shares of a stage over a sweep: a row per point, a column per mode, shares as colours.

    Shares are means over seeds, among the successful episodes; the success rate stands beside them.

    Args:
      points: of a summary, whose runs differ.
      stage: to show.
      env: the environment's name.
      mode_names: K labels.
      facts: the run's parameters, for the footer.
    """
    share = np.full((len(points), len(mode_names)), np.nan)
    success = [point["stages"][stage]["success_rate"]["mean"] for point in points]
    for row, point in enumerate(points):
        shares = point["stages"][stage].get("mode_share", {}).get("per_seed", ())
        known = [one for one in shares if one is not None]
        if known:
            share[row] = np.mean(known, 0)
    count = len(mode_names)
    height = float(np.clip(1.6 + 0.13 * len(points), 3.4, 11.0))
    figure = style.new_figure(float(np.clip(3.4 + 0.34 * count, 6.0, 13.0)), height)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[max(count, 6), 1.4])
    top = float(np.nanmax(share)) if np.isfinite(share).any() else 1.0
    image = left.imshow(share, cmap="Blues", vmin=0.0, vmax=top, aspect="auto", interpolation="nearest")
    bare(left, "share of successes")
    bar = figure.colorbar(image, ax=left, fraction=0.03, pad=0.02, aspect=40)
    style.dress_bar(bar)
    right.barh(range(len(points)), success, height=1.0, color=style.HUES[0], alpha=0.6)
    right.set_xlim(0.0, 1.0)
    style.dress(right, "SR", grid="x")
    label_rows(left, points)
    slanted = max(map(len, mode_names)) > 3 and count > 6
    left.set_xticks(range(count), mode_names, rotation=60 if slanted else 0, fontsize=8)
    right.set_xticks([0, 1])
    right.tick_params(left=False)
    parts = (env, stage, f"mode shares over {len(points)} points")
    style.add_title(figure, style.SEPARATOR.join(filter(None, parts)))
    style.add_footer(figure, facts or {})
    return figure


@register("figure", Options)
def build(options: Options) -> Draw:
    """One figure of all stages at the main point, and one over all points of each stage that has many."""

    def draw(run: Finished) -> Iterator[tuple[str, Figure]]:
        if run.setup.env is None or not run.setup.env_spec.num_modes:
            return
        spec = run.setup.env_spec
        names = spec.mode_labels
        alone = {name: entry for name, entry in run.found["stages"].items() if name not in run.swept}
        if alone:
            yield "mode_shares", mode_shares(alone, spec.name, spec.num_modes, names, facts=run.facts)
        for name, own in run.swept.items():
            points = [run.found["points"][point] for point in own]
            yield f"mode_shares_{name}", shares_over_points(points, name, spec.name, names, facts=run.facts)

    return draw
