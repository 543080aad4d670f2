"""What the figures of a run are drawn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

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
        """The run's parameters, for the footers."""
        keys = ("env", "policy", "mi_coef", "num_modes", "seeds", "episodes")
        return {key: self.found["run"][key] for key in keys}

    @property
    def point_labels(self) -> dict[int, str]:
        """A label of each sweep point."""
        return {i: table.point_label(point["values"]) for i, point in enumerate(self.found["points"])}

    def evaluated(self) -> Iterator[tuple[str, StageResult, dict[str, Any], Rollouts | None]]:
        """(label, result, metrics, episodes of the first seed) of every stage and sweep point."""
        for name, result in self.results.items():
            for point, entry in enumerate(self.found["points"]):
                label = name if len(self.found["points"]) == 1 else f"{name}_point{point}"
                yield label, result, entry["stages"][name], result.run(point, 0)
