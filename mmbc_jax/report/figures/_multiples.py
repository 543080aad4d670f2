"""Small panels of paths, one a mode or a command, where there are more of them than hues tell apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mmbc_jax.core.picturing import HasDraw
from mmbc_jax.core.types import EnvSpec, Rollouts
from mmbc_jax.data.windows import spread_indices
from mmbc_jax.report import style

MOST_HUES = 8
"""Labels that hues tell apart."""
MOST_PANELS = 24
_COLUMNS, _SIDE = 8, 1.75  # panels in a row, and inches of one's longer side
_FAINT = 64  # of the other paths, which show where there are any
_LEFT, _TOP, _BOTTOM, _GAP, _HEAD = 0.6, 0.42, 0.62, 0.12, 0.3  # inches


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Labels of episodes.

    Attributes:
      kind: "modes" or "z".
      title: of a panel coloured by them.
      labels: [B] int; -1 for none.
      count: of labels that there can be.
      names: of them.
    """

    kind: str
    title: str
    labels: np.ndarray
    count: int
    names: Sequence[str]


def labelled(spec: EnvSpec, rollouts: Rollouts, num_z: int) -> list[Labelled]:
    """The labels of episodes: their modes, and their commands where there are several."""
    found = [Labelled("modes", "by mode", np.asarray(rollouts.mode), spec.num_modes, spec.mode_labels)]
    if num_z > 1:
        names = [f"z {index}" for index in range(num_z)]
        found.append(Labelled("z", "by command z", np.asarray(rollouts.z), num_z, names))
    return found


def multiples(
    env: Any,
    lines: Sequence[np.ndarray],
    success: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    window: tuple[np.ndarray, np.ndarray],
) -> Figure:
    """A panel for each label that occurs, at most `MOST_PANELS` spread evenly over them; the other paths faint.

    Args:
      env: draws its scene where it has `draw(ax)`.
      lines: P paths.
      success: [P] bool; failures are dashed, with a cross where they ended.
      labels: [P] int; -1 for none.
      names: of the labels.
      window: lower and upper corner of what is shown.
    """
    seen = np.unique(labels[labels >= 0])
    chosen = [int(seen[i]) for i in spread_indices(len(seen), MOST_PANELS)] if len(seen) else []
    width, height = window[1] - window[0]
    columns = min(_COLUMNS, max(len(chosen), 1))
    rows = max(math.ceil(len(chosen) / columns), 1)
    side = _SIDE if len(chosen) > 3 else 2 * _SIDE
    across, down = side * min(1.0, width / height), side * min(1.0, height / width)
    wide, high = max((across + _GAP) * columns + _LEFT, 5.0), (down + _HEAD) * rows + _TOP + _BOTTOM
    figure = style.new_figure(wide, high)
    figure.set_layout_engine("none")  # what every panel holds is known, and measuring it takes a second
    for number, label in enumerate(chosen):
        row, column = divmod(number, columns)
        corner = (_LEFT + column * (across + _GAP), high - _TOP - (row + 1) * (down + _HEAD))
        ax = figure.add_axes((corner[0] / wide, corner[1] / high, across / wide, down / high))
        own = labels == label
        _panel(ax, env, lines, success, own, window)
        won = f"{int((own & success).sum())} of {own.sum()}" if not success[own].all() else f"{own.sum()}"
        style.dress(ax, f"{names[label]}  ({won})")
        ax.title.set_fontsize(8)
        ax.tick_params(labelsize=6.5, labelleft=column == 0, labelbottom=number + columns >= len(chosen))
        first = column == 0 and row == rows - 1
        ax.set_xlabel((ax.get_xlabel() or "x") if first else "", fontsize=8)
        ax.set_ylabel((ax.get_ylabel() or "y") if first else "", fontsize=8)
    return figure


def _panel(
    ax: Axes,
    env: Any,
    lines: Sequence[np.ndarray],
    success: np.ndarray,
    own: np.ndarray,
    window: tuple[np.ndarray, np.ndarray],
) -> None:
    if isinstance(env, HasDraw):
        env.draw(ax)
    groups = (
        (~own & (np.arange(len(own)) < _FAINT), style.FAINT, 0.4, "-", 2.2),
        (own & ~success, style.FAILED, 0.8, "--", 2.5),
        (own & success, style.HUES[0], 0.9, "-", 3.0),
    )
    for which, colour, width, kind, order in groups:
        drawn = [lines[i] for i in np.flatnonzero(which).tolist()]
        ax.add_collection(
            LineCollection(drawn, colors=colour, linewidths=width, linestyles=kind, zorder=order, alpha=0.75)
        )
    ends = np.array([lines[i][-1] for i in np.flatnonzero(own & ~success).tolist()]).reshape(-1, 2)
    ax.scatter(ends[:, 0], ends[:, 1], marker="x", s=10, linewidths=0.8, color=style.INK, zorder=4)
    (x0, y0), (x1, y1) = window
    ax.set(xlim=(x0, x1), ylim=(y0, y1))
    ax.set_aspect("equal", adjustable="box")
