"""A variant's seeds, each on demonstrations of its own: one process per cell, joined into one entry.

With one set of demonstrations for all seeds, intervals over seeds hold everything but the luck of that set. So seed i
learns from demonstrations recorded with `data.seed + i`: the N cells (seed, data seed) are independent draws of both,
and an interval over them is one over both. Windows are shared by all runs of a process, hence a process per cell.
Demonstrations from a file cannot be drawn again, and such variants stay whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from mmbc_jax.study.plan import Entry, Study, Variant


def split(study: Study) -> Study:
    """The study with a variant per cell, named `VARIANT/seedN`, where it is paired."""
    if not study.paired:
        return study
    return dataclasses.replace(study, variants=[cell for one in study.variants for cell in _cells(one)])


def _cells(variant: Variant) -> list[Variant]:
    config = variant.config
    if config is None or config.data.path:
        return [variant]
    cells = []
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        own = ConfigDict(config.to_dict())
        own.seeds, own.first_seed, own.data.seed = 1, seed, config.data.seed + seed
        cells.append(
            dataclasses.replace(
                variant, name=f"{variant.name}/seed{seed}", config=own, group=variant.group or variant.name
            )
        )
    return cells


def of_variant(variant: Variant, name: str) -> bool:
    """Whether a run of this name is the variant or one of its cells."""
    return name == variant.name or name.startswith(f"{variant.name}/seed")


def told_together(names: Sequence[str]) -> str:
    """Names of variants and of cells in one line, the cells of a variant as its seeds: "a, b (seeds 0, 1)"."""
    seeds: dict[str, list[str]] = {}
    for name in names:
        variant, _, seed = name.partition("/seed")
        seeds.setdefault(variant, []).extend([seed] if seed else [])
    return ", ".join(
        f"{variant} (seed{'s' if len(own) > 1 else ''} {', '.join(own)})" if own else variant
        for variant, own in seeds.items()
    )


def joined(parts: Sequence[tuple[str, Entry]]) -> list[Entry]:
    """One entry per group and tags of (group, entry) pairs, in order of appearance, with all their seeds."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for group, entry in parts:
        groups.setdefault((group, repr(sorted(entry.tags.items()))), []).append(entry)
    runs: dict[
        tuple[int, ...], dict[str, Any]
    ] = {}  # one for all sweep points, as they share their processes
    found = []
    for entries in groups.values():
        own = tuple(id(entry.run) for entry in entries)
        run = runs.setdefault(own, _run([entry.run for entry in entries]))
        found.append(Entry(entries[0].tags, _metrics([entry.metrics for entry in entries]), run))
    return found


def _metrics(each: Sequence[Any]) -> dict[str, Any]:
    if len(each) == 1:
        return dict(each[0])
    names = dict.fromkeys(name for metrics in each for name in metrics)
    return {name: _metric([metrics.get(name) for metrics in each], each) for name in names}


def _metric(entries: Sequence[Any], each: Sequence[Any]) -> Any:
    """The values of all seeds, None for those of a cell that lacks the metric."""
    if not any(entry is not None and "per_seed" in entry for entry in entries):
        return None  # of several seeds at once, such as their stability
    values: list[Any] = []
    for entry, metrics in zip(entries, each, strict=True):
        seeds = max(
            (len(one["per_seed"]) for one in metrics.values() if one and "per_seed" in one), default=0
        )
        values += [None] * seeds if entry is None else list(entry["per_seed"])
    counts = {entry["n"] for entry in entries if entry is not None and "n" in entry}
    return {"per_seed": values} | ({"n": counts.pop()} if len(counts) == 1 else {})


def _run(each: Sequence[Any]) -> dict[str, Any]:
    """The facts of several processes as those of one run."""
    if len(each) == 1:
        return dict(each[0])
    run = dict(each[0])
    for name in ("seeds", "data_seeds"):
        run[name] = [seed for facts in each for seed in facts.get(name, ())]
    run["timings"] = {
        f"{stage} {place}": timing
        for place, facts in enumerate(each)
        for stage, timing in facts.get("timings", {}).items()
    }
    run["process_seconds"] = sum(facts.get("process_seconds", 0.0) for facts in each)
    run["peak_host_bytes"] = max(facts.get("peak_host_bytes", 0) for facts in each)
    return run
