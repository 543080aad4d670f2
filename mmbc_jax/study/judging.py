"""What becomes of a study's claims: whether each holds, and whether that counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from mmbc_jax.study.cells import told_together
from mmbc_jax.study.frozen import Frozen
from mmbc_jax.study.nulls import LIMIT, null_rate
from mmbc_jax.study.plan import Check, Claim, Results, Study

MARK = {True: "holds", False: "**does not hold**", None: "no figures"}


@dataclasses.dataclass(frozen=True)
class Judged:
    """A claim with its outcome.

    Attributes:
      claim: the claim.
      check: whether it holds.
      rate: share of draws from its null that pass it; None where none is stated or figures are missing.
      reasons: why it does not count; empty where it does.
    """

    claim: Claim
    check: Check
    rate: float | None
    reasons: tuple[str, ...]

    @property
    def counted(self) -> bool:
        """Whether its outcome counts."""
        return not self.reasons

    @property
    def lines(self) -> list[str]:
        """In markdown: outcome, statement, evidence, its null, why it does not count, and its history."""
        claim, version = self.claim, f" (version {self.claim.version})" if self.claim.version > 1 else ""
        lines = [f"- {MARK[self.check.holds]}: {claim.statement}{version} — {self.check.evidence}"]
        if self.rate is not None:
            lines.append(f"  - supposing that {claim.supposing}, {self.rate:.1%} of draws pass")
        if self.reasons:
            lines.append(f"  - not counted: {'; '.join(self.reasons)}")
        lines += [f"  - version {c.version}: {c.failed}; {c.changed}; {c.why}" for c in claim.history]
        return lines

    @property
    def facts(self) -> dict[str, Any]:
        """For the JSON file beside the page."""
        return {
            "statement": self.claim.statement,
            "version": self.claim.version,
            "history": [dataclasses.asdict(change) for change in self.claim.history],
            "holds": self.check.holds,
            "evidence": self.check.evidence,
            "null": self.claim.supposing,
            "null_rate": self.rate,
            "counted": self.counted,
            "reasons": list(self.reasons),
        }


def judge(study: Study, results: Results, frozen: Frozen, missing: Sequence[str] = ()) -> list[Judged]:
    """Each claim of a study, judged.

    Args:
      study: with its claims and the file that states them.
      results: what was found.
      frozen: what was frozen before.
      missing: names of variants without a result; a claim that speaks of one does not count.
    """
    seeds, data_seeds = (
        {seed for entry in results.entries for seed in entry.run.get(name, ())}
        for name in ("seeds", "data_seeds")
    )
    seen = frozen.reason(study.source, seeds, data_seeds)
    found = []
    for claim in study.claims:
        check, rate = claim.check(results), null_rate(claim, results)
        reasons = [seen] if seen else []
        lost = [one.name for one in study.variants if one.name in missing and claim.speaks_of(one)]
        if check.holds is None:
            reasons.append("no figures")
        elif rate is None:
            reasons.append("no null is stated")
        elif rate > LIMIT:
            reasons.append(f"weak: a null passes {rate:.1%}")
        if lost and check.holds is not None:
            reasons.append(f"no result from {told_together(lost)}")
        found.append(Judged(claim, check, rate, tuple(reasons)))
    return found
