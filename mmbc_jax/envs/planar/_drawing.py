"""Outlines of boxes on matplotlib axes."""

from __future__ import annotations

from typing import Any

import numpy as np


def outlined(
    ax: Any,
    centre: tuple[float, float],
    half: tuple[float, float],
    colour: str,
    style: str = "-",
    turn: float = 0.0,
) -> None:
    """The outline of a box of half sides `half` about `centre`, turned by `turn` rad, in the units of the axes."""
    x, y = half[0] * np.array([-1, 1, 1, -1, -1]), half[1] * np.array([-1, -1, 1, 1, -1])
    c, s = np.cos(turn), np.sin(turn)
    ax.plot(centre[0] + c * x - s * y, centre[1] + s * x + c * y, style, color=colour, lw=1.2, zorder=0)
