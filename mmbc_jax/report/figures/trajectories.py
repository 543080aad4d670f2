"""Paths of evaluation episodes over the scene, coloured by the mode they ended in and by the command z."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmbc_jax.core.options import Options
from mmbc_jax.core.picturing import HasDraw, plots
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import EnvSpec, Rollouts
from mmbc_jax.data.windows import spread_indices
from mmbc_jax.report import style
from mmbc_jax.report.figures._multiples import MOST_HUES, labelled, multiples
from mmbc_jax.report.figures._points import label_of, paths_of_sweep
from mmbc_jax.report.finished import Draw, Finished

Color = tuple[float, float, float]
_KEY_COLUMNS = 4  # of a legend
_MOST_PANELS, _MOST_PATHS = 8, 64  # of a figure of many points, and in each of its panels


def paths_of(rollouts: Rollouts) -> list[np.ndarray]:
    """The recorded paths, each cut at its episode's end.

    Args:
      rollouts: B episodes of one seed, the first P of them with a path.

    Returns:
      P arrays [length, 2], physical units; length >= 1.
    """
    path, mask = np.asarray(rollouts.path), np.asarray(rollouts.path_mask) > 0
    return [points[: max(1, int(valid.sum()))] for points, valid in zip(path, mask, strict=True)]


def _headline(spec: EnvSpec, stage: str, metrics: Mapping[str, Any], seed: int | None) -> str:
    shown = style.shown_seed(metrics) if seed is None else seed
    return style.headline(spec.name, stage, metrics, spec.num_modes, shown)


def trajectories(
    env: Any,
    spec: EnvSpec,
    rollouts: Rollouts,
    num_z: int,
    metrics: Mapping[str, Any],
    stage: str = "",
    facts: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Figure:
    """Draws every recorded path: left by mode, right by z, as far as hues tell these apart (`MOST_HUES`).

    Failed episodes are thin, grey and dashed, with a cross where they ended.

    Args:
      env: draws its scene where it has `draw(ax)`.
      spec: of `env`.
      rollouts: B episodes of one seed, P >= 1 of them with a path.
      num_z: Z.
      metrics: the stage's entry of the summary, for the title.
      stage: its name.
      facts: the run's parameters, for the footer.
      seed: index of the seed that the episodes belong to; None for the first that has not diverged.

    Returns:
      The figure; a kind with more labels than hues is left out of it.

    Raises:
      ValueError: no path was recorded, the environment has no plane to plot in, or there are too many of both.
    """
    lines, success = _recorded(env, spec, rollouts)
    panels = [one for one in labelled(spec, rollouts, num_z) if one.count <= MOST_HUES]
    if not panels:
        raise ValueError(f"{spec.num_modes} modes and {num_z} z are more than {MOST_HUES} hues tell apart")
    window = window_of(lines)
    width, height = window[1] - window[0]
    panel = float(np.clip(5.2 * width / height, 3.9, 6.5))  # inches, so that little white is left beside it
    figure = style.new_figure(max(panel * len(panels) + 0.8, 7.0), 5.2 * min(1.0, 1.3 * height / width) + 1.5)
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for ax, one in zip(axes, panels, strict=True):
        if isinstance(env, HasDraw):
            env.draw(ax)
        labels = one.labels[: len(lines)]
        _draw_paths(ax, lines, success, labels, style.palette(one.count))
        frame(ax, window, one.title)
        _legend(ax, success, labels, style.palette(one.count), one.names)
        ax.set(xlabel=ax.get_xlabel() or "x", ylabel=ax.get_ylabel() or "y")
        ax.label_outer()
    style.add_title(figure, _headline(spec, stage, metrics, seed))
    style.add_footer(figure, {**_drawn_facts(success), **(facts or {})})
    return figure


def trajectories_apart(
    env: Any,
    spec: EnvSpec,
    rollouts: Rollouts,
    num_z: int,
    metrics: Mapping[str, Any],
    stage: str = "",
    facts: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Iterator[tuple[str, Figure]]:
    """("modes" or "z", figure) of labels that are too many for hues: a small panel each; see `trajectories`.

    Raises:
      ValueError: as `trajectories`.
    """
    lines, success = _recorded(env, spec, rollouts)
    for one in labelled(spec, rollouts, num_z):
        labels = one.labels[: len(lines)]
        if one.count <= MOST_HUES or not (labels >= 0).any():
            continue
        figure = multiples(env, lines, success, labels, one.names, window_of(lines))
        headline = _headline(spec, stage, metrics, seed)
        seen = len(np.unique(labels[labels >= 0]))
        shown = f"{one.title}, {len(figure.axes)} of {seen}" if len(figure.axes) < seen else one.title
        style.add_title(figure, style.SEPARATOR.join((headline, shown)))
        style.add_footer(figure, {**_drawn_facts(success), **(facts or {})})
        yield one.kind, figure


def _recorded(env: Any, spec: EnvSpec, rollouts: Rollouts) -> tuple[list[np.ndarray], np.ndarray]:
    """Paths and [P] which of them succeeded."""
    lines = paths_of(rollouts)
    if not lines or not plots(env, spec):
        raise ValueError(f"{spec.name}: no plotted positions (P = {len(lines)}, position = {spec.position})")
    return lines, np.asarray(rollouts.success)[: len(lines)].astype(bool)


def _drawn_facts(success: np.ndarray) -> dict[str, Any]:
    """How many paths there are, for the footer."""
    return {"drawn": f"{len(success)} episodes", "failed": f"{int((~success).sum())} (dashed, x)"}


def window_of(lines: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner of the finite path points, with 4 % of the larger side around them."""
    points = np.concatenate(lines)
    points = points[np.all(np.isfinite(points), axis=1)]
    if points.size == 0:
        return np.zeros(2), np.ones(2)
    low, high = points.min(0), points.max(0)
    margin = 0.04 * max(float((high - low).max()), 1e-3)
    return low - margin, high + margin


def _draw_paths(
    ax: Axes, lines: Sequence[np.ndarray], success: np.ndarray, labels: np.ndarray, shades: Sequence[Color]
) -> None:
    """Two line collections (succeeded, failed) and the ends; a shuffle keeps any label from lying on top."""
    alpha = float(np.clip(60.0 / max(len(lines), 1), 0.4, 0.85))
    order = np.random.default_rng(0).permutation(len(lines))
    won = [index for index in order if success[index]]
    lost = [index for index in order if not success[index]]
    if lost:
        dashed = LineCollection(
            [lines[i] for i in lost], colors=style.FAILED, linewidths=0.8, linestyles="--", zorder=2.5
        )
        dashed.set_gid("failed")
        ax.add_collection(dashed)
        ends = np.array([lines[i][-1] for i in lost])
        ax.scatter(ends[:, 0], ends[:, 1], marker="x", s=16, linewidths=0.9, color=style.INK, zorder=4)
    if won:
        own = [shades[labels[i]] if 0 <= labels[i] < len(shades) else style.MUTED for i in won]
        solid = LineCollection([lines[i] for i in won], colors=own, linewidths=1.1, alpha=alpha, zorder=3)
        solid.set_gid("succeeded")
        ax.add_collection(solid)
    start = lines[0][0]
    ax.plot(*start, marker="o", markersize=5, color="white", markeredgecolor=style.INK, zorder=5)


def frame(ax: Axes, window: tuple[np.ndarray, np.ndarray], title: str) -> None:
    """Equal scales, and limits that hold the paths and whatever the scene asked for around them."""
    ax.set_aspect("equal", adjustable="box")
    (x0, y0), (x1, y1) = window
    scene = ax.dataLim
    if (
        np.all(np.isfinite(scene.get_points()))
        and scene.width < 3 * (x1 - x0)
        and scene.height < 3 * (y1 - y0)
    ):
        x0, y0, x1, y1 = min(x0, scene.x0), min(y0, scene.y0), max(x1, scene.x1), max(y1, scene.y1)
    ax.set_xlim(x0, x1)
    ax.set_ylim(y0, y1)
    style.dress(ax, title)


def _legend(
    ax: Axes, success: np.ndarray, labels: np.ndarray, shades: Sequence[Color], names: Sequence[str]
) -> None:
    """A key below the axes: the labels that occur among the drawn successes, with their counts."""
    counts = np.bincount(labels[success & (labels >= 0)], minlength=len(shades))
    seen = np.flatnonzero(counts).tolist()
    handles = [Line2D([], [], color=shades[i], linewidth=3, label=f"{names[i]}  ({counts[i]})") for i in seen]
    if not handles:
        return
    ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=_KEY_COLUMNS,
        fontsize=8, frameon=False, handlelength=1.2, columnspacing=1.2, labelspacing=0.35,
    )  # fmt: skip


def trajectories_over_points(
    env: Any,
    spec: EnvSpec,
    panels: Sequence[tuple[str, Rollouts]],
    title: str,
    facts: Mapping[str, Any] | None = None,
) -> Figure:
    """Paths at several points of a sweep beside each other, coloured by mode where hues tell the modes apart.

    More modes are drawn in one colour, and each panel says how many of them its successes took.

    Args:
      env: draws its scene where it has `draw(ax)`.
      spec: of `env`.
      panels: (name, episodes of one seed) of each point.
      title: of the figure.
      facts: the run's parameters, for the footer.
    """
    drawn = [paths_of(rollouts)[:_MOST_PATHS] for _, rollouts in panels]
    window = window_of([line for lines in drawn for line in lines])
    width, height = window[1] - window[0]
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    side = float(np.clip(2.4 * height / width, 1.5, 3.2))  # inches
    figure = style.new_figure(2.5 * columns + 0.6, (side + 0.35) * rows + 0.9)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    told, seen = spec.num_modes <= MOST_HUES, set[int]()
    shades = style.palette(spec.num_modes) if told else [colors.to_rgb(style.HUES[0])] * spec.num_modes
    for ax, lines, (name, rollouts) in zip(axes, drawn, panels, strict=False):
        if isinstance(env, HasDraw):
            env.draw(ax)
        success, mode = np.asarray(rollouts.success).astype(bool), np.asarray(rollouts.mode)
        _draw_paths(ax, lines, success[: len(lines)], mode[: len(lines)], shades)
        frame(ax, window, name)
        taken = np.unique(mode[success & (mode >= 0)])
        seen.update(taken.tolist() if told else [])
        reached = f"\n{len(taken)} of {spec.num_modes} modes" if spec.num_modes else ""
        ax.text(
            0.98, 0.02, f"SR {success.mean():.2f}{reached}", transform=ax.transAxes, ha="right", fontsize=7,
            color=style.MUTED, bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
        )  # fmt: skip
        ax.label_outer()
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    if seen:
        _mode_key(figure, [(shades[mode], spec.mode_labels[mode]) for mode in sorted(seen)])
    style.add_title(figure, title)
    style.add_footer(figure, facts or {})
    return figure


def _mode_key(figure: Figure, entries: Sequence[tuple[Color, str]]) -> None:
    handles = [Line2D([], [], color=shade, linewidth=3, label=name) for shade, name in entries]
    style.add_mode_key(figure, handles)


@register("figure", Options)
def build(options: Options) -> Draw:
    """A figure of every stage and sweep point whose environment has a plane; of many points, some in one figure."""

    def draw(run: Finished) -> Iterator[tuple[str, Figure]]:
        env = run.setup.env
        if env is None or not plots(env, env.spec):
            return
        for label, result, metrics, rollouts in run.evaluated():
            if rollouts is not None:
                what = (env, env.spec, rollouts, result.num_modes, metrics, label, run.facts)
                if any(one.count <= MOST_HUES for one in labelled(env.spec, rollouts, result.num_modes)):
                    yield f"trajectories_{label}", trajectories(*what)
                for kind, figure in trajectories_apart(*what):
                    yield f"trajectories_{label}_{kind}", figure
        for name, own in run.swept.items():
            chosen = [own[i] for i in spread_indices(len(own), _MOST_PANELS)]
            points = [run.found["points"][point] for point in own]
            panels = [
                (label_of(run.found["points"][point], paths_of_sweep(points)), rollouts)
                for point in chosen
                if (rollouts := run.shown(name, point)) is not None
            ]
            if panels:
                coloured = ", coloured by mode" if env.spec.num_modes <= MOST_HUES else ""
                title = (env.spec.name, name, f"{len(panels)} of {len(own)} points{coloured}")
                figure = trajectories_over_points(
                    env, env.spec, panels, style.SEPARATOR.join(title), facts=run.facts
                )
                yield f"trajectories_{name}", figure

    return draw
