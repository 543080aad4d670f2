"""Differences between stages that started from the same states."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmbc_jax.evaluation.results import StageResult
from mmbc_jax.ops.intervals import bootstrap, over_seeds

FIGURES = {"success_rate": ("success", (-1.0, 1.0)), "reward": ("reward", (-np.inf, np.inf))}


def between_stages(results: Mapping[str, StageResult], points: int) -> list[dict[str, Any]]:
    """The mean difference of success and reward between every two stages, episode by episode.

    Args:
      results: by stage, whose episode i started from the same state in all.
      points: sweep points.

    Returns:
      `{"point", "stages": [a, b], "figure", "mean" of b - a, "ci95", "episodes", "seeds"}`. The interval is that over
      seeds where there are several, else the bootstrap's over episodes. Runs that diverged are left out.
    """
    found = []
    for point, (a, b) in itertools.product(range(points), itertools.combinations(results, 2)):
        for figure, (field, domain) in FIGURES.items():
            pairs = [_difference(results[a], results[b], field, point, seed) for seed in _seeds(results[a])]
            known = [pair for pair in pairs if pair is not None]
            if not known:
                continue
            means = [float(pair.mean()) for pair in known]
            interval = over_seeds(means, domain) if len(means) > 1 else bootstrap(known[0])
            entry = {"point": point, "stages": [a, b], "figure": figure, "mean": float(np.mean(means))}
            found.append({**entry, "ci95": list(interval), "episodes": len(known[0]), "seeds": len(known)})
    return found


def lines(found: list[dict[str, Any]]) -> list[str]:
    """The differences of success in words, a line each."""
    return [
        f"{entry['stages'][1]} - {entry['stages'][0]}, from the same {entry['episodes']} starts"
        + (f" (point {entry['point']})" if entry["point"] else "")
        + f": success {entry['mean']:+.3f} [{entry['ci95'][0]:+.3f}, {entry['ci95'][1]:+.3f}]"
        for entry in found
        if entry["figure"] == "success_rate"
    ]


def _seeds(result: StageResult) -> range:
    return range(result.index.shape[1])


def _difference(a: StageResult, b: StageResult, field: str, point: int, seed: int) -> np.ndarray | None:
    """[B] b - a of one sweep point and seed; None where one has no episodes or no figures."""
    values = []
    for one in (a, b):
        episodes = one.run(point, seed)
        known = one.metrics[int(one.index[point, seed])].get("success_rate") is not None
        if episodes is None or not known:
            return None
        values.append(np.asarray(getattr(episodes, field), np.float64))
    return values[1] - values[0]
