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
from mmbc_jax.data.windows import spread_indices
from mmbc_jax.diagnostics.domains import SHIFTS
from mmbc_jax.evaluation.shifts import read_shifts
from mmbc_jax.report import style
from mmbc_jax.report.figures._multiples import MOST_HUES, MOST_PANELS
from mmbc_jax.report.finished import Draw, Finished
from mmbc_jax.report.summary import STRENGTHS

_ROWS = 14  # of the legend
_COLUMNS, _SMALL_COLUMNS = 3, 6
_ALL = {"color": style.INK, "linewidth": 2.0, "marker": "o", "markersize": 3.5}
_DASHED = {"color": style.INK, "linewidth": 1.0, "linestyle": "--"}
_AMONG = {"color": style.FAILED, "linewidth": 0.6, "marker": "", "zorder": 1.5}


def success_over_strength(
    stages: Mapping[str, Mapping[str, Any]],
    sweep: str,
    parameter: str,
    env: str,
    mode_names: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> Figure:
    """A panel a stage: black its success, coloured that of each mode (see `diagnostics.strengths`), 95 % intervals.

    More than 8 modes are grey lines without names: they are told apart in `by_mode`.

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
        told = len(metrics["z_mode_table"]["per_seed"][style.shown_seed(metrics)] or ()) > 1
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
    strokes, lines = style.strokes(len(modes)), {}
    for stroke, (k, entries) in zip(strokes, modes.items(), strict=True):
        if len(modes) <= MOST_HUES:
            lines[names[k]] = _line(ax, at, entries, {**stroke, "linewidth": 1.3})
        else:
            lines["each mode"] = _line(ax, at, entries, _AMONG, band=False)
    return {"all episodes": _line(ax, at, _overall(metrics, found), _ALL), **lines}


def _overall(metrics: Mapping[str, Any], found: Mapping[str, Any]) -> list[Any]:
    return [metrics[SHIFTS][setting]["success_rate"] for setting in found["settings"]]


def _line(
    ax: Axes, at: np.ndarray, entries: Sequence[Any], stroke: Mapping[str, Any], band: bool = True
) -> Any:
    known = [entry or {} for entry in entries]
    mean = np.array([math.nan if one.get("mean") is None else one["mean"] for one in known])
    low, high = np.array([one.get("ci95") or (math.nan, math.nan) for one in known], float).T
    if band:
        ax.fill_between(at, low, high, color=stroke["color"], alpha=0.15, linewidth=0)
    return ax.plot(at, mean, **{"markersize": 4, **stroke})[0]


def by_mode(
    label: str,
    metrics: Mapping[str, Any],
    sweep: str,
    parameter: str,
    env: str,
    mode_names: Sequence[str],
    facts: Mapping[str, Any] | None = None,
) -> Figure:
    """A small panel for each mode of a stage, with its interval; behind it all modes, and dashed all episodes.

    Args:
      label: of the stage.
      metrics: its entry of the summary, with the sweep among its strengths.
      sweep: its name.
      parameter: that grows.
      env: the environment's name.
      mode_names: K labels.
      facts: the run's parameters, for the footer.
    """
    found = metrics[STRENGTHS][sweep]
    at = np.asarray(found["strengths"])
    modes = {k: entries for k, entries in enumerate(found["success_per_mode"]) if any(entries)}
    chosen = [list(modes)[i] for i in spread_indices(len(modes), MOST_PANELS)]
    columns = min(_SMALL_COLUMNS, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    figure = style.new_figure(1.5 * columns + 0.6, 1.35 * rows + 1.0)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for ax, mode in zip(axes, chosen, strict=False):
        for entries in modes.values():
            _line(ax, at, entries, _AMONG, band=False)
        _line(ax, at, _overall(metrics, found), _DASHED, band=False)
        _line(ax, at, modes[mode], {"color": style.HUES[0], "linewidth": 1.6, "marker": "o", "markersize": 3})
        style.dress(ax, mode_names[mode], grid="both")
        ax.title.set_fontsize(8)
    for ax in axes[len(chosen) :]:
        ax.set_visible(False)
    axes[0].set_ylim(-0.03, 1.03)
    axes[(rows - 1) * columns].set(xlabel=parameter, ylabel="success")
    shown = f"{len(chosen)} of {len(modes)} modes" if len(chosen) < len(modes) else f"{len(modes)} modes"
    parts = (env, f"{label}: {sweep}, {shown}", "dashed: all episodes, grey: every mode")
    style.add_title(figure, style.SEPARATOR.join(parts))
    style.add_footer(figure, facts or {})
    return figure


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
                for label, metrics in stages.items() if len(names) > MOST_HUES else ():
                    about = (label, metrics, shift.name, shift.parameter, spec.name, names)
                    yield f"robustness_{shift.name}_{label}", by_mode(*about, facts=run.facts)

    return draw
