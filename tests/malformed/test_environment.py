"""Whole processes: environment variables that cannot work, and what lands on stderr beside the one line."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.malformed import archives, damage, stores
from tests.toys.landscape import finished_run

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "configs" / "smoke.py"


def process(folder: Path, *argv: object, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **variables}
    command = [sys.executable, "-m", *map(str, argv)]
    return run(command, folder, environment)


def run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def line(folder: Path, *argv: object, **variables: str) -> str:
    """The one line of a process that ends with exit code 2."""
    done = process(folder, *argv, **variables)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (folder / "run").exists()
    return done.stderr


TRAIN = ("mmbc_jax.train", "--config", SMOKE, "--workdir", "run")


@pytest.mark.parametrize("name", ["bogus", pytest.param("rocm", marks=pytest.mark.slow)])
def test_a_platform_that_is_not_there(tmp_path, name):
    """JAX says it in two ways: of what it does not know, and of what it knows and does not have."""
    assert f"$JAX_PLATFORMS = '{name}'" in line(tmp_path, *TRAIN, JAX_PLATFORMS=name)


def test_a_library_that_cannot_be_imported(tmp_path):
    said = line(tmp_path, *TRAIN, "--config.env.name=avoiding", MUJOCO_GL="bogus")
    assert "config.env.name = 'avoiding'" in said
    assert "MUJOCO_GL" in said


@pytest.mark.slow
def test_a_folder_of_data_that_is_not_there(tmp_path):
    data = ("--config.data.path=$MMBC_DATA/demos.npz", "--config.stages=bc")
    said = line(tmp_path, *TRAIN, *data, MMBC_DATA="/no/such/folder")
    assert "no data at '/no/such/folder/demos.npz'" in said
    assert "MMBC_DATA is '/no/such/folder'" in said


@pytest.mark.slow
def test_processes_whose_number_is_no_number(tmp_path):
    said = line(tmp_path, *TRAIN, JAX_COORDINATOR_ADDRESS="localhost:1", JAX_NUM_PROCESSES="two")
    assert "$JAX_NUM_PROCESSES = 'two' is not a whole number" in said


@pytest.mark.slow
def test_a_damaged_store_is_one_line(tmp_path):
    """Zarr's own tasks have words of theirs for it."""
    pytest.importorskip("zarr")
    path = stores.zarr_store(tmp_path / "a.zip", archives.GOOD)
    data = bytearray(path.read_bytes())
    at = data.index(b'"shape"')
    data[at : at + 7] = b'"shepe"'
    path.write_bytes(bytes(data))
    assert "a.zip" in line(tmp_path, *TRAIN, "--config.stages=bc", f"--config.data.path={path}")


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    workdir = damage.prepared(finished_run(), tmp_path / "old")
    damage.kinds()["state/manifest.ocdbt zeros"](workdir)
    assert "is damaged" in line(tmp_path, "mmbc_jax.evaluate", "--checkpoint", workdir)


SLOW = pytest.mark.slow
SMALL = (
    "--config.stages=bc",
    "--config.bc.steps=8",
    "--config.bc.steps_per_epoch=8",
    "--config.bc.steps_per_row=8",
)
SMALL += ("--config.bc.warmup_steps=0", "--config.data.episodes=8", "--config.evaluation.episodes=8")
SMALL += ("--config.evaluation.paths=8", "--config.figures=mode_shares")


@pytest.mark.slow
@pytest.mark.parametrize(
    "cache", ["file/cache", pytest.param("/proc/no/cache", marks=SLOW), pytest.param("file", marks=SLOW)]
)
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, cache):
    (tmp_path / "file").write_text("mine")
    done = process(tmp_path, *TRAIN, *SMALL, JAX_COMPILATION_CACHE_DIR=cache)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "summary.json").exists()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("umask", "allowed"), [(0o000, 0o775), pytest.param(0o022, 0o755, marks=SLOW), (0o077, 0o700)]
)
def test_who_may_write_a_run(tmp_path, umask, allowed):
    """Never everybody; else as the umask says, for files of every library that writes some."""
    script = "import os, sys; os.umask(int(sys.argv.pop(1))); "
    script += "from mmbc_jax import cli, train; cli.run_main(train.main)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", script, str(umask), *map(str, TRAIN[1:]), *SMALL]
    done = run(command, tmp_path, environment)
    assert done.returncode == 0, done.stderr
    found = [tmp_path / "run", *(tmp_path / "run").rglob("*")]
    assert len(found) > 20
    for path in found:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert not mode & ~(allowed if path.is_dir() else allowed & 0o666), (path, oct(mode))
        assert mode & 0o600 == 0o600, (path, oct(mode))
    shared = stat.S_IMODE((tmp_path / "run" / "summary.json").stat().st_mode)
    assert shared == allowed & 0o666 & ~umask
