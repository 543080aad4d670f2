from __future__ import annotations

import pytest

from mmbc_jax.study import known
from mmbc_jax.study.judging import Judged
from mmbc_jax.study.plan import Check, Claim


def one(statement, holds=True, rate=0.01, *reasons):
    return Judged(Claim(statement, lambda results: Check(holds, "")), Check(holds, ""), rate, reasons)


HOLDS, FAILS = one("flow bridges"), one("it is capacity", False, 0.014)
WEAK, SEEN = (
    one("it rains", True, 0.5, "weak: a null passes 50.0%"),
    one("it snows", False, 0.0, "seen data: seeds 0"),
)


def lines(judged):
    return [line for line in known.section(judged).splitlines() if line.startswith("- ")]


def test_what_counts_and_what_does_not():
    total, first, second = lines({"radial": [HOLDS, FAILS, WEAK], "other": [SEEN]})
    assert total == (
        "- 2 of 4 claims count: 1 hold, 1 do not. Without its effect, a claim that counts would hold in at most 1.4% "
        "of draws. 2 do not count: weak (1), seen data (1)."
    )
    assert first == (
        "- **radial** (1 hold, 1 fail, 1 not counted) — Known: flow bridges (1.0%). False as stated: it is capacity. "
        "Not known: it rains."
    )
    assert second == "- **other** (0 hold, 0 fail, 1 not counted) — Known: nothing. Not known: all 1 claims."


def test_what_does_not_count_is_never_called_known():
    text = known.section({"radial": [WEAK, SEEN], "more": [HOLDS]})
    assert "0 fail" in text
    assert "it rains (" not in text
    assert "false as stated: it snows" not in text.lower()


@pytest.mark.parametrize("studies", [0, 1, 8, 9, 10, 25])
def test_it_takes_ten_lines_and_names_every_study(studies):
    judged = {f"study-{i}.": [HOLDS] for i in range(studies)}
    found = lines(judged)
    assert len(found) == min(studies + 1, known.LINES)
    assert all(name in "\n".join(found) for name in judged)
