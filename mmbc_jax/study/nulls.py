"""Worlds in which a claim says nothing, drawn from the results themselves, and how often the claim passes there.

- `exchangeable`: the tags mean nothing. The values of a metric are shuffled over the (entry, seed) cells that the
  claim looks at. With two entries of N seeds the data's own arrangement comes up once in C(2N, N) draws, so that
  three seeds never get below 5 %, and four do (1.4 %).
- `at_value`: the metric's mean is a stated value in every entry. Seeds are drawn around it from a normal
  distribution inside the metric's domain, with the standard deviation that their 95 % interval stands for, which is
  above zero in a bounded domain even where the seeds agree.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from mmbc_jax.diagnostics.domains import domain
from mmbc_jax.study.plan import Claim, Entry, Null, Results

DRAWS, SEED = 1000, 0
LIMIT = 0.025


def exchangeable(metric: str, groups: Sequence[Mapping[str, Any]]) -> Null:
    """The values of `metric` in the entries that have all tags of one of the groups, shuffled over their cells."""

    def draw(results: Results, rng: np.random.Generator) -> Results:
        chosen = [_matches(entry, groups) and metric in entry.metrics for entry in results.entries]
        having = [entry for entry, own in zip(results.entries, chosen, strict=True) if own]
        shuffled = iter(rng.permutation(Results(having).values(metric)))
        return Results(
            _with(entry, metric, [next(shuffled) for _ in entry.per_seed(metric)]) if own else entry
            for entry, own in zip(results.entries, chosen, strict=True)
        )

    return draw


def at_value(metric: str, value: float, tags: Mapping[str, Any]) -> Null:
    """The seeds of every entry with these tags scatter around `value`."""
    latest: list[Any] = [None, {}]  # results, and the scatter of their entries: the same in every draw

    def draw(results: Results, rng: np.random.Generator) -> Results:
        if latest[0] is not results:
            latest[:] = results, {}
        drawn, scatter = [], latest[1]
        for entry in results.entries:
            count = entry.per_seed(metric).size
            if count and _matches(entry, (tags,)):
                if id(entry) not in scatter:
                    scatter[id(entry)] = _deviation(entry, metric)
                low, high = domain(metric, entry.sizes)
                values = np.clip(rng.normal(value, scatter[id(entry)], count), low, high)
                entry = _with(entry, metric, values.tolist())
            drawn.append(entry)
        return Results(drawn)

    return draw


def null_rate(claim: Claim, results: Results, draws: int = DRAWS, seed: int = SEED) -> float | None:
    """Share of draws from the claim's null that pass it; None where no null is stated or figures are missing.

    Args:
      claim: with its null.
      results: that the null is drawn from.
      draws: from the null; the standard error at 2.5 % is .5 % with 1000.
      seed: of numpy's generator, so that the rate is a figure and not a lottery.
    """
    if claim.null is None or claim.check(results).holds is None:
        return None
    rng = np.random.default_rng(seed)
    return float(np.mean([bool(claim.check(claim.null(results, rng)).holds) for _ in range(draws)]))


def _deviation(entry: Entry, metric: str) -> float:
    """Standard deviation between seeds that their interval stands for; 0 where one seed says nothing of it."""
    count = entry.per_seed(metric).size
    if count < 2:
        return 0.0
    low, high = entry.span(metric)
    return float((high - low) / 2 * math.sqrt(count) / stats.t.ppf(0.975, count - 1))


def _matches(entry: Entry, groups: Sequence[Mapping[str, Any]]) -> bool:
    return any(all(entry.tags.get(name) == value for name, value in tags.items()) for tags in groups)


def _with(entry: Entry, metric: str, values: Sequence[float]) -> Entry:
    """The entry with other values of a metric."""
    changed = {**(entry.metrics.get(metric) or {}), "per_seed": [float(value) for value in values]}
    return dataclasses.replace(entry, metrics={**entry.metrics, metric: changed})
