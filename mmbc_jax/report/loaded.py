"""A finished run read back from its work directory, to be looked at."""

from __future__ import annotations

from pathlib import Path

from mmbc_jax.core.config import from_plain
from mmbc_jax.core.errors import DataError, WorkdirError
from mmbc_jax.core.files import read_json, read_sealed
from mmbc_jax.evaluation.results import load_result
from mmbc_jax.report.finished import Finished
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.logs import read_rows
from mmbc_jax.runs.sections import completed


def loaded(workdir: Path) -> Finished:
    """What a run in a work directory found.

    Raises:
      WorkdirError: there is no finished run.
      UserError: its configuration cannot be built here.
    """
    workdir = Path(workdir)
    if not (workdir / "config.json").exists():
        raise WorkdirError(f"{workdir} must be the work directory of a run; it holds no config.json")
    if not (workdir / "summary.json").exists():
        raise WorkdirError(
            f"{workdir} must be a finished run; it has no summary.json yet: repeat its command, which continues it"
        )
    try:
        config = completed(from_plain(read_sealed(workdir / "config.json")))
        found = read_json(workdir / "summary.json")
    except DataError as error:
        raise WorkdirError(f"{error}; repeat the run's command, which writes it anew") from error
    results = {name: result for name in found["stages"] if (result := load_result(workdir, name)) is not None}
    missing = [name for name in found["stages"] if name not in results]
    if missing:
        raise WorkdirError(
            f"{workdir}: the results of {', '.join(missing)} are damaged or gone; repeat the run's command"
        )
    rows = read_rows(workdir / "metrics.jsonl") if (workdir / "metrics.jsonl").exists() else []
    return Finished(setup_lib.build(config), results, found, rows)
