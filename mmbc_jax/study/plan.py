"""What a study is: variants of a configuration, the figures to tabulate, and claims that can fail.

A study file in `configs/study/` defines `get_studies(scale) -> list[Study]`, with `scale` one of `SCALES`. Fields
that are traced scalars are swept inside a variant (`config.sweep.grid`, one compilation); what changes shapes
(the family, K, the size of a network) makes a variant of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from mmbc_jax.diagnostics.domains import Sizes, seeds_interval, trials_name
from mmbc_jax.ops.intervals import Interval

SCALES = ("small", "full")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One run of a study.

    Attributes:
      name: of its folder; unique in the study.
      tags: what it varies, {"family": "flow", "K": 8}, for tables and claims.
      config: as for `mmbc_jax.train`.
      stage: whose results count.
      beside: other stages of the same run, which no sweep reaches; their results are entries too.
      group: name of the variant that this is a part of (see `cells`); empty where it is none.
    """

    name: str
    tags: Mapping[str, Any]
    config: ConfigDict
    stage: str = "bc"
    beside: tuple[str, ...] = ()
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Entry:
    """The result of one variant at one sweep point.

    Attributes:
      tags: those of the variant and the swept values, by the last part of their field.
      metrics: `{metric: {"per_seed": [...], ...}}` of the stage.
      run: facts of the run.
    """

    tags: Mapping[str, Any]
    metrics: Mapping[str, Any]
    run: Mapping[str, Any]

    def per_seed(self, metric: str) -> np.ndarray:
        """[N] values of the seeds that have one."""
        values = self.column(metric)
        return values[np.isfinite(values)]

    @property
    def sizes(self) -> Sizes:
        """K and Z, as far as the entry knows."""
        tables = (self.metrics.get("z_mode_table") or {}).get("per_seed") or []
        return Sizes.of([{"z_mode_table": table} for table in tables])

    def episodes(self, metric: str) -> int | None:
        """Episodes, or samples of one observation, behind the value of a seed; None where unknown."""
        if (name := trials_name(metric)) != "n":
            counts = self.per_seed(name)
            return int(counts.min()) if counts.size else None
        return (self.metrics.get(metric) or {}).get("n")

    def span(self, metric: str, level: float = 0.95) -> Interval:
        """The interval over seeds; needs two with a value."""
        return Results([self]).span(metric, level)

    def together(self, *metrics: str) -> np.ndarray:
        """[N, len(metrics)] values of the seeds that have all of them."""
        columns = [self.column(metric) for metric in metrics]
        rows = np.stack([c[: min(map(len, columns))] for c in columns], axis=1)
        return rows[np.isfinite(rows).all(1)]

    def column(self, metric: str) -> np.ndarray:
        """[seeds] values, NaN where a seed has none."""
        values = (self.metrics.get(metric) or {}).get("per_seed") or []
        return np.array([v if isinstance(v, (int, float)) else np.nan for v in values], float)


class Results:
    """All entries of a study, to be asked by tag.

    Args:
      entries: in the order of the study.
    """

    def __init__(self, entries: Iterable[Entry]):
        self.entries = list(entries)

    def where(self, **tags: Any) -> Results:
        """The entries that have all these tags."""
        return Results(e for e in self.entries if all(e.tags.get(k) == v for k, v in tags.items()))

    def tag(self, name: str) -> list[Any]:
        """The distinct values of a tag, in order of appearance."""
        return list(dict.fromkeys(e.tags[name] for e in self.entries if name in e.tags))

    def values(self, metric: str) -> np.ndarray:
        """[n] values over all entries and seeds."""
        parts = [entry.per_seed(metric) for entry in self.entries]
        return np.concatenate(parts) if parts else np.zeros(0)

    def mean(self, metric: str) -> float:
        """Mean of `values`; NaN where there are none."""
        values = self.values(metric)
        return float(values.mean()) if values.size else float("nan")

    def span(self, metric: str, level: float = 0.95) -> Interval:
        """The interval of `values`, of which there are at least two, inside the metric's domain."""
        having = [entry for entry in self.entries if entry.per_seed(metric).size]
        counts = [entry.episodes(metric) for entry in having]
        sizes = [entry.sizes for entry in having]
        modes, commands = ([getattr(one, name) for one in sizes] for name in ("num_modes", "num_z"))
        widest = Sizes(*(max(each) if None not in each else None for each in (modes, commands)))
        known = [count for count in counts if count is not None]
        episodes = min(known) if known and len(known) == len(counts) else None
        return seeds_interval(metric, self.values(metric).tolist(), episodes, widest, level)

    def shown(self, metric: str) -> str:
        """`0.81 [0.70, 0.92]`: mean and interval over seeds; the mean alone with one seed."""
        values = self.values(metric)
        return interval(values, self.span(metric) if len(values) > 1 else None)


@dataclasses.dataclass(frozen=True)
class Check:
    """The outcome of a claim.

    Attributes:
      holds: whether the figures bear it out; None where they are missing.
      evidence: the figures, in words.
    """

    holds: bool | None
    evidence: str


@dataclasses.dataclass(frozen=True)
class Change:
    """How a claim became what it is.

    Attributes:
      version: the one that it led to.
      failed: what had not held, or what was wrong with it.
      changed: what was changed.
      why: the reason given.
    """

    version: int
    failed: str
    changed: str
    why: str


Null = Callable[[Results, np.random.Generator], Results]
"""(results, generator) to results of the same shape in a world where the claim says nothing."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement about the results of a study that can turn out false.

    Attributes:
      statement: one sentence.
      check: judges it.
      null: draws results in a world without the effect; None where none is stated, and then it does not count.
      supposing: what that world is, in words.
      about: tags of the entries that it speaks of, those of each sort; without one of them it is not judged whole.
      version: of the claim; 1 at first.
      history: its changes, oldest first, one for every version above 1.
    """

    statement: str
    check: Callable[[Results], Check]
    null: Null | None = None
    supposing: str = ""
    about: tuple[Mapping[str, Any], ...] = ()
    version: int = 1
    history: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        if [change.version for change in self.history] != list(range(2, self.version + 1)):
            raise ValueError(
                f"claim {self.statement!r}: version {self.version} needs a change for each from 2 on"
            )

    def speaks_of(self, variant: Variant) -> bool:
        """Whether results of a variant may be among its entries: none of the variant's own tags says otherwise."""
        return any(
            all(variant.tags.get(name, value) == value for name, value in tags.items()) for tags in self.about
        )

    def changed(self, *history: Change) -> Claim:
        """The same claim with its history."""
        return dataclasses.replace(self, version=1 + len(history), history=history)


@dataclasses.dataclass(frozen=True)
class Plot:
    """A figure: a metric over a tag, a line per value of another tag.

    Attributes:
      metric: of the stage.
      x: tag on the horizontal axis (numbers).
      lines: tag that tells the lines apart.
      label: of the vertical axis.
      log_x: logarithmic horizontal axis.
      where: tags that the entries must have.
      reference: {name: value} of horizontal reference lines (published figures).
    """

    metric: str
    x: str
    lines: str
    label: str
    log_x: bool = False
    where: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reference: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure made from the evaluated episodes of variants; see `mmbc_jax.study.drawings`.

    Attributes:
      name: of its file.
      label: one sentence below it.
      draw: maps {variant name: work directory} of the finished variants to a figure; None with too few.
    """

    name: str
    label: str
    draw: Callable[[Mapping[str, Path]], Figure | None]


@dataclasses.dataclass(frozen=True)
class Study:
    """A question, the runs that answer it, and what the answer is expected to be.

    Attributes:
      name: of its folder and files.
      question: one or two sentences for the report.
      variants: the runs.
      columns: (metric, heading, decimals) of the table.
      claims: what it is to show.
      plots: its figures over tags.
      drawings: its figures of episodes.
      paired: each seed learns from demonstrations of its own, whose sampling intervals then hold (see `cells`).
      source: file that states it; empty for the one that was asked for.
    """

    name: str
    question: str
    variants: Sequence[Variant]
    columns: Sequence[tuple[str, str, int]]
    claims: Sequence[Claim] = ()
    plots: Sequence[Plot] = ()
    drawings: Sequence[Drawing] = ()
    paired: bool = True
    source: str = ""


def tag_text(value: Any) -> str:
    """A tag's value as it is printed; empty for None."""
    return f"{value:g}" if isinstance(value, float) else str("" if value is None else value)


def tags_text(tags: Mapping[str, Any]) -> str:
    """`family=flow K=8`."""
    return " ".join(f"{name}={tag_text(value)}" for name, value in tags.items())


def interval(values: np.ndarray, span: Interval | None = None) -> str:
    """`0.81 [0.70, 0.92]`: the mean and an interval; the mean alone without one."""
    if not len(values):
        return "no value"
    ends = f" [{span[0]:.3g}, {span[1]:.3g}]" if span else ""
    return f"{values.mean():.3g}{ends}"
