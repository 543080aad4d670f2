"""The notebooks run from top to bottom, as plain code: they use nothing of IPython's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402

from tests.toys.landscape import unchecked  # noqa: E402
from tests.toys.products import spared

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))
RUNS = {"blog.ipynb": 2, "why.ipynb": 2, "keep.ipynb": 1}  # of their short form


def cells(name: str, kind: str) -> list[str]:
    book = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


@pytest.mark.heavy
@pytest.mark.parametrize("name", NAMES)
@spared("blog.ipynb")
def test_it_runs_shortened(name, tmp_path, monkeypatch):
    """In this process, which has imported everything and shares its compiled programs."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTEBOOK_BUDGET", "0.01")
    with unchecked():
        exec(compile("\n\n".join(cells(name, "code")), name, "exec"), {})
    assert pyplot.get_fignums()
    pyplot.close("all")
    assert len(list((tmp_path / "runs").rglob("summary.json"))) == RUNS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name, tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    code = "\n\n".join(cells(name, "code"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_kept_without_what_it_printed(name):
    book = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in book["cells"])
    assert cells(name, "markdown")[0].startswith("# ")
