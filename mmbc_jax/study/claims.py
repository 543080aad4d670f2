"""Building blocks of claims: comparisons over seeds that a study file puts together.

Each is a test with a margin and a size below the share of null draws that a claim may pass (`nulls.LIMIT`): intervals
of level .98, one end of which a value at the limit passes in 1 %, and permutation tests at .015, which four seeds a
side can reach (1/70) and three cannot. So the rate that is measured stays below the limit for any scatter.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmbc_jax.diagnostics.domains import domain
from mmbc_jax.ops.intervals import t_interval
from mmbc_jax.ops.permutation import least_p, permutation_p
from mmbc_jax.study.nulls import Tags, at_value, beside, exchanged, missing_one
from mmbc_jax.study.plan import Check, Claim, Null, Results, interval, tags_text

LEVEL, SIZE = 0.98, 0.015
Sides = Tags | Sequence[Tags]


def every_mode(statement: str, metric: str, modes: Callable[[Tags], int], **tags: Any) -> Claim:
    """In every seed of every entry with these tags `metric`, a share of the modes, is 1.

    Args:
      statement: of the claim.
      metric: of the stage.
      modes: K of an entry with given tags.
      **tags: which entries.
    """

    def check(results: Results) -> Check:
        values = results.where(**tags).values(metric)
        if not values.size:
            return Check(None, f"no {metric}")
        return Check(
            bool((values >= 1.0).all()),
            f"{metric} {values.min():.3g} to {values.max():.3g}, {values.size} runs",
        )

    null = missing_one(metric, tags, modes)
    return Claim(statement, check, null, "one entry misses a mode per seed on average", (tags,))


def interval_bound(
    statement: str, metric: str, sign: str, limit: float, *, null: float | None = None, **tags: Any
) -> Claim:
    """The whole interval over seeds (of level `LEVEL`) of `metric` lies beyond the limit, for every entry.

    Args:
      statement: of the claim.
      metric: of the stage.
      sign: "<" or ">".
      limit: the bound.
      null: mean of the metric in a world without the effect; None for the limit itself. To be stated, for the claim
        to count, where the limit is the end of what the metric can be.
      **tags: which entries; those with fewer than two seeds have no interval and do not count.
    """

    def check(results: Results) -> Check:
        found = [e for e in results.where(**tags).entries if e.per_seed(metric).size >= 2]
        if not found:
            return Check(None, f"no {metric}")
        spans = [entry.span(metric, LEVEL) for entry in found]
        holds = all(high < limit if sign == "<" else low > limit for low, high in spans)
        shown = "; ".join(
            f"{tags_text(e.tags)}: {interval(e.per_seed(metric), s)}"
            for e, s in zip(found, spans, strict=True)
        )
        return Check(holds, f"{metric} {shown}")

    value = limit if null is None else null
    if value in domain(
        metric
    ):  # nothing scatters around the end of what it can be: another null must be stated
        return Claim(statement, check, about=(tags,))
    supposing = f"{metric} of one entry is {value:g} on average"
    return Claim(statement, check, at_value(metric, value, tags), supposing, (tags,))


def excess(statement: str, metric: str, other: str, limit: float, **tags: Any) -> Claim:
    """`metric` exceeds `other` by more than `limit`, seed by seed: the t interval of the difference, every entry."""

    def check(results: Results) -> Check:
        pairs = [entry.together(metric, other) for entry in results.where(**tags).entries]
        differences = [both[:, 0] - both[:, 1] for both in pairs if len(both) > 1]
        if not differences:
            return Check(None, f"no {metric} beside {other}")
        spans = [t_interval(one, LEVEL) for one in differences]
        shown = "; ".join(interval(one, span) for one, span in zip(differences, spans, strict=True))
        return Check(all(low > limit for low, _ in spans), f"{metric} less {other}: {shown}")

    null = beside(metric, other, limit, tags)
    supposing = f"in one entry {metric} is {limit:g} above {other} on average"
    return Claim(statement, check, null, supposing, (tags,))


def gap(statement: str, metric: str, higher: Sides, lower: Sides, margin: float = 0.0) -> Claim:
    """The mean of `metric` over `higher` exceeds that over `lower` by more than `margin`: a permutation test.

    Args:
      statement: of the claim.
      metric: of the stage.
      higher: tags of a side, or of several, each of which is compared with each of the others.
      lower: the same.
      margin: in units of the metric; below 0 for "at least as high, but for so much".
    """
    pairs = list(itertools.product(_listed(higher), _listed(lower)))

    def check(results: Results) -> Check:
        return _all_pass([_compare(results, metric, *pair, margin) for pair in pairs])

    about = (*_listed(higher), *_listed(lower))
    return Claim(statement, check, exchanged(metric, pairs, margin), _apart(metric, margin), about)


def within(statement: str, metric: str, one: Sides, other: Sides, margin: float) -> Claim:
    """The means of `metric` over both sides differ by less than `margin` either way: two tests, both passed."""
    pairs = list(itertools.product(_listed(one), _listed(other)))
    pairs += [(second, first) for first, second in pairs]

    def check(results: Results) -> Check:
        return _all_pass([_compare(results, metric, *pair, -margin) for pair in pairs])

    about = (*_listed(one), *_listed(other))
    return Claim(statement, check, exchanged(metric, pairs, -margin), _apart(metric, margin), about)


def trend(
    statement: str,
    metric: str,
    over: str,
    direction: int,
    *,
    margin: float,
    slack: float = 0.0,
    **tags: Any,
) -> Claim:
    """The last mean of `metric` along the tag `over` lies more than `margin` from the first, in `direction`.

    That is a permutation test of the two ends; besides, no mean on the way moves against the direction by more than
    `slack`.

    Args:
      statement: of the claim.
      metric: of the stage.
      over: tag with numbers.
      direction: 1 for growing, -1 for falling.
      margin: in units of the metric.
      slack: tolerated step against the direction, in units of the metric.
      **tags: which entries.
    """

    def ends(results: Results) -> tuple[Tags, Tags]:
        steps = sorted(results.where(**tags).tag(over))
        first, last = ({**tags, over: x} for x in (steps[0], steps[-1]))
        return (last, first) if direction > 0 else (first, last)

    def check(results: Results) -> Check:
        chosen = results.where(**tags)
        steps = sorted(chosen.tag(over))
        means = [chosen.where(**{over: x}).mean(metric) for x in steps]
        if len(steps) < 2 or not np.isfinite(means).all():
            return Check(None, f"too few values of {metric}")
        found = _compare(results, metric, *ends(results), margin)
        if found.holds is None:
            return found
        steady = bool((direction * np.diff(means) >= -slack).all())
        shown = ", ".join(f"{over}={x:g}: {m:.3g}" for x, m in zip(steps, means, strict=True))
        return Check(found.holds and steady, f"{metric} {shown}; {found.evidence.rpartition('; ')[2]}")

    def null(results: Results, rng: np.random.Generator) -> Results:
        return exchanged(metric, [ends(results)], margin)(results, rng)

    return Claim(statement, check, null, _apart(metric, margin), (tags,))


def together(statement: str, *claims: Claim) -> Claim:
    """All of several claims, each of which has a null; the null is that of one of them, another at every draw."""

    def check(results: Results) -> Check:
        return _all_pass([claim.check(results) for claim in claims])

    def null(results: Results, rng: np.random.Generator) -> Results:
        chosen = claims[int(rng.integers(len(claims)))].null
        assert chosen is not None, "a claim without a null in a conjunction"
        return chosen(results, rng)

    supposing = "or ".join(f"{claim.supposing}, " for claim in claims).rstrip(", ")
    return Claim(statement, check, null, supposing, tuple(tags for claim in claims for tags in claim.about))


def custom(
    statement: str, judge: Callable[[Results], Check], null: Null | None = None, supposing: str = ""
) -> Claim:
    """A claim with a judge of its own, and with a null of its own in order to count."""
    return Claim(statement, judge, null, supposing)


def _compare(results: Results, metric: str, higher: Tags, lower: Tags, margin: float) -> Check:
    first, second = (results.where(**tags).values(metric) for tags in (higher, lower))
    if not (first.size and second.size):
        return Check(None, f"no {metric} of {tags_text(lower if first.size else higher)}")
    shown = f"{metric} {tags_text(higher)}: {first.mean():.3g}; {tags_text(lower)}: {second.mean():.3g}"
    if least_p(first.size, second.size) > SIZE:
        return Check(None, f"{shown}; too few seeds to tell")
    p = permutation_p(first - margin, second)
    return Check(p <= SIZE, f"{shown}; p = {p:.2g}")


def _all_pass(found: Sequence[Check]) -> Check:
    """Whether all hold, with the evidence of those that decide it."""
    for outcome in (None, False):
        decisive = [one for one in found if one.holds is outcome]
        if decisive:
            return Check(outcome, "; ".join(one.evidence for one in decisive))
    return Check(True, "; ".join(one.evidence for one in found))


def _apart(metric: str, margin: float) -> str:
    """The world in which two sides are just so far apart, in words."""
    return (
        f"{metric} of two sides differs by {abs(margin):g}"
        if margin
        else f"two sides do not differ in {metric}"
    )


def _listed(sides: Sides) -> list[Tags]:
    return [sides] if isinstance(sides, Mapping) else list(sides)
