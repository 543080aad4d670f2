"""Line charts as SVG: a few kilobytes each, with ticks, units and what each dashed line means."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.ticker import LogLocator, MaxNLocator

from mmbc_jax.report.web.markup import drawing, label

WIDTH, HEIGHT = 330, 210
Place = Callable[[float], float]
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 34, 36
_MOST_DECADES = 4  # below the median that a logarithmic axis shows
_DECADES = 2  # that a positive quantity spans before its axis is logarithmic


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
      x: [T] ascending.
      mean: [T].
      low: [T] of its band; None for none.
      high: [T].
      colour: as matplotlib takes it.
      marked: with a dot at every point.
    """

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    colour: object = "#0072B2"
    marked: bool = False


def short(value: float, step: float = 0.0) -> str:
    """A number as a tick has room for: 2000 is 2k, 0.00003 is 3e-05; told apart from others `step` away."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}" if step >= 1e-3 * abs(value) or not step else f"{value:.7g}"
    digits = 3
    if step > 0 and value:
        digits = max(digits, 1 + math.floor(math.log10(abs(value))) - math.floor(math.log10(step)))
    return f"{value:.{min(digits, 7)}g}"


def spans_decades(low: float, high: float) -> bool:
    """Whether a quantity between two values is to be read on a logarithmic axis."""
    return low > 0 and high > 10**_DECADES * low


def chart(
    name: str,
    unit: str,
    lines: Sequence[Line],
    x_label: str,
    domain: tuple[float, float] | None = None,
    limits: Sequence[tuple[str, float]] = (),
) -> str:
    """One panel.

    Args:
      name: of the quantity, above the panel.
      unit: of it, below the name.
      lines: one or more, each with a finite value.
      x_label: what runs to the right, with its unit.
      domain: that the axis shows; None for what the values span.
      limits: (meaning, value) of dashed lines, said above the panel.
    """
    everything = np.concatenate(
        [np.ravel(v) for o in lines for v in (o.mean, o.low, o.high) if v is not None]
    )
    known = [*everything[np.isfinite(everything)].tolist(), *(value for _, value in limits)]
    low, high = min(known), max(known)
    logarithmic = domain is None and spans_decades(low, high)
    if logarithmic:  # a first value that is nearly nothing shall not take all of the room
        low = max(low, 10.0**-_MOST_DECADES * float(np.median(known)))
    xs = np.concatenate([one.x for one in lines])
    to_x, x_ticks = _axis(float(xs.min()), float(xs.max()), WIDTH, _LEFT, _RIGHT, False)
    if domain is not None:
        low, high = min(low, domain[0]), max(high, domain[1])
    to_y, y_ticks = _axis(low, high, HEIGHT, _BOTTOM, _TOP, logarithmic)
    parts = [label(4, 13, name, "start", "name")]
    told = [unit, "logarithmic" if logarithmic else "", *(f"dashed: {meaning}" for meaning, _ in limits)]
    parts.append(label(4, 26, "; ".join(filter(None, told)), "start"))
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    for tick in y_ticks:
        y = HEIGHT - to_y(tick)
        parts.append(f'<path class="rule" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(label(_LEFT - 4, y + 3, short(tick, _step(y_ticks, logarithmic)), "end"))
    for tick in x_ticks:
        parts.append(f'<path class="axis" d="M{to_x(tick):.1f} {bottom}v4"/>')
        parts.append(label(to_x(tick), bottom + 15, short(tick, _step(x_ticks, False))))
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>')
    parts.append(label((_LEFT + right) / 2, HEIGHT - 6, x_label))
    parts += [_drawn(one, to_x, to_y, logarithmic) for one in lines]
    for _, value in limits:
        parts.append(f'<path class="limit" d="M{_LEFT} {HEIGHT - to_y(value):.1f}H{right}"/>')
    return drawing(WIDTH, HEIGHT, name, "".join(parts))


def _axis(
    low: float, high: float, size: int, before: int, after: int, logarithmic: bool
) -> tuple[Place, list[float]]:
    """(value to pixel, ticks) of an axis, with a little room at both ends."""
    if logarithmic:
        first, last = math.log10(low), math.log10(high)
        ticks = [t for t in LogLocator(numticks=5).tick_values(low, high) if low <= t <= high]
    else:
        if high - low < 1e-12 * max(abs(low), abs(high), 1e-12):
            low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
        first, last = low, high
        ticks = [t for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]
    room = 0.03 * (last - first)
    first, last = first - room, last + room

    def place(value: float) -> float:
        at = max(math.log10(max(value, 1e-300)), first) if logarithmic else value
        return before + (size - before - after) * (at - first) / (last - first)

    return place, [float(t) for t in ticks]


def _step(ticks: Sequence[float], logarithmic: bool) -> float:
    """Between ticks; 0 where they are told apart by their size."""
    return abs(ticks[1] - ticks[0]) if len(ticks) > 1 and not logarithmic else 0.0


def _drawn(line: Line, to_x: Place, to_y: Place, positive: bool) -> str:
    colour = to_hex(line.colour)  # type: ignore[arg-type]
    there = np.isfinite(line.mean) & ((line.mean > 0) | (not positive))
    x = [to_x(v) for v in line.x[there]]
    mean = [HEIGHT - to_y(v) for v in line.mean[there]]
    parts = []
    if line.low is not None and line.high is not None:
        floor = float(np.nanmin(line.mean)) if positive else -math.inf
        up = [HEIGHT - to_y(v) for v in line.high[there]]
        down = [HEIGHT - to_y(max(float(v), floor) if positive and v <= 0 else v) for v in line.low[there]]
        outline = _points(x + x[::-1], up + down[::-1])
        parts.append(f'<polygon points="{outline}" fill="{colour}" fill-opacity=".18"/>')
    parts.append(
        f'<polyline points="{_points(x, mean)}" fill="none" stroke="{colour}" stroke-width="1.5" '
        'stroke-linejoin="round"/>'
    )
    if line.marked or len(x) < 12:
        parts += [
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.3" fill="{colour}"/>'
            for a, b in zip(x, mean, strict=True)
        ]
    return "".join(parts)


def _points(x: Sequence[float], y: Sequence[float]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
