"""Building blocks of claims: comparisons of means over seeds that a study file puts together."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmbc_jax.diagnostics.domains import domain
from mmbc_jax.study.nulls import at_value, exchangeable
from mmbc_jax.study.plan import Check, Claim, Entry, Null, Results, tags_text

_COMPARE = {"<=": operator.le, ">=": operator.ge}


def bound(
    statement: str, metric: str, sign: str, limit: float, *, null: float | None = None, **tags: Any
) -> Claim:
    """Every seed of every entry with these tags has `metric <sign> limit`.

    Args:
      statement: of the claim.
      metric: of the stage.
      sign: "<=" or ">=".
      limit: the bound.
      null: mean of the metric in a world without the effect; None for the limit itself. To be stated, for the claim
        to count, where the limit is the end of what the metric can be.
      **tags: which entries.
    """

    def check(results: Results) -> Check:
        values = results.where(**tags).values(metric)
        if not values.size:
            return Check(None, f"no {metric}")
        holds = bool(_COMPARE[sign](values, limit).all())
        return Check(holds, f"{metric} {values.min():.3g} to {values.max():.3g} over {values.size} runs")

    return _against_value(statement, check, metric, limit if null is None else null, tags)


def mean_bound(
    statement: str, metric: str, sign: str, limit: float, *, null: float | None = None, **tags: Any
) -> Claim:
    """The mean over seeds of every entry with these tags has `metric <sign> limit`; `null` as of `bound`."""

    def fits(entry: Entry) -> bool:
        return bool(_COMPARE[sign](entry.per_seed(metric).mean(), limit))

    return _every_entry(statement, metric, limit if null is None else null, tags, 1, fits)


def interval_bound(
    statement: str, metric: str, sign: str, limit: float, *, null: float | None = None, **tags: Any
) -> Claim:
    """The whole 95 % interval over seeds of `metric` lies beyond the limit, for every entry with these tags.

    Args:
      statement: of the claim.
      metric: of the stage.
      sign: "<" or ">".
      limit: the bound.
      null: as of `bound`.
      **tags: which entries; those with fewer than two seeds have no interval and do not count.
    """

    def beyond(entry: Entry) -> bool:
        low, high = entry.span(metric)
        return high < limit if sign == "<" else low > limit

    return _every_entry(statement, metric, limit if null is None else null, tags, 2, beyond)


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

    return _exchanged(statement, check, metric, (tags,))


def gap(
    statement: str, metric: str, better: Mapping[str, Any], worse: Mapping[str, Any], margin: float = 0.0
) -> Claim:
    """The mean of `metric` over `better` exceeds that over `worse` by at least `margin`."""

    def check(results: Results) -> Check:
        a, b = (results.where(**tags) for tags in (better, worse))
        if not (a.values(metric).size and b.values(metric).size):
            return Check(None, f"no {metric}")
        shown = f"{metric} {tags_text(better)}: {a.shown(metric)}; {tags_text(worse)}: {b.shown(metric)}"
        return Check(bool(a.mean(metric) >= b.mean(metric) + margin), shown)

    return _exchanged(statement, check, metric, (better, worse))


def against_the_rest(
    statement: str,
    metric: str,
    family: str,
    *,
    wins: bool,
    lower: bool,
    margin: float = 0.0,
    shown: str = "separation/modes",
    **tags: Any,
) -> Claim:
    """A family is, or is not, as good by its mean of `metric` as the best of the other families.

    Args:
      statement: of the claim.
      metric: of the stage.
      family: value of the tag "family".
      wins: whether it is expected to be as good.
      lower: whether less is better.
      margin: how much worse still counts as being as good, in units of the metric.
      shown: metric of modes per observation, told as evidence.
      **tags: which entries.
    """
    direction = -1.0 if lower else 1.0

    def check(results: Results) -> Check:
        chosen = results.where(**tags)
        found = {name: chosen.where(family=name).values(metric) for name in chosen.tag("family")}
        found = {name: values for name, values in found.items() if values.size}
        own = found.pop(family, np.zeros(0))
        if not (own.size and found):
            return Check(None, f"no {metric}")
        best = max(found, key=lambda name: direction * found[name].mean())
        as_good = direction * (own.mean() - found[best].mean()) >= -margin
        return Check(
            bool(as_good == wins),
            f"{metric} {family} {chosen.where(family=family).shown(metric)}, "
            f"{best} {chosen.where(family=best).shown(metric)}; "
            f"{chosen.mean(shown):.2f} modes per observation",
        )

    return _exchanged(statement, check, metric, (tags,))


def custom(
    statement: str, judge: Callable[[Results], Check], null: Null | None = None, supposing: str = ""
) -> Claim:
    """A claim with a judge of its own, and with a null of its own in order to count."""
    return Claim(statement, judge, null, supposing)


def _against_value(
    statement: str, check: Callable[[Results], Check], metric: str, value: float, tags: Mapping[str, Any]
) -> Claim:
    if value in domain(
        metric
    ):  # nothing scatters around the end of what it can be: another null must be stated
        return Claim(statement, check)
    return Claim(statement, check, at_value(metric, value, tags), f"{metric} is {value:g} on average")


def _exchanged(
    statement: str, check: Callable[[Results], Check], metric: str, groups: Sequence[Mapping[str, Any]]
) -> Claim:
    return Claim(statement, check, exchangeable(metric, groups), f"the entries do not differ in {metric}")


def _every_entry(
    statement: str,
    metric: str,
    null: float,
    tags: Mapping[str, Any],
    least: int,
    fits: Callable[[Entry], bool],
) -> Claim:
    """Every entry with these tags and at least `least` seeds fits; all of them are the evidence."""

    def check(results: Results) -> Check:
        found = [e for e in results.where(**tags).entries if e.per_seed(metric).size >= least]
        if not found:
            return Check(None, f"no {metric}")
        shown = "; ".join(f"{tags_text(e.tags)}: {Results([e]).shown(metric)}" for e in found)
        return Check(all(fits(e) for e in found), f"{metric} {shown}")

    return _against_value(statement, check, metric, null, tags)
