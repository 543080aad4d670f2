"""Writes docs/results/verdicts.md: verdicts on policies that fail by construction.

python -m scripts.verdict_table
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from mmbc_jax.diagnostics.verdict import HELD, MECHANISMS
from mmbc_jax.ops.intervals import wilson
from tests.diagnostics._planted import ONE, TWO, Judged, judged

PAGE = Path(__file__).parents[1] / "docs" / "results" / "verdicts.md"
SINGLES, PAIRS, SEED = 200, 140, 0
_INTRO = """# Verdicts on planted failures

    python -m scripts.verdict_table

Each policy is built to fail by one mechanism, or by two, on a fan of K = 1 to 8 noisy paths, and looked at through
the real instruments (`bridges`, `capacity`, `coverage`, `drift`, `information`; 256 samples at one observation with
128 demonstrations) and 256 episodes. Geometry, K, noise, strength of the failure, data and episodes are drawn anew
for each; in three of ten cases of none, averaging, bridges and dispersion the demonstrations have no labels. The
policies are in `tests/diagnostics/_planted.py`. Success of the demonstrations is 1. What this table can not show: the
rules were written with such policies in mind, and a trained network fails less cleanly.
"""


def share(found: Sequence[Judged], good: Sequence[bool]) -> str:
    """n of N, and the share with its Wilson interval."""
    low, high = wilson(sum(good), len(found))
    return f"{sum(good)} of {len(found)}, {sum(good) / len(found):.3f} [{low:.3f}, {high:.3f}]"


def confusion(found: Sequence[Judged], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A row per planted mechanism or pair, a column per verdict; episodes' success and n at the end."""
    named = [name for name in MECHANISMS if any(one.verdict.mechanism == name for one in found)]
    lines = [f"| planted | {' | '.join(named)} | success | n |", f"|---|{'---:|' * (len(named) + 2)}"]
    for row in rows:
        own = [one for one in found if one.planted == row]
        said = [one.verdict.mechanism for one in own]
        counts = [str(said.count(name) or "") for name in named]
        success = [one.success for one in own]
        span = f"{min(success):.2f} to {max(success):.2f}"
        lines.append(f"| {' + '.join(row)} | {' | '.join(counts)} | {span} | {len(own)} |")
    return lines


def page() -> str:
    """The text of the page."""
    singles, pairs = judged(SINGLES, seed=SEED), judged(PAIRS, pairs=True, seed=SEED)
    both = [*singles, *pairs]
    lost = [one for one in both if one.success < HELD]
    silent = [one.verdict.mechanism == "none" for one in lost]
    return "\n".join(
        [
            _INTRO,
            f"Seeds {SEED} to {SEED + SINGLES - 1} and {SEED} to {SEED + PAIRS - 1}.",
            "",
            f"- one mechanism, named: {share(singles, [one.right for one in singles])}",
            f"- two mechanisms, one of them named: {share(pairs, [one.right for one in pairs])}",
            f"- two mechanisms, both with a score of 1 or more: {share(pairs, [one.shown for one in pairs])}",
            f'- "none" at a success below {HELD} of the demonstrations\': {sum(silent)} of {len(lost)}',
            "",
            "## One mechanism",
            "",
            *confusion(singles, [(name,) for name in ONE]),
            "",
            "## Two mechanisms",
            "",
            "One answer has neither a base nor a slope, so averaging pairs with drift alone; capacity and bridges "
            "exclude each other, as bridges are those of a transport that is steep enough.",
            "",
            *confusion(pairs, list(TWO)),
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
