"""What the figures of a run are drawn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mmbc_jax.core.types import Rollouts
from mmbc_jax.evaluation.results import StageResult
from mmbc_jax.report import table
from mmbc_jax.runs.setup import Setup

Draw = Callable[["Finished"], Iterator[tuple[str, Figure]]]
"""A figure plug-in as built: (name of the file without its ending, figure) of every picture there is to draw."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run, or an evaluation, whose figures are drawn.

    Attributes:
      setup: of the run.
      results: by stage.
      found: its summary.
      rows: of `metrics.jsonl`; empty for an evaluation.
    """

    setup: Setup
    results: Mapping[str, StageResult]
    found: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """The run's parameters, for the footers; those that a sweep varies are left out."""
        keys = ("env", "policy", "mi_coef", "num_modes", "seeds", "episodes")
        swept = {path.rsplit(".", 1)[-1] for path in self.found["points"][0]["values"]}
        return {key: self.found["run"][key] for key in keys if key not in swept}

    @property
    def point_labels(self) -> dict[int, str]:
        """A label of each sweep point."""
        return {i: table.point_label(point["values"]) for i, point in enumerate(self.found["points"])}

    def distinct(self, stage: str) -> list[int]:
        """Sweep points whose runs of a stage differ, the first of those that share them; just 0 without a sweep.

        Without those whose runs have all diverged.
        """
        _, first = np.unique(self.results[stage].index, axis=0, return_index=True)
        return sorted(int(point) for point in first if self._healthy(stage, int(point)))

    def _healthy(self, stage: str, point: int) -> list[int]:
        """Indices of the seeds of a point that have figures."""
        result = self.results[stage]
        gone = {(point, seed) for point, seed, _ in result.facts.get("stopped", ())}
        seeds = self.found["run"]["seeds"]
        return [i for i, seed in enumerate(seeds) if (point, seed) not in gone]

    @property
    def swept(self) -> dict[str, list[int]]:
        """{stage: its distinct points} where there are more of them than get pictures of their own."""
        most = self.setup.config.figures_per_point
        points = {name: self.distinct(name) for name in self.results}
        return {name: own for name, own in points.items() if len(own) > most}

    def evaluated(self) -> Iterator[tuple[str, StageResult, dict[str, Any], Rollouts | None]]:
        """(label, result, metrics, episodes of a seed) of what gets a picture of its own.

        That is every stage at each of its distinct sweep points, but for the stages in `swept`; the seed is the first
        that has not diverged.
        """
        for label, (name, point) in self.pictured.items():
            yield label, self.results[name], self.metrics(name, point), self.shown(name, point)

    @property
    def pictured(self) -> dict[str, tuple[str, int]]:
        """{label: (stage, sweep point)} of what `evaluated` gives."""
        found: dict[str, tuple[str, int]] = {}
        for name in (name for name in self.results if name not in self.swept):
            points = self.distinct(name)
            found |= {name if len(points) == 1 else f"{name}_point{point}": (name, point) for point in points}
        return found

    def row(self, stage: str, point: int) -> int:
        """Of a stage's runs the number of the first seed of a point that has not diverged."""
        return int(self.results[stage].index[point, self._healthy(stage, point)[0]])

    def shown(self, stage: str, point: int) -> Rollouts | None:
        """Episodes of the first seed of a point that has not diverged."""
        return self.results[stage].run(point, self._healthy(stage, point)[0])

    def metrics(self, stage: str, point: int) -> dict[str, Any]:
        """A stage's entry of the summary at a sweep point."""
        found: dict[str, Any] = self.found["points"][point]["stages"][stage]
        return found
