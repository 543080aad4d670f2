r"""Success per mode: which mode a failed episode attempted, and what can be said where nobody knows.

Only a successful episode carries a mode. A failed one is *attributed* to a mode where

- the environment says which one it came nearest to (the metric `nearest_mode` at its end), or else
- its command z means one: of several z, this one has at least 5 successes, at least 80 % of them in one mode. That is
  an inference.

With S_k the successes and F_k the attributed failures of mode k, `SR_k = S_k / (S_k + F_k)`, and 0 for a mode that is
not kept. `sr_m` is the mean of SR_k over all K modes, `mc_08` the share of them with SR_k >= 0.8. These exist only
where *every* failure is attributed, mc_08 also where its bounds agree: one z, or one that is spread over modes, tells
nothing of what its failures attempted, and spreading them evenly would give the overall success rate to each mode,
mastered or not.

**Bounds** hold without the inference: over every way of charging the failures that the environment does not label,
U of them, to the K modes. With F_k those that it does label,

- mc_08: a kept mode stays at 0.8 with `c_k = floor(S_k / 4) - F_k` further failures, if c_k >= 0. Worst: spend
  `c_k + 1` on the modes with the least c_k first. Best: all K' such modes, if some other mode can take all U or
  `U <= sum_k c_k`; else K' - 1, one of them takes all.
- sr_m: a sum of convex functions of the charges. Its largest value lies at a corner, all U in one mode; its
  smallest is reached by charging one failure after the other where it costs most.
- SR_k: `S_k / (S_k + F_k + U)` and, where there is another mode to charge, `S_k / (S_k + F_k)`.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

PURITY = 0.8
MIN_SUCCESSES = 5
MASTERED = 0.8
LABEL = "nearest_mode"
KEYS = (
    "success_per_mode", "sr_m", "mc_08", "success_per_mode_bounds", "sr_m_bounds", "mc_08_bounds",
    "failures_attributed",
)  # fmt: skip


def commanded(wins: np.ndarray) -> np.ndarray:
    """[Z] the mode that each z commands: the one with at least 80 % of its successes, of at least 5; else -1.

    Args:
      wins: [Z, K] successes by command and mode.
    """
    per_z = wins.sum(1)
    owns = (per_z >= MIN_SUCCESSES) & (wins.max(1) / np.maximum(per_z, 1) >= PURITY)
    return np.where(owns, wins.argmax(1), -1)


def success_by_mode(table: np.ndarray, attempts: np.ndarray, kept: np.ndarray) -> dict[str, Any]:
    """The figures and bounds of the module's docstring.

    Args:
      table: [Z, K + 1] episodes by command and mode, failures in the last column.
      attempts: [Z, K] those failures whose attempted mode the environment says.
      kept: [K] bool, modes that are kept.

    Returns:
      `KEYS`: `success_per_mode` [K], `sr_m`, `mc_08`, None where they cannot be told; `..._bounds`, of the
      lowest and the highest value ([K][2] for `success_per_mode_bounds`); `failures_attributed`, the share of the
      failures that are, 1 where there are none.
    """
    wins = np.where(kept, table[:, :-1].sum(0), 0)
    failures, unknown = int(table[:, -1].sum()), table[:, -1] - attempts.sum(1)
    known, means = attempts.sum(0), commanded(table[:, :-1])
    if len(table) == 1:
        means = np.full(1, -1)  # a single z is no command
    found: dict[str, Any] = dict.fromkeys(KEYS)
    missing = int(unknown[means < 0].sum())
    if missing == 0:
        charged = known.copy()
        np.add.at(charged, means[means >= 0], unknown[means >= 0])
        rate = _rate(wins, charged)
        found["success_per_mode"] = rate.tolist()
        found["sr_m"] = float(rate.mean())
        found["mc_08"] = float(
            (rate >= MASTERED - 1e-9).mean()
        )  # a rate of exactly 0.8 counts, rounding aside
    free = int(unknown.sum())
    found["failures_attributed"] = 1.0 - missing / failures if failures else 1.0
    lowest = _rate(wins, known + free)
    highest = _rate(wins, known) if wins.size > 1 else lowest
    found["success_per_mode_bounds"] = np.stack([lowest, highest], 1).tolist()
    found["sr_m_bounds"] = _mean_bounds(wins, known, free)
    found["mc_08_bounds"] = least, most = _mastered_bounds(wins, known, free)
    if least == most:
        found["mc_08"] = least
    return found


def _rate(wins: np.ndarray, failed: np.ndarray) -> np.ndarray:
    return wins / np.maximum(wins + failed, 1)


def _mastered_bounds(wins: np.ndarray, known: np.ndarray, free: int) -> list[float]:
    """[lowest, highest] share of modes at 0.8, over every way of charging `free` failures."""
    slack = wins // 4 - known  # S / (S + F) >= 4/5 is F <= S/4
    slack = np.sort(slack[(wins > 0) & (slack >= 0)])
    mastered = len(slack)
    lost = int((np.cumsum(slack + 1) <= free).sum())
    full = mastered == wins.size and free > slack.sum()  # nowhere to put them but on a mastered mode
    return [(mastered - lost) / wins.size, (mastered - int(full)) / wins.size]


def _mean_bounds(wins: np.ndarray, known: np.ndarray, free: int) -> list[float]:
    """[lowest, highest] mean rate over every way of charging `free` failures."""
    rate = _rate(wins, known)
    highest = float((rate.sum() + (_rate(wins, known + free) - rate).max()) / wins.size)
    charged = known.copy()

    def cost(mode: int) -> tuple[float, int]:
        here = wins[mode] / max(wins[mode] + charged[mode], 1)
        return wins[mode] / (wins[mode] + charged[mode] + 1) - here, mode

    queue = [cost(int(mode)) for mode in np.flatnonzero(wins)]
    heapq.heapify(queue)
    for _ in range(free if queue else 0):
        _, mode = queue[0]
        charged[mode] += 1
        heapq.heapreplace(queue, cost(mode))
    return [float(_rate(wins, charged).mean()), highest]
