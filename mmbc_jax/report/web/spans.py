"""Means with their intervals, a line each, as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from mmbc_jax.report.web.charts import short
from mmbc_jax.report.web.markup import drawing, label

_LONGEST = 26  # characters of a label
_WIDTH, _ROW, _TOP, _BOTTOM, _RIGHT = 380, 24, 34, 26, 14


def spans(
    name: str,
    unit: str,
    rows: Sequence[tuple[str, float, Sequence[float] | None, str]],
    domain: tuple[float, float] | None = None,
    zero: bool = False,
) -> str:
    """One panel.

    Args:
      name: of the quantity.
      unit: of it.
      rows: (label, mean, interval or None, colour as CSS takes it).
      domain: that the axis shows; None for what the intervals span.
      zero: a dashed line at 0, which means no difference.
    """
    values = [v for _, mean, ends, _ in rows for v in (mean, *(ends or ()))]
    low, high = domain or (min(values), max(values))
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = 0.04 * (high - low) or 0.5
    low, high = low - room, high + room
    left = 12 + 6.4 * min(max(len(text) for text, *_ in rows), _LONGEST)
    bottom = _TOP + _ROW * len(rows)

    def at(value: float) -> float:
        return left + (_WIDTH - left - _RIGHT) * (value - low) / (high - low)

    told = f"{unit}; dashed: no difference" if zero else unit
    parts = [label(4, 13, name, "start", "name"), label(4, 26, told, "start")]
    parts.append(f'<path class="axis" d="M{left:.1f} {bottom}H{_WIDTH - _RIGHT}"/>')
    for tick in (t for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high):
        parts.append(f'<path class="rule" d="M{at(tick):.1f} {_TOP}V{bottom}"/>')
        parts.append(label(at(tick), bottom + 15, short(float(tick))))
    if zero:
        parts.append(f'<path class="limit" d="M{at(0.0):.1f} {_TOP}V{bottom}"/>')
    for number, (text, mean, ends, colour) in enumerate(rows):
        y = _TOP + _ROW * (number + 0.5)
        shown = text if len(text) <= _LONGEST else text[: _LONGEST - 2] + "…"
        parts.append(label(left - 8, y + 4, shown, "end", "entry"))
        if ends is not None:
            bar = f"M{at(ends[0]):.1f} {y}H{at(ends[1]):.1f}"
            parts.append(f'<path d="{bar}" stroke="{colour}" stroke-width="2.5" fill="none"/>')
        parts.append(f'<circle cx="{at(mean):.1f}" cy="{y}" r="4.5" fill="{colour}"/>')
    return drawing(_WIDTH, bottom + _BOTTOM, name, "".join(parts))
