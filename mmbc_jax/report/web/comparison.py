"""The page that compares runs: stage by stage, with paired differences where they have seeds in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.colors import to_hex

from mmbc_jax.core.files import write_atomic
from mmbc_jax.report import differences, quantities, style
from mmbc_jax.report.figures.learning_curves import metric_names, over_seeds, series
from mmbc_jax.report.finished import Finished
from mmbc_jax.report.web import markup, run_sections
from mmbc_jax.report.web.charts import Line, chart
from mmbc_jax.report.web.explorer import explorer
from mmbc_jax.report.web.spans import spans
from mmbc_jax.runs.workdir import changed

SHOWN = tuple(differences.PAIRED)
_SAME_STARTS = ("env", "evaluation", "chunk", "data")
"""Sections that settle from which states the episodes of an evaluation start, and which z each has."""
LINKS = (
    ("stages", "figures"),
    ("differences", "differences"),
    ("curves", "learning curves"),
    ("settings", "settings"),
    ("episodes", "episodes"),
    ("costs", "costs"),
)


@dataclasses.dataclass(frozen=True)
class Named:
    """A run with its name on the page.

    Attributes:
      name: of its work directory, told apart from the others.
      run: what it found.
      colour: of it, as CSS takes it.
    """

    name: str
    run: Finished
    colour: str


def write(path: Path, names: Sequence[str], runs: Sequence[Finished]) -> Path:
    """Writes the page that compares finished runs, the first of which is what the others are compared with."""
    shades = style.palette(len(runs))
    told = [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]
    named = [Named(n, r, to_hex(c)) for n, r, c in zip(told, runs, shades, strict=True)]
    stages = list(dict.fromkeys(stage for run in runs for stage in run.results))
    body = "".join((
        _key(named),
        markup.section("Stages", "".join(_stage(stage, named) for stage in stages), "stages"),
        markup.section(f"Differences from {named[0].name}", _differences(stages, named), "differences"),
        markup.section("Learning curves", "".join(_curves(stage, named) for stage in stages), "curves"),
        markup.section("Settings that differ", _settings(named), "settings"),
        markup.section("Episodes", "".join(_episodes(named)), "episodes"),
        markup.section("Costs and commands", "".join(_costs(named)), "costs"),
    ))  # fmt: skip
    text = markup.document(f"{len(runs)} runs: {', '.join(told)}", body, LINKS)
    write_atomic(path, lambda file: file.write(text.encode()))
    return path


def _key(runs: Sequence[Named]) -> str:
    entries = "".join(
        f'<span><i style="background:{one.colour}"></i>{markup.escaped(one.name)}</span>' for one in runs
    )
    return f'<div class="key">{entries}</div>'


def _entries(stage: str, metric: str, runs: Sequence[Named]) -> list[tuple[Named, Mapping[str, Any]]]:
    found = [(one, one.run.found["stages"].get(stage, {}).get(metric) or {}) for one in runs]
    return [(one, entry) for one, entry in found if entry.get("mean") is not None]


def _stage(stage: str, runs: Sequence[Named]) -> str:
    """The main figures of a stage: intervals beside each other, then the numbers."""
    panels, rows = [], []
    for metric in SHOWN:
        known = _entries(stage, metric, runs)
        if not known:
            continue
        lines = [(one.name, entry["mean"], entry.get("ci95"), one.colour) for one, entry in known]
        domain = (0.0, 1.0) if quantities.is_share(metric) else None
        panels.append(f"<figure>{spans(metric, quantities.unit_of(metric), lines, domain)}</figure>")
        texts = {one.name: style.interval(entry, 3) for one, entry in known}
        rows.append([metric, quantities.unit_of(metric), *(texts.get(one.name, "–") for one in runs)])
    if not panels:
        return ""
    table = markup.table((stage, "unit", *(one.name for one in runs)), rows)
    return f'<h3>{markup.escaped(stage)}</h3><div class="tiles large">{"".join(panels)}</div>{table}'


def _differences(stages: Sequence[str], runs: Sequence[Named]) -> str:
    first, parts, notes = runs[0], [], []
    for stage in stages:
        lines: dict[str, list[Any]] = {}
        for other in runs[1:]:
            found, how = _paired(stage, first.run, other.run)
            notes += [f"{stage}, {other.name}: {how}"] if how else []
            for entry in found:
                lines.setdefault(entry["figure"], []).append((other, entry))
        panels = []
        for metric, entries in lines.items():
            shown = [(one.name, e["mean"], e["ci95"], one.colour) for one, e in entries]
            panels.append(
                f"<figure>{spans(metric, f'difference, {quantities.unit_of(metric)}', shown, zero=True)}</figure>"
            )
        if panels:
            rows = [
                [metric, one.name, style.interval(entry, 3), _over(entry)]
                for metric, entries in lines.items()
                for one, entry in entries
            ]
            table = markup.table((stage, "run", f"minus {first.name} [95 %]", "paired over"), rows)
            parts.append(
                f'<h3>{markup.escaped(stage)}</h3><div class="tiles large">{"".join(panels)}</div>{table}'
            )
    return "".join(parts) + markup.paragraphs(notes)


def _over(entry: Mapping[str, Any]) -> str:
    if entry["episodes"]:
        return f"{entry['episodes']} episodes of 1 seed"
    return f"{entry['seeds']} seeds" if entry["ci95"] else "1 seed, no pairs of episodes: no interval"


def _paired(stage: str, a: Finished, b: Finished) -> tuple[list[dict[str, Any]], str]:
    """The differences of two runs in a stage, and in words why there are none."""
    if stage not in a.results or stage not in b.results:
        return [], "only one of them has this stage"
    if a.found["run"]["env"] != b.found["run"]["env"]:
        return [], "other tasks, so nothing is compared"
    ours, theirs = a.found["run"]["seeds"], b.found["run"]["seeds"]
    common = [(ours.index(seed), theirs.index(seed)) for seed in ours if seed in theirs]
    if not common:
        return [], f"no seed in common ({ours} and {theirs}), so nothing is paired"
    same = all(a.setup.config[one].to_dict() == b.setup.config[one].to_dict() for one in _SAME_STARTS)
    return differences.between_runs(a.results[stage], b.results[stage], common, same), ""


def _curves(stage: str, runs: Sequence[Named]) -> str:
    rows = {one.name: [r for r in one.run.rows if r["stage"] == stage] for one in runs}
    names = metric_names([row for own in rows.values() for row in own], 6)
    panels = []
    for name in names:
        lines = []
        for one in runs:
            found = series(rows[one.name], name)
            if not found:
                continue
            steps, values = next(iter(found.values()))
            mean, low, high = over_seeds(values)
            band = values.shape[0] > 1
            lines.append(Line(steps, mean, low if band else None, high if band else None, one.colour))
        if lines:
            domain = (0.0, 1.0) if quantities.is_share(name) else None
            made = chart(name, quantities.unit_of(name), lines, quantities.step_of(stage), domain)
            panels.append(f"<figure>{made}</figure>")
    return f'<h3>{markup.escaped(stage)}</h3><div class="tiles">{"".join(panels)}</div>' if panels else ""


def _settings(runs: Sequence[Named]) -> str:
    configs = [one.run.setup.config.to_dict() for one in runs]
    fields = sorted({field for other in configs[1:] for field, _, _ in changed(configs[0], other)})
    rows = [[field, *(_at(config, field) for config in configs)] for field in fields]
    if not rows:
        return markup.paragraphs(["None: the runs have one configuration."])
    return markup.table(("field", *(one.name for one in runs)), rows, kind="facts")


def _at(config: Any, field: str) -> str:
    for part in field.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return "–" if config is None else str(config)


def _episodes(runs: Sequence[Named]) -> Iterator[str]:
    for number, one in enumerate(runs):
        yield markup.folded(one.name, explorer(one.run, name=f"episodes{number}"), opened=len(runs) < 4)


def _costs(runs: Sequence[Named]) -> Iterator[str]:
    for one in runs:
        yield markup.folded(one.name, run_sections.costs(one.run.found) + run_sections.command(one.run.found))
