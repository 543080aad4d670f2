"""One table for the end of a run: stages (and sweep points) down, what matters across."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mmbc_jax.diagnostics.domains import SHIFTS
from mmbc_jax.diagnostics.strengths import OF

WIDTH = 118
NARROW = 60  # columns of a terminal that the table is made for, in blocks below each other
_STAGE_WIDTH = 24

MAX_SEEDS = 5  # with more seeds, their lowest and highest values stand in for them

# (metric, heading, decimals; 0 for counts, which get one decimal where they are not whole; below 0 for any size)
COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("mean_reward", "return", -1),
    ("modes_kept", "modes kept", 0),
    ("exp_entropy", "exp H", 2),
    ("mode_entropy", "mode entr.", 2),
    ("mi_estimate", "MI bound", 2),
    ("mi_z_mode", "I(z; mode)", 2),
    ("commandable", "comm. modes", 0),
    ("sr_m", "SR_M", 2),
    ("mc_08", "mc @0.8", 2),
)
_DIGITS = (3, *(places for _, _, places in COLUMNS))
CAPTION = (
    "SR: success rate [95 % interval, over seeds where there are several], – where a task defines none. Return: the "
    "rewards of an episode. Means over seeds; indented rows are single seeds. Modes, entropies and I(z; mode) are "
    "over successful episodes; information in nats, mode entropy to base K; comm. modes: modes that some z commands. "
    "SR_M and mc: .1–.9 where it is unknown which modes the failures attempted: the least and the most that they "
    "allow."
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      cells: texts, one per heading.
      detail: True for the indented lines below a stage that show its seeds.
    """

    cells: list[str]
    detail: bool = False


def _value(value: float | None, digits: int) -> str:
    """A number with fixed decimals; a count without them where it is whole; an en dash for None.

    Below 0 `digits` stand for three significant ones, and for whole numbers from a thousand on.
    """
    if value is None or not math.isfinite(value):
        return "–"
    if digits < 0:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if digits:
        return f"{value:.{digits}f}"
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}"


def _bounds(pairs: Sequence[Any]) -> str:
    """The mean of lowest and highest values, `.25–1`; an en dash where a seed has none."""
    if not pairs or any(pair is None for pair in pairs):
        return "–"
    ends = [sum(pair[side] for pair in pairs) / len(pairs) for side in (0, 1)]
    low, high = (f"{end:.2f}".removeprefix("0").removesuffix(".00") or "0" for end in ends)
    return f"{low}–{high}"


def _amount(value: float | None, unit: str) -> str:
    """Counts as 12k or 1.5M, seconds with at most one decimal; an en dash for None."""
    if value is None:
        return "–"
    if unit == "s":
        return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.0f}"


def _measured(entries: Mapping[str, Any]) -> list[Any]:
    """The entries of success and of `COLUMNS`."""
    return [entries.get(metric) or {} for metric in ("success_rate", *(metric for metric, _, _ in COLUMNS))]


def _known_bounds(entries: Mapping[str, Any]) -> list[Any]:
    """Bounds per seed of success, which needs none, and of `COLUMNS`; None where there are none."""
    return [None, *((entries.get(f"{metric}_bounds") or {}).get("per_seed") for metric, _, _ in COLUMNS)]


def _cells(entries: Mapping[str, Any]) -> list[str]:
    """Means of success, with its interval, and of `COLUMNS`; bounds where a figure is not known of every seed."""
    measured = _measured(entries)
    found = [_value(entry.get("mean"), places) for entry, places in zip(measured, _DIGITS, strict=True)]
    for place, pairs in enumerate(_known_bounds(entries)):
        if pairs and None in measured[place].get("per_seed", ()):
            found[place] = _bounds(pairs)
    if measured[0].get("ci95"):
        found[0] += " [{:.2f}, {:.2f}]".format(*measured[0]["ci95"])
    return found


def _stage_rows(
    name: str, stage: Mapping[str, Any], timing: Mapping[str, Any], named: Sequence[int]
) -> list[Row]:
    """The stage's means and those under shifts; with several seeds a line per seed, or lowest and highest."""
    cost = [_amount(timing.get("env_steps"), ""), _amount(timing.get("wall_s"), "s")]
    found = [Row([name, *_cells(stage), *cost])]
    for shift, entries in (stage.get(SHIFTS) or {}).items():
        if OF in shift:  # one of a sweep over strengths, which has a figure
            continue
        found.append(Row([f"  under {shift}", *_cells(entries), "", ""]))
    seeds = len((stage.get("success_rate") or {}).get("per_seed") or ())
    if seeds < 2:
        return found
    named = named if len(named) == seeds else range(seeds)
    bounds = _known_bounds(stage)
    values = [list(entry.get("per_seed") or [None] * seeds) for entry in _measured(stage)]
    lines: dict[str, list[Any]] = {
        f"  seed {seed}": [column[index] for column in values] for index, seed in enumerate(named)
    }
    if seeds <= MAX_SEEDS:
        for index, line in enumerate(lines.values()):
            for place, pairs in enumerate(bounds):
                if pairs and line[place] is None:
                    line[place] = _bounds(pairs[index : index + 1])
    else:
        known = [[value for value in column if value is not None] for column in values]
        lines = {
            f"  lowest of {seeds}": [min(column, default=None) for column in known],
            f"  highest of {seeds}": [max(column, default=None) for column in known],
        }
    for label, line in lines.items():
        cells = [
            value if isinstance(value, str) else _value(value, places)
            for value, places in zip(line, _DIGITS, strict=True)
        ]
        found.append(Row([label, *cells, "", ""], detail=True))
    return found


def point_label(values: Mapping[str, Any]) -> str:
    """`lam=0.3 noise=0.1` for a sweep point: last parts of the dotted fields, short numbers."""

    def short(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return " ".join(f"{key.rsplit('.', 1)[-1]}={short(value)}" for key, value in values.items())


def stage_label(name: str, values: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """How a stage is called in the table: what it is beside its name.

    Args:
      name: of the stage.
      values: of the sweep point, empty where all points share the row.
      run: facts of the run.

    Returns:
      For example `finetune, λ=0.5` or `plain, λ=0 |Z|=1`.
    """
    if name == "bc":
        what = "reference"
    elif name == "discover":
        what = "MI only"
    elif name == "plain":
        what = "λ=0 |Z|=1"
    elif name == "finetune" and "finetune.mi_coef" not in values and run.get("mi_coef") is not None:
        what = f"λ={run['mi_coef']:.4g}"
    else:
        what = ""
    return ", ".join(part for part in (name, what, point_label(values)) if part)


def rows(summary: Mapping[str, Any]) -> list[Row]:
    """The table's rows, stage by stage and, in a sweep, point by point within each stage.

    A stage whose metrics are equal in all points (it ran once, before the sweep) is one row.

    Args:
      summary: as from `report.summary.build_summary`.

    Returns:
      Rows with the cells name, SR, `COLUMNS`, environment steps, seconds.
    """
    run = summary.get("run") or {}
    timings = run.get("timings") or {}
    points = summary.get("points") or [{"values": {}, "stages": summary["stages"]}]
    seeds = run.get("seeds") or ()
    found: list[Row] = []
    for name in summary["stages"]:
        having = [point for point in points if name in point["stages"]]
        timing = timings.get(name) or {}
        if len(having) == 1 or all(point["stages"][name] == having[0]["stages"][name] for point in having):
            found += _stage_rows(stage_label(name, {}, run), having[0]["stages"][name], timing, seeds)
            continue
        for point in having:
            label = stage_label(name, point["values"], run)
            found += _stage_rows(label, point["stages"][name], timing, seeds)
    return found


def caption(summary: Mapping[str, Any]) -> str:
    """What the columns mean, and in which precision networks were computed where the summary says so."""
    precision = (summary.get("run") or {}).get("precision")
    return f"{CAPTION} Networks in {precision}." if precision else CAPTION


def headings() -> list[str]:
    """The column headings, in the order of `rows`."""
    return ["stage", "SR [95 %]", *(heading for _, heading, _ in COLUMNS), "env steps", "wall s"]


def table(summary: Mapping[str, Any]) -> Table:
    """The summary as one rich table; see `rows`."""
    whole = _block(rows(summary), range(1, len(headings())))
    whole.caption, whole.caption_justify = caption(summary), "left"
    return whole


def blocks(summary: Mapping[str, Any], width: int) -> list[Table | Text]:
    """The same as tables of at most `width` columns below each other, each with the names of the stages; the caption.

    Columns that say nothing in any row are left out, but for success. What nearly fits is set closer.
    """
    lines, titles = rows(summary), headings()
    told = [i for i in range(1, len(titles)) if i == 1 or any(row.cells[i] not in ("", "–") for row in lines)]
    note = Text(caption(summary), style="dim")
    close = _block(lines, told, gap=0)
    if _wide(close) <= width:
        whole = _block(lines, told)
        return [whole if _wide(whole) <= width else close, note]
    found: list[list[int]] = [[]]
    for column in told:
        if found[-1] and _wide(_block(lines, [*found[-1], column])) > width:
            found.append([])
        found[-1].append(column)
    return [*(_block(lines, columns) for columns in found), note]


def _wide(block: Table) -> int:
    """Columns that a table takes where there is room."""
    return Console(width=10 * WIDTH).measure(block).maximum


def _block(lines: list[Row], columns: Sequence[int], gap: int = 1) -> Table:
    """The names of the stages, and some of the columns, so far apart besides a divider of one column."""
    result = Table(box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0))
    result.add_column(headings()[0], justify="left", overflow="fold", max_width=_STAGE_WIDTH)
    for index in columns:
        heading = headings()[index]
        if index == 1:
            result.add_column(heading, justify="left", overflow="fold", max_width=_STAGE_WIDTH, no_wrap=True)
        else:
            result.add_column(heading.replace(" ", "\n", 1), justify="right", no_wrap=True)
    for row in lines:
        cells = (row.cells[0], *(row.cells[index] for index in columns))
        result.add_row(*(escape(cell) for cell in cells), style="dim" if row.detail else "")
    return result


def text(summary: Mapping[str, Any], width: int = WIDTH) -> str:
    """The table as plain text of at most `width` columns, for log files and tests."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, no_color=True, highlight=False)
    for block in blocks(summary, width):
        console.print(block)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def markdown(summary: Mapping[str, Any]) -> str:
    """The same rows as a table in GitHub's markdown, the caption below it."""
    lines = ["| " + " | ".join(headings()) + " |", "|---|" + "---:|" * (len(headings()) - 1)]
    for row in rows(summary):
        cells = [cell.replace("|", "\\|") for cell in row.cells]
        if row.detail:
            cells[0] = "&nbsp;&nbsp;" + cells[0].strip()
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", caption(summary), ""])
