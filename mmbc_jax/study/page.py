"""The report of studies: tables per seed with intervals, figures, claims with their evidence, and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmbc_jax.core.files import write_atomic, write_json
from mmbc_jax.report import style
from mmbc_jax.study.cells import told_together
from mmbc_jax.study.judging import Judged
from mmbc_jax.study.plan import Entry, Plot, Results, Study, tag_text, tags_text


def table(study: Study, results: Results) -> str:
    """The figures as a markdown table: a row per entry, each cell mean [interval] and, below it, the seeds."""
    tags = list(dict.fromkeys(name for entry in results.entries for name in entry.tags))
    lines = [
        "| " + " | ".join([*tags, *(heading for _, heading, _ in study.columns)]) + " |",
        "|" + "---|" * len(tags) + "---:|" * len(study.columns),
    ]
    for entry in results.entries:
        cells = [tag_text(entry.tags.get(name)) for name in tags]
        for metric, _, digits in study.columns:
            cells.append(_cell(entry, metric, digits))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdicts(results: Results) -> list[str]:
    """The verdict on the first seed of each entry, and how the seeds vote."""
    found = []
    for entry in results.entries:
        judged = [v for v in (entry.metrics.get("verdict") or {}).get("per_seed", []) if v]
        if judged:
            names = [v["mechanism"] for v in judged]
            votes = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
            where = tags_text(entry.tags)
            found.append(f"- **{where}** ({votes}): {judged[0]['text']}")
    return found


def figure(plot: Plot, results: Results, title: str) -> Any:
    """A metric over a tag, a line per value of another, with 95 % intervals over seeds, L and beta in the legend."""
    drawing = style.new_figure(6.4, 4.0)
    axes = drawing.add_subplot()
    chosen = results.where(**plot.where)
    names = chosen.tag(plot.lines)
    for name, stroke in zip(names, style.strokes(len(names)), strict=True):
        own = chosen.where(**{plot.lines: name})
        xs = sorted(x for x in own.tag(plot.x) if np.isfinite(own.where(**{plot.x: x}).mean(plot.metric)))
        if not xs:
            continue
        values = [own.where(**{plot.x: x}).values(plot.metric) for x in xs]
        means = np.array([v.mean() for v in values])
        at = [own.where(**{plot.x: x}) for x in xs]
        spans = [
            one.span(plot.metric) if len(v) > 1 else (m, m)
            for one, v, m in zip(at, values, means, strict=True)
        ]
        low, high = (np.array(side) for side in zip(*spans, strict=True))
        axes.plot(xs, means, **stroke, markersize=4.5, linewidth=1.3, label=_legend(plot, name, own))
        if len(xs) > 1:
            axes.fill_between(xs, low, high, color=stroke["color"], alpha=0.15, linewidth=0)
    for label, value in plot.reference.items():
        axes.axhline(value, color=style.MUTED, linewidth=0.9, linestyle="--")
        axes.annotate(label, (0.01, value), xycoords=("axes fraction", "data"), fontsize=7, va="bottom")
    ticks = sorted(chosen.tag(plot.x))
    if plot.log_x:
        axes.set_xscale("symlog" if min(ticks, default=1) <= 0 else "log")
    axes.set_xticks(ticks, [tag_text(x) for x in ticks])
    axes.minorticks_off()
    axes.set(xlabel=plot.x, ylabel=plot.label)
    style.dress(axes, title, "y")
    drawing.legend(loc="outside lower left", fontsize=7, frameon=False, ncols=3)
    return drawing


def _legend(plot: Plot, name: Any, own: Results) -> str:
    """The name of a line, with the range of its sampled Lipschitz constants (over K and seeds) and its beta."""
    parts = [name if isinstance(name, str) else f"{plot.lines} = {tag_text(name)}"]
    steep = own.values("capacity/lipschitz")
    if steep.size:
        parts.append(f"L {steep.min():.2g} to {steep.max():.2g}")
    betas = [tag_text(beta) for beta in own.tag("beta")] if plot.x != "beta" else []
    if betas:
        parts.append("beta " + ", ".join(betas))
    return "; ".join(parts)


def costs(results: Results) -> str:
    """Wall time, compile time, memory and device of the runs, in one paragraph."""
    runs = list({id(entry.run): entry.run for entry in results.entries}.values())
    if not runs:
        return ""
    times = [timing for run in runs for timing in run["timings"].values()]
    wall, compiled = (sum(t[key] for t in times) for key in ("wall_s", "compile_s"))
    process = sum(run.get("process_seconds", 0.0) for run in runs)
    peak = max(run["peak_host_bytes"] for run in runs) / 2**30
    device = runs[0]["device"]
    seeds = sorted({seed for run in runs for seed in run["seeds"]})
    return (
        f"{len(runs)} run{'s' * (len(runs) != 1)}, seeds {', '.join(map(str, seeds))}: "
        f"{process:.0f} s of process time, of it {wall:.0f} s in training and evaluation and {compiled:.0f} s "
        f"compiling; peak memory of a process {peak:.2f} GiB; device {device['kind']} ({device['cpu_cores']} CPU "
        f"cores); networks in {', '.join(sorted({run.get('precision', 'fp32') for run in runs}))}."
    )


def section(
    study: Study,
    results: Results,
    judged: Sequence[Judged],
    missing: Sequence[str],
    folder: Path,
    runs: Mapping[str, Path],
) -> str:
    """One study of the report, in markdown; its figures are written to `folder`.

    Args:
      study: what was asked.
      results: what was found.
      judged: its claims.
      missing: variants without a result.
      folder: for PNG files, linked by their names.
      runs: {variant name: work directory} of the finished variants, for the drawings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"## {study.name}", "", study.question, ""]
    counted = [one for one in judged if one.counted]
    lines += [
        f"{len(counted)} of {len(judged)} claims count, {sum(bool(c.check.holds) for c in counted)} of them hold."
    ]
    silent = [one.claim.statement for one in judged if missing and one.check.holds is None]
    lines += ["", *(line for one in judged if one.claim.statement not in silent for line in one.lines)]
    lines += [f"- no figures: {'; '.join(silent)}"] * bool(silent)
    lines += ["", costs(results), "", table(study, results), ""]
    if missing:
        lines += [f"No result from: {told_together(missing)}.", ""]
    for plot in study.plots:
        name = f"{study.name}_{plot.metric.replace('/', '_')}"
        name += "".join(f"_{v}" for v in plot.where.values())
        style.save(figure(plot, results, f"{study.name}: {plot.label}"), folder / f"{name}.png")
        lines += [f"![{plot.label}]({folder.name}/{name}.png)", ""]
    for drawing in study.drawings:
        drawn = drawing.draw(runs)
        if drawn is not None:
            style.save(drawn, folder / f"{study.name}_{drawing.name}.png")
            lines += [f"![{drawing.label}]({folder.name}/{study.name}_{drawing.name}.png)", ""]
            lines += [f"*{drawing.label}*", ""]
    spoken = verdicts(results)
    if spoken:
        lines += ["<details><summary>Verdicts</summary>", "", *spoken, "", "</details>", ""]
    write_json(
        folder / f"{study.name}.json",
        {
            "claims": [one.facts for one in judged],
            "entries": [
                {"tags": dict(e.tags), "metrics": _columns(study, e.metrics)} for e in results.entries
            ],
        },
    )
    return "\n".join(lines)


def write(path: Path, title: str, command: str, sections: Sequence[str]) -> None:
    """The whole report as one markdown file."""
    head = [
        f"# {title}",
        "",
        "Written by the command below; every number, figure and verdict comes from its runs. Cells are means over "
        "seeds with 95 % intervals inside the metric's domain, the single seeds in parentheses. A claim counts where "
        "it was frozen before its seeds and demonstrations were seen, and where a world without the effect would "
        "pass it in at most 2.5 % of draws.",
        "",
        f"    {command}",
        "",
    ]
    text = "\n".join([*head, *sections]) + "\n"
    write_atomic(path, lambda stream: stream.write(text.encode()))


def _columns(study: Study, metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {metric: metrics[metric] for metric, _, _ in study.columns if metric in metrics}


def _cell(entry: Entry, metric: str, digits: int) -> str:
    values = entry.per_seed(metric)
    if not len(values):
        return _by_mode(entry, metric, digits) or "–"
    seeds = ", ".join(f"{v:.{digits}f}" for v in values)
    if len(values) == 1:
        return seeds
    low, high = entry.span(metric)
    shown = f"({seeds})" if len(values) <= 5 else f"({values.min():.{digits}f} to {values.max():.{digits}f})"
    return f"{values.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}] {shown}"


def _by_mode(entry: Entry, metric: str, digits: int) -> str:
    """The mean of each element over the seeds that have it, "0.98 / 0.97"; empty for what is no list of numbers."""
    lists = [one for one in (entry.metrics.get(metric) or {}).get("per_seed") or [] if isinstance(one, list)]
    if not lists or not all(isinstance(v, (int, float, type(None))) for one in lists for v in one):
        return ""
    table = np.array(lists, float)  # None becomes NaN
    means = [column[np.isfinite(column)].mean() for column in table.T if np.isfinite(column).any()]
    return " / ".join(f"{mean:.{digits}f}" for mean in means) if len(means) == table.shape[1] else ""
