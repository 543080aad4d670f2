"""What the judged claims of studies amount to, in ten lines: what is known, what failed, and what is not known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mmbc_jax.study.judging import Judged

LINES = 10


def section(judged: Mapping[str, Sequence[Judged]]) -> str:
    """The first section of a report, in markdown: a line of totals, and at most `LINES` - 1 more.

    What counts and holds is known, at the rate that its null passes; what counts and does not hold is known to be
    false as stated; what does not count is not known either way. Studies have a line each; where there are more of
    them than lines, the last line has the rest.

    Args:
      judged: {study: its claims}.
    """
    every = [one for claims in judged.values() for one in claims]
    counted = [one for one in every if one.counted]
    holding = sum(bool(one.check.holds) for one in counted)
    total = f"{len(counted)} of {len(every)} claims count: {holding} hold, {len(counted) - holding} do not."
    if counted:
        highest = max(one.rate for one in counted if one.rate is not None)
        total += f" Without its effect, a claim that counts would hold in at most {highest:.1%} of draws."
    open_ones = Counter(_short(reason) for one in every for reason in one.reasons)
    if open_ones:
        shown = ", ".join(f"{reason} ({count})" for reason, count in open_ones.most_common())
        total += f" {len(every) - len(counted)} do not count: {shown}."
    studies = list(judged.items())
    room = LINES - 1 if len(studies) <= LINES - 1 else LINES - 2
    lines = [f"- {total}", *(_line(name, claims) for name, claims in studies[:room])]
    if studies[room:]:
        rest = "; ".join(f"{name}: {_counts(claims)}" for name, claims in studies[room:])
        lines.append(f"- Of the others: {rest}.")
    return "\n".join(["## What is known", "", *lines, ""])


def _line(name: str, claims: Sequence[Judged]) -> str:
    counted = [one for one in claims if one.counted]
    known = [f"{one.claim.statement} ({one.rate:.1%})" for one in counted if one.check.holds]
    false = [one.claim.statement for one in counted if not one.check.holds]
    parts = [f"known: {'; '.join(known) or 'nothing'}"]
    if false:
        parts.append(f"false as stated: {'; '.join(false)}")
    unknown = [one.claim.statement for one in claims if not one.counted]
    if unknown:
        parts.append(f"not known: {'; '.join(unknown) if known or false else f'all {len(unknown)} claims'}")
    return f"- **{name}** ({_counts(claims)}) — {'. '.join(part[0].upper() + part[1:] for part in parts)}."


def _counts(claims: Sequence[Judged]) -> str:
    counted = [one for one in claims if one.counted]
    holding = sum(bool(one.check.holds) for one in counted)
    return f"{holding} hold, {len(counted) - holding} fail, {len(claims) - len(counted)} not counted"


def _short(reason: str) -> str:
    """A reason without its figures."""
    return reason.partition(":")[0]
