"""The parts of a run's page that are words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from mmbc_jax.report import commands, differences, run_report_lines, style, table
from mmbc_jax.report.quantities import unit_of
from mmbc_jax.report.web import markup
from mmbc_jax.runs.sections import neutral
from mmbc_jax.runs.workdir import changed

_SEPARATION = (
    ("modes", "modes at one observation, on average"),
    ("modes_max", "most modes at one observation"),
    ("multimodal", "share of observations with two or more"),
    ("delta_min", "distance of the two nearest modes there (normalised actions)"),
    ("spread", "spread within one mode (normalised actions)"),
    ("ratio", "separation: distance over spread"),
)


def glance(found: Mapping[str, Any]) -> str:
    """What each stage does, in a sentence each."""
    return markup.paragraphs(_sentences(found))


def _sentences(found: Mapping[str, Any]) -> Iterator[str]:
    stages = found["stages"]
    for name, stage in stages.items():
        success = stage.get("success_rate") or {}
        if success.get("mean") is None:
            held_out = (stage.get("offline/loss") or {}).get("mean")
            if held_out is not None:
                yield f"{name}: loss on held-out episodes {held_out:.3g}."
            continue
        parts = [f"{name} succeeds in {style.interval(success)} of episodes"]
        kept = (stage.get("modes_kept") or {}).get("mean")
        shares = (stage.get("mode_share") or {}).get("per_seed") or []
        modes = next((len(one) for one in shares if one), 0)
        if kept is not None and modes:
            effective = (stage.get("exp_entropy") or {}).get("mean")
            parts.append(
                f"keeps {style.number(kept, 1)} of {modes} modes (as even as {style.number(effective, 1)})"
            )
        commands_ = len(commands.given(stage, 0))
        answer = (stage.get("commandable") or {}).get("mean")
        if commands_ > 1 and answer is not None:
            parts.append(f"{style.number(answer, 1)} modes answer to one of {commands_} commands z")
        yield ", ".join(parts) + "."


def results(found: Mapping[str, Any]) -> str:
    """The table of stages, every figure with its interval folded below it."""
    if not found["run"]["env"]:
        return _everything(found, opened=True)
    rows = table.rows(found)
    cells = [[row.cells[0].strip(), *row.cells[1:]] for row in rows]
    classes = ["detail" if row.detail else "" for row in rows]
    main = markup.table(table.headings(), cells, classes)
    return main + f'<p class="note">{markup.escaped(table.caption(found))}</p>' + _everything(found)


def _everything(found: Mapping[str, Any], opened: bool = False) -> str:
    rows = []
    for point in found["points"]:
        label = table.point_label(point["values"])
        for name, stage in point["stages"].items():
            where = ", ".join(filter(None, (name, label)))
            for metric, entry in stage.items():
                if isinstance(entry, Mapping) and isinstance(entry.get("mean"), (int, float)):
                    rows.append(
                        [where, metric, style.interval(entry, 4), unit_of(metric), str(entry.get("n", ""))]
                    )
    listed = markup.table(
        ("stage", "figure", "mean [95 %]", "unit", "episodes"), dict.fromkeys(map(tuple, rows))
    )
    return markup.folded("Every figure with its interval", listed, opened)


def verdicts(found: Mapping[str, Any]) -> str:
    """What instruments concluded, what seeds agree on, paired differences, and what diverged."""
    judged = run_report_lines.verdicts(found)
    lines = [
        *judged,
        *commands.lines(found),
        *differences.lines(found["run"].get("paired", [])),
        *run_report_lines.stopped(found),
    ]
    if not judged:
        lines.append(
            "No mechanism was asked for: --config.diagnostics=all measures what breaks a policy and says which it is."
        )
    return markup.paragraphs(lines)


def data(found: Mapping[str, Any]) -> str:
    """Where the demonstrations come from, and how far apart their modes are."""
    facts = found["run"].get("data") or {}
    if not facts:
        return ""
    rows = [
        [name.replace("_", " "), str(facts[name])]
        for name in ("source", "episodes", "steps", "windows", "held_out_windows", "labelled_modes")
        if name in facts
    ]
    for prefix, how in (("separation/", "found by clustering"), ("separation/label_", "by their labels")):
        rows += [
            [f"{text}, {how}", style.number(facts[prefix + name], 3)]
            for name, text in _SEPARATION
            if isinstance(facts.get(prefix + name), (int, float))
        ]
    return markup.table((), rows, kind="facts") + markup.paragraphs(facts.get("notes") or ())


def configuration(config: ConfigDict) -> str:
    """The fields that differ from the neutral configuration with the same plug-ins."""
    base, own = neutral(config).to_dict(), config.to_dict()
    changes = changed(base, own)
    rows = [[field, _value(was), _value(now)] for field, was, now in changes]
    return markup.table(("field", "neutral", "here"), rows, kind="facts")


def _value(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def costs(found: Mapping[str, Any]) -> str:
    """Time and steps of each stage, the device and the versions."""
    run = found["run"]
    rows = [
        [
            name,
            f"{one['wall_s']:.1f}",
            f"{one['compile_s']:.1f}",
            f"{one['env_steps']:,}",
            f"{one['train_steps']:,}",
            str(one["runs"]),
        ]
        for name, one in run["timings"].items()
    ]
    heads = ("stage", "training and evaluation, s", "compiling, s", "environment steps", "updates", "runs")
    device = run["device"]
    facts = [
        ["whole process", f"{run['process_seconds']:.0f} s"] if "process_seconds" in run else [],
        ["peak memory", f"{run['peak_host_bytes'] / 2**30:.2f} GiB"],
        [
            "device",
            f"{device['count']} x {device['kind']} ({device['platform']}), {device['cpu_cores']} CPU cores",
        ],
        ["networks in", str(run["precision"])],
        ["seeds", ", ".join(map(str, run["seeds"]))],
        ["versions", ", ".join(f"{name} {number}" for name, number in run["versions"].items() if number)],
    ]
    return markup.table(heads, rows) + markup.table((), [row for row in facts if row], kind="facts")


def command(found: Mapping[str, Any]) -> str:
    """The command line that made the run."""
    return f"<pre>{markup.escaped(found['run'].get('command', ''))}</pre>"
