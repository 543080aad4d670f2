"""The pages of peers, sweeps, starts and scaling, and the figure of the last."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.tables import Record, compared, milliseconds, peak, reached, table


def peer(result: Record) -> list[str]:
    """A row per comparison and contender, then in which way the sides differ."""
    rows, notes = [], {}
    for run in result["runs"]:
        for case in run["cases"]:
            notes[case["name"]] = case["not_the_same"]
            for name, seconds in case["seconds"].items():
                counted = "-"
                if case["counted"]:
                    what, amount = case["counted"]
                    counted = f"{amount / seconds['median']:,.0f} {what}"
                size = case["parameters"].get(name)
                rows.append(
                    [
                        str(run["cores"]),
                        case["name"],
                        name,
                        f"{size / 1e6:.3f}" if size else "-",
                        *compared(case, name),
                        counted,
                        reached(case, name),
                        f"{case['first_block_seconds'][name]:.1f}",
                    ]
                )
    header = ["cores", "work", "", "parameters [M]", "ms", "CPU ms", "ratio", "CPU ratio", "per second"]
    differs = [[name, note] for name, note in notes.items()]
    return [
        table([*header, "GFLOP/s (of peak)", "first block s"], rows),
        table(["work", "not the same"], differs),
    ]


def sweeps(result: Record) -> list[str]:
    """A step of all runs by width and contender."""
    rows = []
    for run in result["runs"]:
        for case in run["cases"]:
            for name in case["seconds"]:
                compiled = case["compiled"].get(name)
                rows.append(
                    [
                        *(
                            str(value)
                            for value in (run["cores"], case["width"], case["runs"], case["batch_size"])
                        ),
                        name,
                        *compared(case, name),
                        reached(case, name),
                        peak(case),
                        f"{compiled['compile_seconds']:.1f}" if compiled else "-",
                    ]
                )
    header = ["cores", "width", "runs", "batch", "", "ms/step of all", "CPU ms", "ratio", "CPU ratio"]
    return [table([*header, "GFLOP/s (of peak)", "peak GFLOP/s", "compile s"], rows)]


def deploy(result: Record) -> list[str]:
    """A row per network and way to a decision; then what was left out."""
    rows, left_out = [], []
    for run in result["runs"]:
        for case in run["cases"]:
            for name, calls in case["calls"].items():
                micro = [f"{1e6 * calls[quantile]:,.0f}" for quantile in ("p50", "p99")]
                size = f"{case['parameters'] / 1e6:.2f}"
                rows.append(
                    [str(run["cores"]), case["network"], size, name, *micro, *compared(case, name)[2:]]
                )
            left_out += [[case["network"], *reason] for reason in case["left_out"].items()]
    header = ["cores", "network", "parameters [M]", "a decision by", "p50 µs", "p99 µs", "ratio", "CPU ratio"]
    below = ["network", "left out", "because"]
    note = (
        "Ratios are over the bare transport. PyTorch eager has the same network; LeRobot has its own of about the "
        "same size, as the page of the peer `lerobot` describes, and `select_action` samples at every call. The 99th "
        "percentile is the scheduler's where other programs share the cores."
    )
    return [note, table(header, rows), *([table(below, left_out)] if left_out else [])]


def start(result: Record) -> list[str]:
    """Seconds, processor seconds and memory of a start, then of the complete job."""
    rows, jobs = [], []
    for run in result["runs"]:
        for case in run["cases"]:
            for name in case["seconds"]:
                figures = [case[key][name] for key in ("seconds", "cpu_seconds")]
                memory = case["peak_rss_bytes"][name]["median"] / 2**20
                cells = [f"{f['median']:.1f} [{f['q25']:.1f}, {f['q75']:.1f}]" for f in figures]
                rows.append([str(run["cores"]), name, *cells, f"{memory:,.0f}"])
        cells = [f"{run['job'][key]:.0f}" for key in ("seconds", "cpu_seconds")]
        jobs.append([str(run["cores"]), *cells, f"{run['memory']['peak_rss_bytes'] / 2**20:,.0f}"])
    return [
        table(["cores", "to the first update", "s", "CPU s", "peak RSS MiB"], rows),
        table(["cores", "complete job, s", "CPU s", "peak RSS MiB"], jobs),
    ]


def scaling(result: Record) -> list[str]:
    """The curves, a row per value of an axis, and the slopes."""
    rows, slopes = [], []
    for run in result["runs"]:
        for case in run["cases"]:
            where = [str(run["cores"]), case["axis"], case["program"]]
            for value in case["seconds"]:
                cells = [milliseconds(case[key][value]) for key in ("seconds", "cpu_seconds")]
                memory = f"{case['bytes'][value] / 2**20:,.1f}"
                rows.append([*where, value, *cells, memory, f"{case['compile_seconds'][value]:.1f}"])
            slopes.append([*where, *(f"{case['slopes'][key]:.2f}" for key in ("time", "memory"))])
    header = ["cores", "axis", "program", "value", "ms/step", "CPU ms/step", "memory MiB", "compile s"]
    return [
        "![time and memory against each axis](scaling.png)",
        table(["cores", "axis", "program", "slope of time", "slope of memory"], slopes),
        table(header, rows),
    ]


def _dress(panel: Any, values: list[int]) -> None:
    """Ticks at the measured values, figures as numbers and not as powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    plain = FuncFormatter(lambda x, _: f"{x:g}")
    panel.set_xticks(values, [str(value) for value in values])
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(plain)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_formatter(NullFormatter())
    panel.minorticks_off()


def _same_decades(panels: Any) -> None:
    """As many decades up in every panel of a row, so that slopes can be compared by eye."""
    ends = [panel.get_ylim() for panel in panels]
    half = max(math.log10(high / low) for low, high in ends) / 2
    for panel, (low, high) in zip(panels, ends, strict=True):
        middle = math.log10(low * high) / 2
        panel.set_ylim(10 ** (middle - half), 10 ** (middle + half))


def draw_scaling(result: Record, path: Path) -> None:
    """Time above, memory below, one column an axis, one line a number of cores; both axes logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    axes = [case["axis"] for case in result["runs"][0]["cases"]]
    figure = Figure(figsize=(3.0 * len(axes), 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(axes), squeeze=False)
    for run in result["runs"]:
        clock = "cpu_seconds" if run["cores"] == 1 else "seconds"
        for column, case in enumerate(run["cases"]):
            values = [int(value) for value in case["seconds"]]
            time = [1e3 * case[clock][str(value)]["median"] for value in values]
            memory = [case["bytes"][str(value)] / 2**20 for value in values]
            for row, (figures, kind) in enumerate(((time, "time"), (memory, "memory"))):
                label = f"{run['cores']} core(s), slope {case['slopes'][kind]:.2f}"
                panels[row, column].loglog(values, figures, marker="o", label=label)
    for column, axis in enumerate(axes):
        program = result["runs"][0]["cases"][column]["program"]
        panels[0, column].set_title(f"{program}: {axis}", fontsize=10)
        panels[1, column].set_xlabel(axis)
        for row in range(2):
            _dress(
                panels[row, column], [int(value) for value in result["runs"][0]["cases"][column]["seconds"]]
            )
    for row in range(2):
        _same_decades(panels[row])
    panels[0, 0].set_ylabel("ms a step (one core: processor time)")
    panels[1, 0].set_ylabel("MiB of the program")
    for panel in panels.flat:
        panel.legend(fontsize=7, frameon=False)
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120, metadata={"Software": None})


FIGURES: dict[str, Callable[[Record, Path], None]] = {"scaling": draw_scaling}
"""What is drawn beside a page, into `NAME.png`."""
