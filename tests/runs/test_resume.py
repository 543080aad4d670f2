"""A run that is interrupted and started again ends bit for bit as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mmbc_jax.core.errors import WorkdirError
from mmbc_jax.runs import stage_run
from mmbc_jax.runs.checkpoint import checkpoint_steps, read_meta
from mmbc_jax.runs.loop import Interrupted, StageLoop
from mmbc_jax.runs.milestones import CLOCK
from mmbc_jax.runs.workdir import claim_workdir
from tests.toys.landscape import (
    events,
    finished_run,
    results_json,
    rows,
    toy_config,
    toy_pipeline,
    toy_run,
    unchecked,
)
from tests.toys.products import spared, sparing

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the package may catch it."""


@pytest.fixture(scope="module")
def undisturbed():
    return finished_run(), toy_config()


def kill_in_save(monkeypatch, stage, epoch, *, saved):
    """Dies around the checkpoint of an epoch, after its rows were written."""
    save = StageLoop._save

    def dying(self, at, state):
        if (self.name, at) != (stage, epoch):
            return save(self, at, state)
        if saved:
            save(self, at, state)
            self.checkpoints.wait()
        raise Killed

    monkeypatch.setattr(StageLoop, "_save", dying)


def clock_of(workdir, stage):
    """Seconds after each epoch, as the newest checkpoint has them; nothing without one."""
    folder = workdir / "checkpoints" / stage
    return read_meta(folder)[1][CLOCK] if checkpoint_steps(folder) else []


def assert_same(workdir, reference, stages):
    for stage in stages:
        assert results_json(workdir, stage) == results_json(reference, stage)
        with (
            np.load(workdir / "stages" / stage / "rollouts.npz") as ours,
            np.load(reference / "stages" / stage / "rollouts.npz") as theirs,
        ):
            for name in theirs.files:
                assert ours[name].tobytes() == theirs[name].tobytes(), (stage, name)
    assert rows(workdir) == [row for row in rows(reference) if row["stage"] in stages]
    logged = {(f"{r['stage']}/seed={r['seed']}", r["step"]) for r in rows(workdir)}
    drawn = events(workdir)
    assert len(drawn) == len(set(drawn))
    assert {(run, step) for run, _, step, _ in drawn} == logged


@pytest.mark.parametrize(
    ("stage", "epoch", "saved"),
    [
        pytest.param("bc", 3, False, marks=pytest.mark.slow),
        pytest.param("discover", 1, True, marks=pytest.mark.slow),
        ("finetune", 3, False),
    ],
)
def test_a_killed_run_continues_exactly(tmp_path, monkeypatch, undisturbed, stage, epoch, saved):
    reference, config = undisturbed
    workdir = tmp_path / "run"
    with monkeypatch.context() as patch:
        kill_in_save(patch, stage, epoch, saved=saved)
        with pytest.raises(Killed):
            toy_run(workdir, config)
    before, clock = len(rows(workdir)), clock_of(workdir, stage)
    with (workdir / "metrics.jsonl").open("a") as handle:
        handle.write('{"stage": "bc", "step": 99')  # a torn line
    (workdir / "tensorboard" / "bc" / "seed=3" / "events.torn").write_bytes(b"junk")
    toy_run(workdir, config)
    assert before < len(rows(reference))
    assert_same(workdir, reference, ("bc", "discover", "finetune"))
    told = clock_of(workdir, stage)
    assert len(told) == checkpoint_steps(workdir / "checkpoints" / stage)[-1]
    assert told[: len(clock)] == clock  # what it took before it was killed is not measured anew
    assert (np.diff([0.0, *told]) > 0).all()


@pytest.mark.parametrize(
    "victim",
    sparing(
        ["demonstrations.npz", "data.json", "rollouts.npz", "result.json"], slow=("data.json", "rollouts.npz")
    ),
)
@spared("demonstrations.npz")
def test_a_kill_while_a_file_is_written(tmp_path, monkeypatch, undisturbed, victim):
    reference, _ = undisturbed
    config = toy_config(stages="bc")
    workdir = tmp_path / "run"
    replace = os.replace

    def dying(source, target, **kwargs):
        if Path(target).name == victim:
            Path(f"{source}.left.tmp").write_bytes(Path(source).read_bytes()[:20])
            raise Killed
        replace(source, target, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(Killed):
            toy_run(workdir, config)
    assert list(workdir.rglob(".*.tmp"))
    orphan = workdir / "checkpoints" / "bc" / "9.orbax-checkpoint-tmp-1"
    orphan.mkdir(parents=True)
    toy_run(workdir, config)
    assert_same(workdir, reference, ("bc",))
    assert json.loads((workdir / "data.json").read_text()) == json.loads(
        (reference / "data.json").read_text()
    )
    assert not list(workdir.rglob(".*.tmp"))
    assert not orphan.exists()


def test_a_kill_while_the_directory_is_claimed(tmp_path):
    (tmp_path / "empty").mkdir()
    claim_workdir(tmp_path / "empty", toy_config())
    half = tmp_path / "half"
    half.mkdir()
    (half / ".config.json.abc.tmp").write_text('{"sta')
    claim_workdir(half, toy_config())
    assert [path.name for path in half.iterdir()] == ["config.json"]
    claim_workdir(half, toy_config())


def test_a_directory_that_has_trained_nothing_takes_another_configuration(tmp_path):
    claim_workdir(tmp_path, toy_config())
    for name in ("demonstrations.npz", "data.json", "metrics.jsonl"):
        (tmp_path / name).write_text("")
    claim_workdir(tmp_path, toy_config(bc__steps=32))
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    (tmp_path / "checkpoints" / "bc" / "1").mkdir(parents=True)
    with pytest.raises(WorkdirError, match=r"bc\.steps: 32 -> 16"):
        claim_workdir(tmp_path, toy_config())
    with pytest.raises(WorkdirError, match=r"bc\.steps: 32 -> 48.*--extend trains it on"):
        claim_workdir(tmp_path, toy_config(bc__steps=48))
    assert (tmp_path / "checkpoints" / "bc" / "1").exists()


def test_a_finished_run_computes_nothing_again(undisturbed):
    reference, config = undisturbed
    before = (reference / "metrics.jsonl").read_bytes()
    with unchecked():
        pipeline = toy_pipeline(reference, config)
        results = pipeline.run()
    assert pipeline.programs.compiled == []
    assert (reference / "metrics.jsonl").read_bytes() == before
    for name, result in results.items():
        assert result.metrics == results_json(reference, name)["metrics"]


def test_a_lost_or_damaged_result_is_evaluated_again(tmp_path, undisturbed):
    reference, _ = undisturbed
    config = toy_config(stages="bc")
    toy_run(tmp_path / "run", config)
    (tmp_path / "run" / "stages" / "bc" / "rollouts.npz").write_bytes(b"cut short")
    toy_run(tmp_path / "run", config)
    assert_same(tmp_path / "run", reference, ("bc",))


@pytest.mark.slow
@pytest.mark.slow
def test_sigterm_between_stages_starts_no_other_stage(tmp_path, monkeypatch, undisturbed):
    reference, config = undisturbed
    workdir = tmp_path / "run"
    with unchecked():
        pipeline = toy_pipeline(workdir, config)
        finish = stage_run._measured

        def stopped(*args):
            os.kill(os.getpid(), signal.SIGTERM)
            return finish(*args)

        with monkeypatch.context() as patch:
            patch.setattr(stage_run, "_measured", stopped)
            with pytest.raises(Interrupted):
                pipeline.run()
    assert sorted(path.name for path in (workdir / "stages").iterdir()) == ["bc"]
    toy_run(workdir, config)
    assert_same(workdir, reference, ("bc", "discover", "finetune"))


def test_sigterm_saves_and_exits_with_143(tmp_path):
    settings = {
        "stages": "bc",
        "policy.hidden": "(8,)",
        "data.episodes": 24,
        "bc.batch_size": 16,
        "bc.steps": 4000,
        "bc.steps_per_epoch": 10,
        "bc.steps_per_row": 10,
        "checkpoint.every_epochs": 400,
        "evaluation.episodes": 8,
    }
    workdir = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "mmbc_jax.train",
        "--config",
        "configs/smoke.py",
        "--workdir",
        str(workdir),
    ]
    command += [f"--config.{key}={value}" for key, value in settings.items()]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        metrics = workdir / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "the same command continues" in " ".join(out.split())
    (step,) = checkpoint_steps(workdir / "checkpoints" / "bc")
    assert step < 400
    assert len(rows(workdir)) == step
    assert not (workdir / "stages").exists()


@pytest.mark.slow
@pytest.mark.parametrize("size", [("bc", "1", "1"), ("ppo", "3", "3")], ids=["short", "long"])
def test_killed_damaged_and_starved(size, tmp_path):
    """A short form of `scripts/torture.py`: one kill, one damaged file, a full disk and a read-only folder."""
    scenario, kills, damages = size
    command = [
        sys.executable,
        str(ROOT / "scripts" / "torture.py"),
        "--out",
        str(tmp_path),
        "--only",
        scenario,
    ]
    command += ["--kills", kills, "--damages", damages]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{scenario}, seed 0: " in done.stdout
    assert f" {kills} killed" in done.stdout
