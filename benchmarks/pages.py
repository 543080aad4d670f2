"""The pages of the peers."""

from __future__ import annotations

from benchmarks.tables import Record, compared, reached, table


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
