"""What loggers are told at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmbc_jax.evaluation.results import StageResult, scalars
from mmbc_jax.runs.grid import Grid
from mmbc_jax.runs.logger import Ended, EndedRun, run_name
from mmbc_jax.runs.sections import neutral
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.workdir import changed


def ended(setup: Setup, grid: Grid, results: Mapping[str, StageResult], figures: Path) -> Ended:
    """The configuration, the final figures of every run of the grid, and the pictures in a folder."""
    differs = changed(neutral(setup.config).to_dict(), setup.config.to_dict())
    chosen = {field: now for field, _, now in differs if now is not None}
    runs = []
    for point in range(len(grid.points)):
        for index, seed in enumerate(grid.seeds):
            metrics = {
                f"{name}/{metric}": value
                for name, result in results.items()
                for metric, value in scalars(result.metrics[int(result.index[point, index])]).items()
            }
            hparams = {**chosen, **grid.values(point), "seed": seed}
            runs.append(EndedRun(run_name(grid, point, seed), hparams, metrics))
    return Ended(str(setup.config), runs, sorted(figures.glob("*.png")))
