"""Weights & Biases, a run there for each run here: curves, the configuration, final figures and pictures.

Whether it sends anything is for its own variables to say: `WANDB_MODE=offline` keeps everything in `wandb/` of
the work directory, `WANDB_PROJECT` names the project. What it has been given cannot be taken back. So the rows that
it has are counted in a file of each run in `wandb/`, and a run that continues adds those that follow; they are the
same ones, since a continued run is the same.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any

from mmbc_jax.core.errors import DataError
from mmbc_jax.core.extras import imported
from mmbc_jax.core.files import read_json, write_json
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.runs.logger import AXES, Ended, Place, Row

_PROJECT = "mmbc_jax"


class WeightsAndBiases:
    """Logs to the library.

    Args:
      place: where.
      library: the module `wandb`.
    """

    def __init__(self, place: Place, library: Any):
        self._place, self._library = place, library
        self._gathered: dict[str, list[Row]] = {}
        self._given: dict[str, int] = {}
        self._runs: dict[str, Any] = {}

    def restart(self) -> None:
        """Counts again the rows that are given to it."""
        self._gathered.clear()
        self._given.clear()

    def add(self, row: Row) -> None:
        """Gathers a row that the library does not have yet."""
        run = self._place.of(row)
        self._given[run] = self._given.get(run, 0) + 1
        if self._given[run] > self._sent(run):
            self._gathered.setdefault(run, []).append(row)

    def flush(self) -> None:
        """Hands over what has gathered."""
        for name, rows in self._gathered.items():
            for row in rows:
                values = {
                    key: value
                    for key, value in row.items()
                    if key not in AXES and isinstance(value, (int, float)) and math.isfinite(value)
                }
                self._run(name).log({**values, "step": row["step"]})
            if rows:
                _write_count(self._counts(name), self._given[name])
            rows.clear()

    def finish(self, ended: Ended) -> None:
        """The configuration, final figures and pictures as a run of its own for each seed and sweep point."""
        for one in ended.runs:
            run = self._run(f"results/{one.name}")
            run.config.update({"config": ended.config, **one.hparams}, allow_val_change=True)
            run.summary.update(dict(one.metrics))
            run.log({f"figures/{path.stem}": self._library.Image(str(path)) for path in ended.figures})
        for run in self._runs.values():
            run.finish()
        self._runs.clear()

    def _run(self, name: str) -> Any:
        if name not in self._runs:
            folder = self._place.workdir.resolve()
            (folder / "wandb").mkdir(exist_ok=True)
            settings: dict[str, Any] = {"dir": str(folder), "group": folder.name, "name": name}
            settings |= {"id": _identity(folder, name), "resume": "allow", "reinit": "create_new"}
            self._runs[name] = self._library.init(project=_project(), **settings)
            self._runs[name].define_metric("*", step_metric="step")
        return self._runs[name]

    def _counts(self, name: str) -> Path:
        return self._place.workdir / "wandb" / f"{_identity(self._place.workdir.resolve(), name)}.json"

    def _sent(self, name: str) -> int:
        try:
            return int(read_json(self._counts(name))["rows"]) if self._counts(name).exists() else 0
        except (DataError, KeyError, ValueError):
            return 0


def _write_count(path: Path, rows: int) -> None:
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"rows": rows})


def _project() -> str:
    return os.environ.get("WANDB_PROJECT") or _PROJECT


def _identity(folder: Path, name: str) -> str:
    """Of a run on the service: the same when it continues."""
    return hashlib.sha256(f"{folder}/{name}".encode()).hexdigest()[:16]


@register("logger", Options)
def build(options: Options, place: Place) -> WeightsAndBiases:
    """Raises UserError where the package is missing."""
    return WeightsAndBiases(place, imported("wandb", "wandb", "loggers = wandb:"))
