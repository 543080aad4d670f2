"""What -1 and 1 stand for in a policy: the environment's box, or what the demonstrations fill of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

SCALES = ("auto", "data", "box", "quantile", "mean_std")
FILLED = 0.2  # share of the box's width below which `auto` takes the data's range
LEAST_OF_BOX = 1e-3  # narrowest range of a column, as a share of the box's width
NEARLY_CONSTANT = 1e-2  # the same as a share of the column's largest magnitude, where no box says more
ROUNDING = 4.0 * float(np.finfo(np.float32).eps)  # a range below this share of the magnitude is none
_TAIL = 0.01


@dataclasses.dataclass(frozen=True)
class ActionScale:
    """The scale of actions, column by column; arrays are [A] float32, physical units.

    Attributes:
      rule: the one of `SCALES` that was asked for.
      low: action that -1 stands for in a policy.
      high: action that 1 stands for.
      box_low: action that -1 stands for in the environment; the policy's where it has no bound.
      box_high: action that 1 stands for there.
      filled: [A] share of the box's width that the actions fill; NaN where there is no box.
      own: [A] bool, columns whose scale is not the box's though there is one.
    """

    rule: str
    low: np.ndarray
    high: np.ndarray
    box_low: np.ndarray
    box_high: np.ndarray
    filled: np.ndarray
    own: np.ndarray

    @property
    def lines(self) -> tuple[str, ...]:
        """The sentence where something else was chosen than the bounds that an environment has anyway."""
        usual = not self.own.any() and (bool(np.isfinite(self.filled).any()) or self.rule == "auto")
        return () if usual else (self.line,)

    @property
    def line(self) -> str:
        """What was chosen, in a sentence."""
        boxed = np.isfinite(self.filled)
        if not boxed.any():
            return f"actions: -1 and 1 are the ends of what the data say (data.scale={self.rule})"
        if not self.own.any():
            least = _percent(np.nanmin(self.filled))
            return (
                f"actions: -1 and 1 are the environment's bounds, of which the data fill {least} or more "
                f"(data.scale={self.rule})"
            )
        columns = np.flatnonzero(self.own)
        shares = ", ".join(f"{i}: {_percent(self.filled[i])}" for i in columns[:8])
        more = f" and {len(columns) - 8} more" if len(columns) > 8 else ""
        return (
            f"actions: -1 and 1 are the data's own in the columns {shares}{more} of the environment's bounds "
            f"(data.scale={self.rule})"
        )

    def facts(self) -> dict[str, Any]:
        """In JSON's own types."""
        filled = [round(float(x), 6) if np.isfinite(x) else None for x in self.filled]
        bounds = {"low": self.low.tolist(), "high": self.high.tolist()}
        return {"rule": self.rule, **bounds, "filled": filled, "own": np.flatnonzero(self.own).tolist()}


def action_scale(action: np.ndarray, low: np.ndarray, high: np.ndarray, rule: str) -> ActionScale:
    """The scale of actions.

    - `box`: the environment's bounds, and the data's smallest and largest value where it has none;
    - `data`: the smallest and largest value of every column;
    - `quantile`: the 1 % and 99 % quantile; `mean_std`: the mean less and plus a standard deviation. Where either
      is no wider than the least range below, though the column varies, the smallest and largest value;
    - `auto`: the box, and `data` in columns where the data fill less than a fifth of it.

    No range is narrower than a thousandth of the box's width, or without a box than a hundredth of the column's
    largest magnitude, so that what hardly varies is not blown up; a constant column keeps the box.

    Args:
      action: [n, A], n > 0.
      low: [A] bounds of the environment, infinite where there are none.
      high: [A] the same above.
      rule: one of `SCALES`.
    """
    rows = np.asarray(action, np.float64)
    least_value, largest = rows.min(0), rows.max(0)
    box_low, box_high = (
        np.where(np.isfinite(low), low, least_value),
        np.where(np.isfinite(high), high, largest),
    )
    boxed = np.isfinite(low) & np.isfinite(high)
    width = np.where(boxed, box_high - box_low, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        filled = (largest - least_value) / width
    varies = largest - least_value > 2.0 * ROUNDING * np.maximum(np.abs(least_value), np.abs(largest))
    own = varies & (~boxed if rule == "box" else ~(filled >= FILLED) if rule == "auto" else True)

    def least(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.where(boxed, LEAST_OF_BOX * width, NEARLY_CONSTANT * np.maximum(np.abs(low), np.abs(high)))

    low, high = (box_low, box_high) if rule == "box" else _ends(rows, rule)
    flat = high - low <= least(low, high)
    low, high = np.where(flat, least_value, low), np.where(flat, largest, high)
    wide = widened(low, high, least(low, high))
    chosen = np.where(own, wide, (box_low, box_high)).astype(np.float32)
    box = np.where(boxed, (box_low, box_high), chosen).astype(np.float32)
    return ActionScale(rule, chosen[0], chosen[1], box[0], box[1], filled, own & boxed)


def boxed(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Physical actions [..., A] as environments take them, -1 and 1 at their bounds [A]; beyond them not clipped."""
    return np.asarray(2.0 * (action - low) / (high - low) - 1.0)


def widened(low: np.ndarray, high: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) with ranges below `least` widened to it about their middle."""
    mid, narrow = low / 2 + high / 2, high - low < least
    return np.where(narrow, mid - least / 2, low), np.where(narrow, mid + least / 2, high)


def _ends(rows: np.ndarray, rule: str) -> tuple[np.ndarray, np.ndarray]:
    if rule == "quantile":
        low, high = np.quantile(rows, (_TAIL, 1.0 - _TAIL), axis=0)
        return low, high
    if rule == "mean_std":
        return rows.mean(0) - rows.std(0), rows.mean(0) + rows.std(0)
    return rows.min(0), rows.max(0)


def _percent(share: Any) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"
