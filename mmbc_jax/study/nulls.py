"""Worlds in which a claim says nothing, drawn from the results themselves, and how often the claim passes there.

A claim about several entries, or several pairs of entries, says that all of them show the effect. It says nothing as
soon as one does not; so each null takes the effect from one of them, another at every draw, and leaves the others as
they were found. That passes more often than a world without any effect, and is what the rate is to bound.

- `exchanged`: the two sides of a comparison differ by the stated margin and by nothing else. The margin is taken off
  one side, the values are shuffled over the (entry, seed) cells of both, and it is put back. With N seeds a side the
  data's own arrangement comes up once in C(2N, N) draws, so that three seeds never get below 5 %; four do (1.4 %).
- `at_value`: the metric's mean is a stated value. Seeds are drawn around it from a normal distribution inside the
  metric's domain, with the standard deviation that their 95 % interval stands for, which is above zero in a bounded
  domain even where the seeds agree, and of shares at least with that of so many episodes.
- `missing_one`: each of K modes is missed with probability 1 / K in each seed, one of them on average.
- `beside`: a metric exceeds another, seed by seed, by a stated value on average.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from mmbc_jax.diagnostics.domains import SHARES, domain
from mmbc_jax.study.plan import Claim, Entry, Null, Results

DRAWS, SEED = 1000, 0
LIMIT = 0.025

Tags = Mapping[str, Any]


def exchanged(metric: str, pairs: Sequence[tuple[Tags, Tags]], margin: float = 0.0) -> Null:
    """The values of `metric` in one of the pairs, shuffled over the cells of both sides.

    Args:
      metric: whose values they are.
      pairs: (tags of the side that is to be higher, tags of the other).
      margin: by which the first side is higher in this world.
    """

    def draw(results: Results, rng: np.random.Generator) -> Results:
        sides = pairs[int(rng.integers(len(pairs)))]
        side = [
            next((i for i, tags in enumerate(sides) if matches(entry, tags)), None)
            if metric in entry.metrics
            else None
            for entry in results.entries
        ]
        lift = [0.0 if i is None else margin * (i == 0) for i in side]
        pool = [
            value - up
            for entry, i, up in zip(results.entries, side, lift, strict=True)
            if i is not None
            for value in entry.per_seed(metric)
        ]
        shuffled = iter(rng.permutation(np.array(pool)))
        drawn = [
            [] if i is None else [next(shuffled) + up for _ in entry.per_seed(metric)]
            for entry, i, up in zip(results.entries, side, lift, strict=True)
        ]
        return Results(
            entry if i is None else with_values(entry, metric, values)
            for entry, i, values in zip(results.entries, side, _inside(metric, drawn), strict=True)
        )

    return draw


def at_value(metric: str, value: float, tags: Tags) -> Null:
    """The seeds of one of the entries with these tags scatter around `value`."""
    return _one_of(metric, tags, lambda entry, rng: _around(entry, metric, value, rng))


def missing_one(metric: str, tags: Tags, modes: Callable[[Tags], int]) -> Null:
    """In one of the entries with these tags `metric` is the share of K modes that are not missed.

    Args:
      metric: a share of the modes.
      tags: which entries.
      modes: K of an entry with given tags.
    """

    def draw(entry: Entry, rng: np.random.Generator) -> np.ndarray:
        count = modes(entry.tags)
        return rng.binomial(count, 1.0 - 1.0 / count, entry.per_seed(metric).size) / count

    return _one_of(metric, tags, draw)


def beside(metric: str, other: str, value: float, tags: Tags) -> Null:
    """In one of the entries with these tags `metric` exceeds `other` by `value` on average over seeds."""

    def draw(entry: Entry, rng: np.random.Generator) -> np.ndarray:
        pairs = entry.together(metric, other)
        scatter = float((pairs[:, 0] - pairs[:, 1]).std(ddof=1)) if len(pairs) > 1 else 0.0
        return pairs[:, 1] + rng.normal(value, scatter, len(pairs))

    return _one_of(metric, tags, draw)


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


def matches(entry: Entry, tags: Tags) -> bool:
    """Whether an entry has all these tags."""
    return all(entry.tags.get(name) == value for name, value in tags.items())


def _inside(metric: str, drawn: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """All values moved by one amount into the metric's domain, so that differences stay; clipped where none does."""
    low, high = domain(metric)
    values = [value for one in drawn for value in one]
    move = max(low - min(values, default=0.0), 0.0) - max(max(values, default=0.0) - high, 0.0)
    return [[min(max(value + move, low), high) for value in one] for one in drawn]


def _one_of(metric: str, tags: Tags, values: Callable[[Entry, np.random.Generator], np.ndarray]) -> Null:
    """Other values of `metric` in one of the entries with these tags that have some."""

    def draw(results: Results, rng: np.random.Generator) -> Results:
        places = [
            i
            for i, entry in enumerate(results.entries)
            if matches(entry, tags) and entry.per_seed(metric).size
        ]
        chosen = places[rng.integers(len(places))] if places else -1
        return Results(
            with_values(entry, metric, values(entry, rng)) if i == chosen else entry
            for i, entry in enumerate(results.entries)
        )

    return draw


def _around(entry: Entry, metric: str, value: float, rng: np.random.Generator) -> np.ndarray:
    low, high = domain(metric, entry.sizes)
    count = entry.per_seed(metric).size
    return np.clip(rng.normal(value, _deviation(entry, metric, value), count), low, high)


def _deviation(entry: Entry, metric: str, value: float) -> float:
    """Standard deviation between seeds that their interval stands for; of shares, at least that of the episodes.

    0 where one seed says nothing of it.
    """
    count, episodes = entry.per_seed(metric).size, entry.episodes(metric)
    least = math.sqrt(max(value * (1.0 - value), 0.0) / episodes) if metric in SHARES and episodes else 0.0
    if count < 2:
        return least
    low, high = entry.span(metric)
    return max(least, float((high - low) / 2 * math.sqrt(count) / stats.t.ppf(0.975, count - 1)))


def with_values(entry: Entry, metric: str, values: Iterable[float]) -> Entry:
    """The entry with other values of a metric."""
    changed = {**(entry.metrics.get(metric) or {}), "per_seed": [float(value) for value in values]}
    return dataclasses.replace(entry, metrics={**entry.metrics, metric: changed})
