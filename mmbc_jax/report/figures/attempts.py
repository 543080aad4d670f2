"""How often the task is done within n attempts, by the rule that changes the command."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.report import style
from mmbc_jax.report.finished import Draw, Finished

_COLUMNS = 3
_ORDER = ("random", "value", "trial")  # colours are theirs; a stage without commands takes the next


def success_within(recommand: Mapping[str, Any], env: str, facts: Mapping[str, Any] | None = None) -> Figure:
    """A panel a setting: the share of sequences that have succeeded by each attempt, with 95 % intervals.

    Args:
      recommand: as in the summary.
      env: the environment's name.
      facts: the run's parameters, for the footer.

    Raises:
      ValueError: no settings.
    """
    settings = recommand["settings"]
    if not settings:
        raise ValueError("no settings")
    columns = min(_COLUMNS, len(settings))
    rows = math.ceil(len(settings) / columns)
    figure = style.new_figure(max(5.5, 3.4 * columns + 1.4), 1.1 + 2.9 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    names = list(dict.fromkeys([*_ORDER, *(rule for rules in settings.values() for rule in rules)]))
    at, drawn = np.arange(1, recommand["attempts"] + 1), {}
    for ax, (setting, rules) in zip(axes, settings.items(), strict=False):
        for rule, entry in rules.items():
            shade = style.HUES[names.index(rule) % len(style.HUES)]
            mean = [one["mean"] for one in entry["within"]]
            low, high = np.array([one["ci95"] for one in entry["within"]]).T
            ax.fill_between(at, low, high, color=shade, alpha=0.18, linewidth=0)
            drawn[rule] = ax.plot(at, mean, color=shade, linewidth=1.5, marker="o", markersize=4)[0]
        style.dress(ax, setting, grid="both")
        ax.set_xlabel("attempts")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in axes[len(settings) :]:
        ax.set_visible(False)
    axes[0].set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("share that has succeeded")
    figure.legend(list(drawn.values()), list(drawn), loc="outside right center", fontsize=8, frameon=False)
    style.add_title(figure, style.SEPARATOR.join((env, "success within n attempts")))
    style.add_footer(figure, facts or {})
    return figure


@register("figure", Options)
def build(options: Options) -> Draw:
    """One figure, of an evaluation that re-commands."""

    def draw(run: Finished) -> Iterator[tuple[str, Figure]]:
        if "recommand" in run.found["run"]:
            found = run.found["run"]["recommand"]
            yield "attempts", success_within(found, run.setup.env_spec.name, facts=run.facts)

    return draw
