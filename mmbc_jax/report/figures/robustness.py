"""Success, and success per mode, against the strength of a perturbation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.diagnostics.domains import SHIFTS
from mmbc_jax.evaluation.shifts import read_shifts
from mmbc_jax.report import style
from mmbc_jax.report.finished import Draw, Finished
from mmbc_jax.report.summary import STRENGTHS

_BANDS = 8  # modes up to which each has its interval
_ROWS = 14  # of the legend
_COLUMNS = 3


def success_over_strength(
    stages: Mapping[str, Mapping[str, Any]],
    sweep: str,
    parameter: str,
    env: str,
    mode_names: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> Figure:
    """A panel a stage: black its success, coloured that of each mode (see `diagnostics.strengths`), 95 % intervals.

    With more than 8 modes these are thin lines without intervals.

    Args:
      stages: {label: entry of the summary}, each with the sweep among its strengths.
      sweep: its name.
      parameter: that grows.
      env: the environment's name.
      mode_names: K labels.
      facts: the run's parameters, for the footer.

    Raises:
      ValueError: no stages.
    """
    if not stages:
        raise ValueError("no stages")
    columns = min(_COLUMNS, len(stages))
    rows = math.ceil(len(stages) / columns)
    figure = style.new_figure(max(5.5, 3.9 * columns + 1.2), 1.1 + 3.1 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    named: dict[str, Any] = {}
    for ax, (label, metrics) in zip(axes, stages.items(), strict=False):
        named |= _panel(ax, metrics, sweep, mode_names)
        told = len((metrics["z_mode_table"]["per_seed"] or [None])[0] or ()) > 1
        kind = "success as told, per mode" if told else "share of episodes, per mode"
        style.dress(ax, f"{label}\n{kind}" if mode_names else label, grid="both")
        ax.set_xlabel(parameter)
    for ax in axes[len(stages) :]:
        ax.set_visible(False)
    axes[0].set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("success")
    figure.legend(
        list(named.values()),
        list(named),
        loc="outside right center",
        ncols=math.ceil(len(named) / _ROWS),
        fontsize=7.5,
        frameon=False,
    )
    style.add_title(figure, style.SEPARATOR.join((env, f"{sweep}: success against {parameter}")))
    style.add_footer(figure, facts or {})
    return figure


def _panel(ax: Axes, metrics: Mapping[str, Any], sweep: str, names: Sequence[str]) -> dict[str, Any]:
    """Draws a stage; {name: line} of what is drawn."""
    found = metrics[STRENGTHS][sweep]
    at = np.asarray(found["strengths"])
    modes = {k: entries for k, entries in enumerate(found["success_per_mode"]) if any(entries)}
    shades, lines = style.palette(len(names)), {}
    bands = len(modes) <= _BANDS
    for k, entries in modes.items():
        lines[names[k]] = _line(ax, at, entries, shades[k], bands, width=1.3 if bands else 0.8)
    overall = [metrics[SHIFTS][setting]["success_rate"] for setting in found["settings"]]
    return {"all episodes": _line(ax, at, overall, style.INK, True, width=2.0), **lines}


def _line(ax: Axes, at: np.ndarray, entries: Sequence[Any], shade: Any, band: bool, width: float) -> Any:
    known = [entry or {} for entry in entries]
    mean = np.array([math.nan if one.get("mean") is None else one["mean"] for one in known])
    low, high = np.array([one.get("ci95") or (math.nan, math.nan) for one in known], float).T
    if band:
        ax.fill_between(at, low, high, color=shade, alpha=0.15, linewidth=0)
    return ax.plot(at, mean, color=shade, linewidth=width, marker="o", markersize=3.5 if band else 1.5)[0]


@register("figure", Options)
def build(options: Options) -> Draw:
    """A figure of every sweep in `evaluation.shifts`."""

    def draw(run: Finished) -> Iterator[tuple[str, Figure]]:
        if run.setup.env is None:
            return
        spec = run.setup.env_spec
        names = spec.mode_labels if spec.num_modes else ()
        stages = {label: metrics for label, _, metrics, _ in run.evaluated() if STRENGTHS in metrics}
        for shift in read_shifts(run.setup.config.evaluation.shifts) if stages else ():
            if shift.is_sweep:
                drawn = success_over_strength(
                    stages, shift.name, shift.parameter, spec.name, names, facts=run.facts
                )
                yield f"robustness_{shift.name}", drawn

    return draw
