"""Cells and tables of the pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; every row must be as long as the header."""
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"rows of {sorted({len(row) for row in rows})} cells under {len(header)} headings")
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def milliseconds(spread: Record) -> str:
    """Median [quartiles] in ms."""
    low, median, high = (1e3 * spread[key] for key in ("q25", "median", "q75"))
    digits = 3 if median < 1 else 2 if median < 100 else 0
    return f"{median:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def ratio(spread: Record) -> str:
    """Median [quartiles] of a ratio."""
    return f"{spread['median']:.2f} [{spread['q25']:.2f}, {spread['q75']:.2f}]"


def reached(case: Record, name: str) -> str:
    """GFLOP/s and the share of peak of one contender; "-" where its products were not counted."""
    if name not in case["gflops"]:
        return "-"
    rate, share = (case[key][name]["median"] for key in ("gflops", "share_of_peak"))
    return f"{rate:.0f} ({100 * share:.0f} %)"


def peak(case: Record) -> str:
    """Median [quartiles] of the peak over the rounds of a case, GFLOP/s."""
    low, median, high = (case["peak_gflops"][key] for key in ("q25", "median", "q75"))
    return f"{median:.0f} [{low:.0f}, {high:.0f}]"


def compared(case: Record, name: str) -> list[str]:
    """Time, processor time and both ratios of one contender."""
    ratios = [ratio(case[key][name]) if name in case[key] else "" for key in ("ratio", "cpu_ratio")]
    return [milliseconds(case["seconds"][name]), milliseconds(case["cpu_seconds"][name]), *ratios]
