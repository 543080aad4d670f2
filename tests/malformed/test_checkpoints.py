"""Checkpoints that are none: evaluating, starting from and resuming them are refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from mmbc_jax import evaluate, train
from mmbc_jax.core.errors import CheckpointError
from mmbc_jax.runs.restored import restore
from tests.malformed import damage
from tests.malformed.calls import CONFIG, contents, refusal
from tests.toys.cloning import arrays as arrays_of
from tests.toys.landscape import finished_run

KINDS = damage.kinds()
UNREAD = "ocdbt.process_0/manifest"  # the state's own manifest has taken its place
GONE = ("no step", "no stage", "no checkpoints", "a stage that is", "checkpoints that are", "a step of")
GONE += ("a step with", "a negative step", "a long step", "an unknown stage")
KNOWN = ("description with", "an unknown", "a bad option", "another ", "other runs", "no runs")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A work directory of stage bc with one checkpoint and no results."""
    return damage.prepared(finished_run(), tmp_path_factory.mktemp("prepared") / "run")


def wrong(prepared: Path, folder: Path, kinds, call) -> list[str]:
    """One line for every damaged copy that `call` does not refuse as it must; the copies stay as they are."""
    found = []
    for number, (kind, change) in enumerate(kinds.items()):
        workdir = folder / str(number) / "run"
        shutil.copytree(prepared, workdir)
        change(workdir)
        try:
            line = call(workdir)
            if str(number) not in line and "config." not in line:
                found.append(f"{kind}: {line.strip()} names no checkpoint")
        except (Exception, pytest.fail.Exception) as error:
            found.append(f"{kind}: {type(error).__name__}: {str(error).strip()[:300]}")
        shutil.rmtree(workdir.parent)
    return found


def unread(kind: str) -> bool:
    return UNREAD in kind


@pytest.mark.parametrize(
    "stage", [(), pytest.param(("--stage", "bc"), marks=pytest.mark.slow)], ids=["any", "bc"]
)
def test_evaluating(prepared, tmp_path, monkeypatch, stage):
    monkeypatch.chdir(tmp_path)
    kinds = {kind: change for kind, change in KINDS.items() if not unread(kind)}
    assert len(kinds) > 75

    def call(workdir):
        return refusal(
            evaluate.main, ["--checkpoint", workdir, *stage, "--out", tmp_path / "out"], workdir.parent
        )

    assert not wrong(prepared, tmp_path, kinds, call)
    assert not (tmp_path / "out").exists()


def start(workdir, target):
    """Fine-tuning that starts from the clone of `workdir`."""
    overrides = (f"--config.start_from={workdir}", "--config.stages=finetune", "--config.mesh.cores=shared")
    return ["--config", CONFIG, *overrides, "--workdir", target]


@pytest.mark.slow
def test_starting_from(prepared, tmp_path):
    free = ("a bad option", "another size")  # of which a run that starts from it takes nothing over
    kinds = {kind: change for kind, change in KINDS.items() if not unread(kind) and kind not in free}

    def call(workdir):
        return refusal(train.main, start(workdir, workdir.parent / "new" / "run"), workdir.parent)

    assert not wrong(prepared, tmp_path, kinds, call)


@pytest.mark.slow
def test_resuming(prepared, tmp_path):
    """What is gone altogether is trained again; everything else is refused, and left to be looked at."""
    kinds = {kind: change for kind, change in KINDS.items() if not unread(kind) and not kind.startswith(GONE)}
    # the latter: what only a reader of another run asks a checkpoint for
    kinds = {kind: change for kind, change in kinds.items() if not kind.startswith(KNOWN)}

    def call(workdir):
        argv = ["--config", CONFIG, "--config.stages=bc,discover,finetune", "--workdir", workdir]
        before = contents(workdir / "checkpoints")
        line = refusal(train.main, [*argv, "--config.mesh.cores=shared"])
        assert contents(workdir / "checkpoints") == before
        return line

    assert not wrong(prepared, tmp_path, kinds, call)


@pytest.mark.slow
def test_random_damage(prepared, tmp_path):
    """Whatever byte is changed and wherever a file ends: a CheckpointError, or the same numbers."""
    truth = [np.asarray(leaf) for leaf in arrays_of(restore(prepared, "bc", []).state)]
    found, refused = [], 0
    for kind, change in damage.flips(0, 60).items():
        workdir = tmp_path / kind / "run"
        shutil.copytree(prepared, workdir)
        change(workdir)
        try:
            state = restore(workdir, "bc", []).state
            same = all(np.array_equal(a, b) for a, b in zip(arrays_of(state), truth, strict=True))
            found += [] if same else [f"{kind}: other numbers"]
        except CheckpointError:
            refused += 1
        except Exception as error:
            found.append(f"{kind}: {type(error).__name__}: {error}")
        shutil.rmtree(workdir)
    assert not found
    assert refused > 10


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--z", "1"], "--z 1: stage bc has z 0 to 0"),
        (["--z", "-1"], "--z -1"),
        (["--z", "x"], "--z"),
        (["--seed", "4294967296"], "--seed 4294967296"),
        (["--seed", "-1"], "--seed -1"),
        (["--seed", "1.5"], "--seed"),
        (["--episodes", "0"], "--episodes 0"),
        (["--episodes", "3000000000"], "config.evaluation.episodes = 3000000000"),
        (["--episodes", "2000000000"], "config.evaluation.episodes = 2000000000"),
        (["--sampler_steps", "0"], "config.sampler.steps = 0"),
        (["--sampler_steps", "2000000000"], "config.sampler.steps = 2000000000"),
        (["--diagnostics", "nonesuch"], "config.diagnostics = 'nonesuch'"),
        (["--config.env.name=nonesuch"], "config.env.name = 'nonesuch'"),
        (["--config.env.name=avoiding"], "was trained on env.name = 'landscape'"),
        (["--config.evaluation.shifts=calm"], "config.evaluation.shifts = 'calm'"),
        (["--stage", "finetune"], "holds no checkpoint of a stage (finetune)"),
        (["--stage", "tune"], "--stage tune"),
        (["--out", "{workdir}"], "is a run's work directory"),
        (["--out", "{workdir}/config.json"], "cannot be a folder"),
        (["--out", "{workdir}/config.json/below"], "cannot be a folder"),
        (["--out", ""], "--out is empty"),
    ],
)
def test_arguments_of_evaluate(prepared, tmp_path, argv, said):
    argv = [text.replace("{workdir}", str(prepared)) for text in argv]
    out = [] if "--out" in argv else ["--out", tmp_path / "out"]
    assert said in refusal(evaluate.main, ["--checkpoint", prepared, *argv, *out], prepared)
    assert not list(tmp_path.iterdir())


def test_a_newest_checkpoint_that_is_damaged_is_passed_over(tmp_path):
    """With another one before it; whatever the damage."""
    truth = None
    for number, kind in enumerate(("no state", "no description", "description nested", "a step in a loop")):
        workdir = tmp_path / str(number)
        shutil.copytree(finished_run(), workdir)
        KINDS[kind](workdir)
        with jax.debug_key_reuse(False):
            restored = restore(workdir, "bc", [])
        assert "is damaged" in restored.notes[0]
        assert restored.notes[0].endswith("the one before it is taken")
        now = [np.asarray(leaf) for leaf in arrays_of(restored.state)]
        assert truth is None or all(map(np.array_equal, now, truth))
        truth = now
