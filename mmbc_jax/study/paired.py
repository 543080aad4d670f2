"""Claims about two entries seed by seed, where a seed shares its demonstrations and its clone between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmbc_jax.ops.intervals import t_interval
from mmbc_jax.study.nulls import with_values
from mmbc_jax.study.plan import Check, Claim, Entry, Null, Results, interval, tags_text


def paired_gap(
    statement: str, metric: str, better: Mapping[str, Any], worse: Mapping[str, Any], margin: float = 0.0
) -> Claim:
    """`metric` is higher in one entry than in another by more than `margin`, over the seeds that both have.

    d_i = better_i - worse_i;   the whole 95 % t interval of the mean of d lies above `margin`.

    The null exchanges the two values of each seed with probability 1/2, so that N seeds never get below 2^-N: six
    seeds are the least that can pass 2.5 %.

    Args:
      statement: of the claim.
      metric: of the stage.
      better: tags of one entry.
      worse: tags of the other.
      margin: in units of the metric.
    """

    def check(results: Results) -> Check:
        found = _difference(results, metric, better, worse)
        if found is None:
            return Check(None, f"not two seeds with {metric} in one entry each")
        low, high = t_interval(found)
        shown = f"{metric} {tags_text(better)} less {tags_text(worse)}: {interval(found, (low, high))}"
        return Check(bool(low > margin), f"{shown}, n = {found.size} seeds")

    return Claim(
        statement, check, _exchanged(metric, better, worse), "each seed's two values may be exchanged"
    )


def _pair(
    results: Results, metric: str, better: Mapping[str, Any], worse: Mapping[str, Any]
) -> tuple[Entry, Entry] | None:
    """The two entries; None where one is missing, not alone, or their seeds differ."""
    chosen = [results.where(**tags).entries for tags in (better, worse)]
    if [len(entries) for entries in chosen] != [1, 1]:
        return None
    first, second = (entries[0] for entries in chosen)
    same = list(first.run.get("seeds", ())) == list(second.run.get("seeds", ()))
    return (first, second) if same and first.column(metric).size == second.column(metric).size else None


def _difference(
    results: Results, metric: str, better: Mapping[str, Any], worse: Mapping[str, Any]
) -> np.ndarray | None:
    pair = _pair(results, metric, better, worse)
    if pair is None:
        return None
    found = pair[0].column(metric) - pair[1].column(metric)
    found = found[np.isfinite(found)]
    return found if found.size > 1 else None


def _exchanged(metric: str, better: Mapping[str, Any], worse: Mapping[str, Any]) -> Null:
    def draw(results: Results, rng: np.random.Generator) -> Results:
        pair = _pair(results, metric, better, worse)
        if pair is None:
            return results
        a, b = (entry.column(metric) for entry in pair)
        swap = rng.random(a.size) < 0.5
        drawn = (np.where(swap, b, a), np.where(swap, a, b))
        changed = {id(e): with_values(e, metric, x.tolist()) for e, x in zip(pair, drawn, strict=True)}
        return Results(changed.get(id(entry), entry) for entry in results.entries)

    return draw
