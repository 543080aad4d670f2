r"""Success per mode against the strength of a perturbation.

What a command means is settled without the perturbation: z means mode k where at least 80 % of its successes, of at
least 5, end in k (`attribution.commanded`). Of the episodes that are told to take mode k,

  SR_k(strength) = successes in mode k under the z that mean k / episodes under these z

so an episode that evades to another mode counts against k. A policy of one z is told nothing: there SR_k is the share
of all episodes that succeed in k, for every mode that is kept without the perturbation, and these sum to its success.

A seed in which nothing means k has no SR_k. The interval is Wilson's of its episodes with one seed, else that over
seeds (`ops.intervals.over_seeds`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmbc_jax.diagnostics.attribution import commanded
from mmbc_jax.diagnostics.modes import KEPT_SHARE
from mmbc_jax.ops.intervals import over_seeds, wilson

OF = "="
"""Between the name of a sweep over strengths and the strength, in the name of a setting."""
Metrics = Mapping[str, Any]


def told(own: np.ndarray) -> np.ndarray:
    """[Z, K] bool whether z asks for mode k, of the episodes [Z, K + 1] that were not perturbed."""
    wins = own[:, :-1]
    if len(own) == 1:
        return wins / np.maximum(wins.sum(), 1) >= KEPT_SHARE
    return commanded(wins)[:, None] == np.arange(wins.shape[1])


def success_as_told(own: np.ndarray, played: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(successes [K], episodes [K]) of the module docstring, of tables [Z, K + 1] without and with it."""
    asked = told(own)
    return np.where(asked, played[:, :-1], 0).sum(0), np.where(asked, played.sum(1)[:, None], 0).sum(0)


def pooled(won: Sequence[int], tried: Sequence[int]) -> dict[str, Any] | None:
    """`{"mean", "per_seed", "ci95", "n"}` of a share over seeds, n the fewest episodes; None where none has any."""
    rates = [w / n if n else None for w, n in zip(won, tried, strict=True)]
    known = [rate for rate in rates if rate is not None]
    if not known:
        return None
    if len(known) > 1:
        interval = over_seeds(known, (0.0, 1.0), min(n for n in tried if n))
    else:
        interval = wilson(sum(won), sum(tried))
    return {
        "mean": float(np.mean(known)),
        "per_seed": rates,
        "ci95": list(interval),
        "n": int(min(n for n in tried if n)),
    }


def sweeps_of(settings: Sequence[str]) -> dict[str, list[tuple[float, str]]]:
    """{name of a sweep: (strength, setting) by strength} among the names of settings."""
    found: dict[str, list[tuple[float, str]]] = {}
    for setting in settings:
        name, of, strength = setting.partition(OF)
        if of:
            found.setdefault(name, []).append((float(strength), setting))
    return {name: sorted(each) for name, each in found.items()}


def success_by_strength(
    own: Sequence[Metrics], shifted: Sequence[Mapping[str, Metrics]]
) -> dict[str, dict[str, Any]]:
    """Success per mode of every sweep among the settings that a stage was played under.

    Args:
      own: metrics of each seed without a perturbation.
      shifted: {setting: metrics} of each seed.

    Returns:
      {name: {"strengths" [n], "settings" [n], "success_per_mode" [K][n]}}, an entry as from `pooled` or None; []
      where the environment labels no modes. Seeds that diverged have no tables, and no part in it.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, each in sweeps_of(list(shifted[0]) if shifted else []).items():
        counts = []
        for _, setting in each:
            tables = [
                (np.asarray(mine["z_mode_table"]), np.asarray(theirs[setting]["z_mode_table"]))
                for mine, theirs in zip(own, shifted, strict=True)
                if mine.get("z_mode_table") and theirs[setting].get("z_mode_table")
            ]
            counts.append([success_as_told(*pair) for pair in tables])
        modes = len(counts[0][0][0]) if counts[0] else 0
        found[name] = {
            "strengths": [strength for strength, _ in each],
            "settings": [setting for _, setting in each],
            "success_per_mode": [
                [pooled([int(w[k]) for w, _ in seeds], [int(n[k]) for _, n in seeds]) for seeds in counts]
                for k in range(modes)
            ],
        }
    return found
