"""Differences between stages that started from the same states."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmbc_jax.evaluation.results import StageResult
from mmbc_jax.ops.intervals import bootstrap, over_seeds

FIGURES = {"success_rate": ("success", (-1.0, 1.0)), "reward": ("reward", (-np.inf, np.inf))}
"""{figure: (field of the episodes, domain of a difference)}."""
PAIRED = {
    "success_rate": ("success", (-1.0, 1.0)),
    "mean_reward": ("reward", (-np.inf, np.inf)),
    "modes_kept": ("", (-np.inf, np.inf)),
    "mode_entropy": ("", (-1.0, 1.0)),
    "commandable": ("", (-np.inf, np.inf)),
    "mi_z_mode": ("", (-np.inf, np.inf)),
    "offline/loss": ("", (-np.inf, np.inf)),
}
"""{metric that runs are compared by: (field of the episodes, domain of a difference)}."""


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


def between_runs(
    a: StageResult, b: StageResult, seeds: Sequence[tuple[int, int]], same_starts: bool
) -> list[dict[str, Any]]:
    """The mean differences of a stage in two runs, over the seeds that both have; first sweep point.

    Args:
      a, b: the stage in each.
      seeds: (index in a, index in b) of every seed that both have.
      same_starts: whether episode i of a seed started from the same state in both; then it is compared with itself.

    Returns:
      `{"figure", "mean" of b - a, "ci95" or None, "seeds", "episodes"}`. The interval is that over seeds where there
      are several; of a single one the bootstrap's over its episodes, and None where these are no pairs.
    """
    found = []
    for figure, (field, domain) in PAIRED.items():
        pairs = [
            (a.metrics[int(a.index[0, i])].get(figure), b.metrics[int(b.index[0, j])].get(figure))
            for i, j in seeds
        ]
        means = [float(y - x) for x, y in pairs if x is not None and y is not None]
        if not means:
            continue
        interval, episodes = None, 0
        if len(means) > 1:
            interval = list(over_seeds(means, domain))
        elif same_starts and field and (values := _episode_by_episode(a, b, field, seeds)) is not None:
            interval, episodes = list(bootstrap(values)), len(values)
        entry = {"figure": figure, "mean": float(np.mean(means)), "ci95": interval, "seeds": len(means)}
        found.append({**entry, "episodes": episodes})
    return found


def _episode_by_episode(
    a: StageResult, b: StageResult, field: str, seeds: Sequence[tuple[int, int]]
) -> np.ndarray | None:
    ((i, j),) = seeds
    one, other = a.run(0, i), b.run(0, j)
    if one is None or other is None or len(one.success) != len(other.success):
        return None
    return np.asarray(getattr(other, field), np.float64) - np.asarray(getattr(one, field), np.float64)


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
        metrics = one.metrics[int(one.index[point, seed])]
        known = any(value is not None for name, value in metrics.items() if name != "n")
        if field == "success":  # a task may define none
            known = metrics.get("success_rate") is not None
        if episodes is None or not known:
            return None
        values.append(np.asarray(getattr(episodes, field), np.float64))
    return values[1] - values[0]
