"""What writes the rows of a run besides `metrics.jsonl`, for other programs to show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.registry import chosen_names
from mmbc_jax.runs.grid import Grid

Row = dict[str, Any]
AXES = ("stage", "step", "point", "seed")
"""What every row has besides its scalars `group/name`."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a logger writes, and what it calls runs.

    Attributes:
      workdir: of the run.
      stages: whose rows it gets, where others log theirs beside it; None for all.
      name: of a run by (stage, point, seed).
    """

    workdir: Path
    stages: tuple[str, ...] | None = None
    name: Callable[[str, int, int], str] = lambda stage, point, seed: f"{stage}/point={point}/seed={seed}"

    def of(self, row: Mapping[str, Any]) -> str:
        """The name of the run that a row is of, such as `finetune/mi_coef=0.5/seed=0`."""
        return self.name(row["stage"], row["point"], row["seed"])


@dataclasses.dataclass(frozen=True)
class EndedRun:
    """What one seed of one sweep point found.

    Attributes:
      name: such as `mi_coef=0.5/seed=0`.
      hparams: {dotted field: value} of what is not as in the neutral configuration, with swept values and the seed.
      metrics: {`stage/metric`: value} of the finished stages, finite.
    """

    name: str
    hparams: Mapping[str, Any]
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Ended:
    """What is known when a run has ended.

    Attributes:
      config: all of it, as text.
      runs: of the grid.
      figures: PNG files.
    """

    config: str
    runs: Sequence[EndedRun]
    figures: Sequence[Path]


class Logger(Protocol):
    """Takes rows in the order in which they are written; everything happens in one thread.

    A run that continues restarts it and adds all rows again up to where it continues from.
    """

    def restart(self) -> None:
        """Begins with nothing: what there is of its stages is removed, or is known to be there."""
        ...

    def add(self, row: Row) -> None:
        """Takes a row: `AXES` and scalars named `group/name`, of which some may not be finite."""
        ...

    def flush(self) -> None:
        """Writes what was added."""
        ...

    def finish(self, ended: Ended) -> None:
        """Writes what is known at the end; called again where a finished run is repeated."""
        ...


def make_loggers(config: ConfigDict, place: Place) -> list[Logger]:
    """The loggers that a configuration names.

    Raises:
      ConfigError: one is unknown.
      UserError: a package is missing.
    """
    found = []
    for name in chosen_names("logger", config.loggers, "loggers"):
        plugin = registry.find("logger", name, "loggers")
        found.append(plugin(plugin.default_config(), place))
    return found


def namer(grid: Grid, traced: Mapping[str, Sequence[str]]) -> Callable[[str, int, int], str]:
    """Names runs by the swept values that their stage depends on: `finetune/mi_coef=0.5/seed=0`.

    Args:
      grid: of the run.
      traced: {stage: dotted fields that it and those before it depend on}.
    """

    def name(stage: str, point: int, seed: int) -> str:
        return "/".join((stage, *_values(grid, point, traced.get(stage, grid.paths)), f"seed={seed}"))

    return name


def run_name(grid: Grid, point: int, seed: int) -> str:
    """`mi_coef=0.5/seed=0` of a point and a seed."""
    return "/".join((*_values(grid, point, grid.paths), f"seed={seed}"))


def _values(grid: Grid, point: int, among: Sequence[str]) -> list[str]:
    """`field=value` of each swept field, the last part of its path where that tells it apart."""
    last = [path.rsplit(".", 1)[-1] for path in grid.paths]
    return [
        f"{short if last.count(short) == 1 else path}={value:.6g}"
        for path, short, value in zip(grid.paths, last, grid.points[point], strict=True)
        if path in among
    ]
