"""What a stage leaves behind: metrics per run, facts of the run, and the evaluated episodes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmbc_jax.core.files import read_sealed, write_atomic, write_sealed
from mmbc_jax.core.types import Rollouts


@dataclasses.dataclass
class StageResult:
    """The result of a stage.

    Attributes:
      name: of the stage.
      num_modes: Z of the actor; 1 for a cloned policy.
      index: [S, N] run that each sweep point and seed uses.
      metrics: of each run, as from `diagnostics.modes.mode_metrics` and the offline metrics.
      facts: timings and sizes; they differ from machine to machine.
      rollouts: evaluated episodes, leading axis R; None without an environment.
    """

    name: str
    num_modes: int
    index: np.ndarray
    metrics: list[dict[str, Any]]
    facts: dict[str, Any]
    rollouts: Rollouts | None

    def run(self, point: int, seed: int) -> Rollouts | None:
        """The episodes of one sweep point and seed index."""
        if self.rollouts is None:
            return None
        run = int(self.index[point, seed])
        return jax.tree.map(lambda leaf: leaf[run], self.rollouts)


_FIELDS = tuple(field.name for field in dataclasses.fields(Rollouts) if field.name != "outcome")
_OUTCOME = "outcome."


def scalars(metrics: dict[str, Any]) -> dict[str, float]:
    """The numbers among a run's metrics that can be drawn as curves."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)
    }


def without_figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a run that has diverged: nothing is known but the number of episodes."""
    return {name: value if name == "n" else None for name, value in metrics.items()}


def save_result(workdir: Path, result: StageResult) -> None:
    """Writes `stages/<name>/`; the JSON comes last, so that its presence means the result is whole."""
    folder = Path(workdir) / "stages" / result.name
    folder.mkdir(parents=True, exist_ok=True)
    if result.rollouts is not None:
        arrays: dict[str, Any] = {name: np.asarray(getattr(result.rollouts, name)) for name in _FIELDS}
        arrays |= {_OUTCOME + name: np.asarray(values) for name, values in result.rollouts.outcome.items()}
        write_atomic(folder / "rollouts.npz", lambda file: np.savez_compressed(file, **arrays))
    value = {
        "name": result.name,
        "num_modes": result.num_modes,
        "index": result.index,
        "metrics": result.metrics,
        "facts": result.facts,
        "has_rollouts": result.rollouts is not None,
    }
    write_sealed(folder / "result.json", value)


def load_result(workdir: Path, name: str) -> StageResult | None:
    """What `save_result` wrote; None where the stage was not finished, or a file is missing or damaged."""
    folder = Path(workdir) / "stages" / name
    try:
        value = read_sealed(folder / "result.json")
        return StageResult(
            value["name"],
            int(value["num_modes"]),
            np.array(value["index"], np.int32),
            [dict(metrics) for metrics in value["metrics"]],
            dict(value["facts"]),
            _read_rollouts(folder / "rollouts.npz") if value["has_rollouts"] else None,
        )
    except Exception:  # whatever the damage: the final checkpoint is evaluated again
        return None


def _read_rollouts(path: Path) -> Rollouts:
    with np.load(path, allow_pickle=False) as arrays:
        outcome = {name.removeprefix(_OUTCOME): arrays[name] for name in arrays if name.startswith(_OUTCOME)}
        return Rollouts(**{field: arrays[field] for field in _FIELDS}, outcome=outcome)
