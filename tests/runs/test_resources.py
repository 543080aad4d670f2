from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from mmbc_jax import train
from mmbc_jax.core.config import apply_overrides
from mmbc_jax.core.errors import ConfigError, UserError
from mmbc_jax.runs import resources
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.grid import config_grid
from mmbc_jax.runs.loop import StageLoop
from mmbc_jax.runs.resources import available_bytes, check_sizes, ran_out
from mmbc_jax.runs.stages import make_stages
from mmbc_jax.runs.templates import template_of
from tests.toys.landscape import config_file, results_json, toy_config, toy_pipeline, toy_run, unchecked

ROOT = Path(__file__).parents[2]


def test_available_memory_is_that_of_the_machine():
    with open("/proc/meminfo", encoding="ascii") as lines:
        total = int(next(line for line in lines if line.startswith("MemTotal")).split()[1]) * 1024
    assert 0 < available_bytes() <= total


def test_a_states_bytes_are_those_of_its_arrays():
    """flow, 8 hidden units: 4 bytes each, of parameters, average, two moments."""
    stages = make_stages(setup_lib.build(toy_config()), ("bc",))
    state = template_of(stages["bc"], 3, own_scale=False)
    sizes = sum(x.size for x in jax.tree.leaves(state.params))
    assert 4 * 4 * sizes < resources.tree_bytes(state) < 4 * 4 * sizes + 3 * 400


def test_what_is_small_is_not_looked_at(monkeypatch):
    config = toy_config()
    setup = setup_lib.build(config)
    monkeypatch.setattr(resources, "available_bytes", lambda: 1)
    check_sizes(setup, make_stages(setup, ("bc",)).values(), config_grid(config))


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "the disk of runs/x is full; everything up to the newest",
        ),
        (
            ValueError("RESOURCE_EXHAUSTED: write failed: No space left on device"),
            "the disk of runs/x is full",
        ),
        (
            OSError(errno.EFBIG, "File too large"),
            "a file in runs/x has reached the size that this shell allows",
        ),
        (OSError(errno.EROFS, "Read-only file system", "runs/x/m"), "runs/x/m cannot be written (Read-only"),
        (MemoryError("Unable to allocate 7.5 TiB"), "out of memory: Unable to allocate 7.5 TiB; lower seeds"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"),
            "out of memory: RESOURCE_EX",
        ),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 81040476480 bytes."),
            "out of memory: RESOURCE_EXHAUSTED: Out of memory 75.5 GiB at once.; lower seeds",
        ),
    ],
)
def test_what_ran_out_is_said_in_one_line(error, found):
    def wrapped():
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("in a thread") from cause

    with pytest.raises(RuntimeError) as raised:
        wrapped()
    assert str(ran_out(raised.value, "runs/x")).startswith(found)
    assert "\n" not in str(ran_out(raised.value, "runs/x"))
    assert ran_out(KeyError("x"), "runs/x") is None


def test_what_ran_out_names_the_largest_size():
    config = toy_config(learner__num_envs=4096)
    said = str(ran_out(MemoryError("full"), "runs/x", config))
    assert "the largest size is config.learner.num_envs = 4096; lower" in said


ABSURD = {
    "bc.batch_size=2000000000": "bc.batch_size = 2000000000",
    "learner.num_envs=1000000000": "learner.num_envs = 1000000000",
    "policy.hidden=1000000,1000000": "policy.hidden = 1000000",
    "evaluation.episodes=2000000000": "evaluation.episodes = 2000000000",
    "data.episodes=1000000000": "data.episodes = 1000000000",
}


@pytest.mark.parametrize("override", ABSURD)
def test_absurd_sizes_are_refused_by_their_field(tmp_path, monkeypatch, override):
    """With an estimate, before anything is allocated or written."""
    monkeypatch.setattr(resources, "available_bytes", lambda: 16 * 2**30)
    config = apply_overrides(toy_config(seeds=1), [override.split("=")])
    with pytest.raises(
        ConfigError, match=re.escape(f"config.{ABSURD[override]} is not allowed: lower: ") + ".*GiB"
    ):
        toy_pipeline(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_checkpoints_that_the_disk_cannot_hold_are_refused(tmp_path, monkeypatch):
    """With an estimate and the field, before anything is written; `keep` and one more, of every stage."""
    config = toy_config(seeds=1, policy__hidden="(64, 9000)")
    monkeypatch.setattr(resources, "room_bytes", lambda path: 2**20)
    said = r"config.policy.hidden = 9000 is not allowed: lower: 2 checkpoints a stage, up to bc, .* GiB on the disk"
    with pytest.raises(ConfigError, match=said):
        toy_pipeline(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_a_full_disk_says_what_takes_it_and_what_takes_less(tmp_path):
    for step, size in ((1, 2 * 2**20), (2, 3 * 2**20)):
        (tmp_path / "checkpoints" / "bc" / str(step)).mkdir(parents=True)
        (tmp_path / "checkpoints" / "bc" / str(step) / "state").write_bytes(bytes(size))
    (tmp_path / "metrics.jsonl").write_bytes(bytes(2**20))
    full = OSError(errno.ENOSPC, "No space left on device")
    said = str(ran_out(full, tmp_path, toy_config()))
    assert "a checkpoint takes 3.0 MB here" in said
    assert "config.checkpoint.keep = 2" in said
    assert "so far the run takes 6.0 MB" in said
    assert "config.videos=none" in said
    assert "\n" not in said
    assert "a checkpoint takes" not in str(ran_out(full, tmp_path / "other", toy_config()))


def test_a_device_that_is_full_leaves_no_work_directory(tmp_path, monkeypatch, capsys):
    """What XLA raises in the first epoch is one line, the lock is free and the folder gone."""

    def full(self, *args):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 81040476480 bytes.")

    monkeypatch.setattr(StageLoop, "run", full)
    run = tmp_path / "run"
    with unchecked(), pytest.raises(UserError, match="75.5 GiB at once"):
        train.main(["--config", str(config_file(tmp_path)), "--workdir", str(run), "--config.stages=bc"])
    assert not run.exists()


def test_a_real_allocation_that_cannot_be(tmp_path):
    """Of 4 PiB, by XLA itself."""
    try:
        jax.block_until_ready(jax.jit(lambda x: jnp.broadcast_to(x, (2**50,)) + jnp.arange(2**20).sum())(1.0))
    except Exception as error:
        said = ran_out(error, tmp_path)
    assert said is not None
    assert str(said).startswith("out of memory: ")


@pytest.mark.slow  # `scripts/torture.py` fills a disk in its short form, too
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_loses_nothing(tmp_path):
    """On a file system of 400 kB; grown, the same command goes on and ends as an undisturbed run does."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    argv = ["--config", config_file(tmp_path), "--workdir", disk / "run", "--config.stages=bc"]
    argv += ["--config.data.episodes=400", "--config.figures=()"]
    script = "import tests.toys.landscape; from mmbc_jax import cli, train; cli.run_main(train.main)"

    def train():
        command = [sys.executable, "-c", script, *map(str, argv)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    try:
        done = train()
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert re.match(r"error: .*(full|No space left)", done.stderr), done.stderr
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        done = train()
        assert done.returncode == 0, done.stderr
        toy_run(tmp_path / "other", toy_config(stages="bc", data__episodes=400))
        assert results_json(disk / "run", "bc") == results_json(tmp_path / "other", "bc")
    finally:
        subprocess.run(["umount", str(disk)], check=False)
