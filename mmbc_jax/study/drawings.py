"""Figures of a study that show episodes: how far they stray over time, and where they go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mmbc_jax.core import registry
from mmbc_jax.core.types import Rollouts
from mmbc_jax.diagnostics.instruments.drift import clocked, deviation
from mmbc_jax.evaluation.results import StageResult, load_result
from mmbc_jax.ops.intervals import t_interval
from mmbc_jax.report import style
from mmbc_jax.report.figures.trajectories import paths_of
from mmbc_jax.study.cells import of_variant
from mmbc_jax.study.plan import Variant

Draw = Callable[[Mapping[str, Path]], Figure | None]
COLUMNS = 4  # of panels in a row


def errors_over_time(variants: Sequence[Variant], labels: Sequence[str], title: str) -> Draw:
    """A line per variant: the distance to the nearest mean path over time, with 95 % intervals over seeds.

    Args:
      variants: whose environments know their mean paths (`HasMeanPaths`).
      labels: of the lines.
      title: of the figure.
    """

    def draw(runs: Mapping[str, Path]) -> Figure | None:
        figure = style.new_figure(6.4, 4.0)
        axes = figure.add_subplot()
        shown = 0
        for variant, label, stroke in zip(variants, labels, style.strokes(len(variants)), strict=True):
            seeds = _episodes(_results(variant, runs))
            if not seeds:
                continue
            curves = _curves(variant, seeds)
            steps, mean = np.arange(curves.shape[1]), curves.mean(0)
            every = max(len(steps) // 8, 1)
            axes.plot(steps, mean, **stroke, markersize=4.5, markevery=every, label=label, linewidth=1.4)
            if len(curves) > 1:
                low, high = np.array([t_interval(column) for column in curves.T]).T
                shade = stroke["color"]
                axes.fill_between(steps, np.maximum(low, 0.0), high, color=shade, alpha=0.15, linewidth=0)
            shown += 1
        if not shown:
            return None
        axes.set(xlabel="step of the episode", ylabel="distance to the mean path", ylim=(0, None))
        style.dress(axes, title, "y")
        axes.legend(fontsize=7, frameon=False)
        return figure

    return draw


def episodes(variants: Sequence[Variant], labels: Sequence[str], title: str, count: int = 12) -> Draw:
    """A panel per variant: the first episodes of every seed, a colour per seed, over the task's scene.

    Args:
      variants: whose environments have a plane to plot in.
      labels: of the panels.
      title: of the figure.
      count: episodes of each seed.
    """

    def draw(runs: Mapping[str, Path]) -> Figure | None:
        found = []
        for variant, label in zip(variants, labels, strict=True):
            if seeds := _episodes(_results(variant, runs)):
                found.append((variant, label, seeds))
        if not found:
            return None
        columns = min(COLUMNS, len(found))
        rows = -(-len(found) // columns)
        figure = style.new_figure(2.9 * columns, 2.9 * rows + 0.4)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(found) :]:
            axes.set_axis_off()
        for axes, (variant, label, seeds) in zip(grid.flat, found, strict=False):
            registry.build("env", variant.config.env).draw(axes)
            for own, colour in zip(seeds, style.palette(len(seeds)), strict=True):
                for line in paths_of(own)[:count]:
                    axes.plot(*line.T, color=colour, linewidth=0.6, alpha=0.6)
            style.dress(axes, label)
            axes.set(aspect="equal", xticks=[], yticks=[], xlabel="", ylabel="")
        style.add_title(figure, title)
        return figure

    return draw


def _results(variant: Variant, runs: Mapping[str, Path]) -> list[StageResult]:
    """The episodes of a finished variant, or of those of its cells that are."""
    found = [load_result(path, variant.stage) for name, path in runs.items() if of_variant(variant, name)]
    return [result for result in found if result is not None and result.rollouts is not None]


def _episodes(results: Sequence[StageResult]) -> list[Rollouts]:
    """Those of every seed."""
    own = [result.run(0, seed) for result in results for seed in range(result.index.shape[1])]
    return [rollouts for rollouts in own if rollouts is not None]


def _curves(variant: Variant, seeds: Sequence[Rollouts]) -> np.ndarray:
    """[N, L] deviation over time of each seed, averaged over the episodes that still run, while any does."""
    env = registry.build("env", variant.config.env)
    means = np.asarray(env.mean_paths(env.default_params()), np.float64)[: env.spec.num_modes]
    curves = []
    for own in seeds:
        path, mask = np.asarray(own.path, np.float64), np.asarray(own.path_mask) > 0
        error = deviation(clocked(path, means)[1], mask)
        curves.append((error * mask).sum(0) / np.where(mask.any(0), mask.sum(0), np.nan))
    stacked = np.stack(curves)
    return stacked[:, np.isfinite(stacked).all(0)]
