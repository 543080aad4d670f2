"""Building blocks of claims: comparisons of means over seeds that a study file puts together."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mmbc_jax.ops.intervals import t_interval
from mmbc_jax.study.plan import Check, Claim, Results, interval

_COMPARE = {"<=": operator.le, ">=": operator.ge}


def bound(statement: str, metric: str, sign: str, limit: float, **tags: Any) -> Claim:
    """Every seed of every entry with these tags has `metric <sign> limit`.

    Args:
      statement: of the claim.
      metric: of the stage.
      sign: "<=" or ">=".
      limit: the bound.
      **tags: which entries.
    """

    def check(results: Results) -> Check:
        values = results.where(**tags).values(metric)
        if not values.size:
            return Check(None, f"no {metric}")
        holds = bool(_COMPARE[sign](values, limit).all())
        return Check(holds, f"{metric} {values.min():.3g} to {values.max():.3g} over {values.size} runs")

    return Claim(statement, check)


def mean_bound(statement: str, metric: str, sign: str, limit: float, **tags: Any) -> Claim:
    """The mean over seeds of every entry with these tags has `metric <sign> limit`."""

    def check(results: Results) -> Check:
        found = [(e, e.per_seed(metric)) for e in results.where(**tags).entries]
        found = [(e, values) for e, values in found if values.size]
        if not found:
            return Check(None, f"no {metric}")
        holds = all(_COMPARE[sign](values.mean(), limit) for _, values in found)
        return Check(holds, f"{metric} " + "; ".join(f"{_name(e.tags)}: {interval(v)}" for e, v in found))

    return Claim(statement, check)


def interval_bound(statement: str, metric: str, sign: str, limit: float, **tags: Any) -> Claim:
    """The whole 95 % interval over seeds of `metric` lies beyond the limit, for every entry with these tags.

    Args:
      statement: of the claim.
      metric: of the stage.
      sign: "<" or ">".
      limit: the bound.
      **tags: which entries; those with fewer than two seeds have no interval and do not count.
    """

    def check(results: Results) -> Check:
        found = [(e, e.per_seed(metric)) for e in results.where(**tags).entries]
        found = [(e, values) for e, values in found if values.size > 1]
        if not found:
            return Check(None, f"no {metric}")
        spans = [t_interval(values) for _, values in found]
        holds = all(high < limit if sign == "<" else low > limit for low, high in spans)
        return Check(holds, f"{metric} " + "; ".join(f"{_name(e.tags)}: {interval(v)}" for e, v in found))

    return Claim(statement, check)


def trend(
    statement: str, metric: str, over: str, direction: int, *, slack: float = 0.0, **tags: Any
) -> Claim:
    """The mean of `metric` never moves against `direction` by more than `slack` along the tag `over`.

    And it does move: the last mean differs from the first in that direction.

    Args:
      statement: of the claim.
      metric: of the stage.
      over: tag with numbers.
      direction: 1 for growing, -1 for falling.
      slack: tolerated step against the direction, in units of the metric.
      **tags: which entries.
    """

    def check(results: Results) -> Check:
        chosen = results.where(**tags)
        steps = sorted(chosen.tag(over))
        means = [chosen.where(**{over: x}).mean(metric) for x in steps]
        if len(steps) < 2 or not np.isfinite(means).all():
            return Check(None, f"too few values of {metric}")
        moves = direction * np.diff(means)
        holds = bool((moves >= -slack).all() and direction * (means[-1] - means[0]) > 0)
        shown = ", ".join(f"{over}={x:g}: {m:.3g}" for x, m in zip(steps, means, strict=True))
        return Check(holds, f"{metric} {shown}")

    return Claim(statement, check)


def gap(
    statement: str, metric: str, better: Mapping[str, Any], worse: Mapping[str, Any], margin: float = 0.0
) -> Claim:
    """The mean of `metric` over `better` exceeds that over `worse` by at least `margin`."""

    def check(results: Results) -> Check:
        a, b = (results.where(**tags).values(metric) for tags in (better, worse))
        if not (a.size and b.size):
            return Check(None, f"no {metric}")
        shown = f"{metric} {_name(better)}: {interval(a)}; {_name(worse)}: {interval(b)}"
        return Check(bool(a.mean() >= b.mean() + margin), shown)

    return Claim(statement, check)


def custom(statement: str, judge: Callable[[Results], Check]) -> Claim:
    """A claim with a judge of its own."""
    return Claim(statement, judge)


def _name(tags: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in tags.items())
