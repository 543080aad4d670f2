"""What a run meets in its work directory: longer lengths, other data, damaged checkpoints, another owner."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from mmbc_jax import evaluate
from mmbc_jax.core.errors import CheckpointError, ConfigError, DataError, WorkdirError
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.fingerprint import fingerprint
from mmbc_jax.runs.checkpoint import checkpoint_steps, read_meta
from mmbc_jax.runs.loop import StageLoop
from mmbc_jax.runs.pipeline import make_pipeline
from mmbc_jax.runs.restored import restore
from mmbc_jax.runs.stage_run import StageRun
from tests.runs.test_lock import HOLDER
from tests.toys.landscape import (
    finished_run,
    results_json,
    rows,
    toy_config,
    toy_pipeline,
    toy_run,
    unchecked,
)
from tests.toys.products import spared


def cloning(**overrides):
    """One seed, bc alone, without evaluations on the way."""
    return toy_config(stages="bc", seeds=1, evaluation__every_epochs=0, **overrides)


def run(workdir, config, extend=False):
    """Runs a pipeline; returns what it printed."""
    out = io.StringIO()
    with unchecked():
        make_pipeline(config, Path(workdir), Console(file=out, width=400), extend).run()
    return out.getvalue()


@pytest.fixture(scope="module")
def cloned(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("cloned") / "run"
    run(workdir, cloning())
    return workdir


@pytest.fixture
def begun(cloned, tmp_path):
    """A finished run that may be changed."""
    return Path(shutil.copytree(cloned, tmp_path / "run"))


def test_a_longer_run_goes_on_where_it_ended(begun):
    before = rows(begun)
    with pytest.raises(WorkdirError, match=r"bc\.steps: 16 -> 24.*--extend trains it on"):
        run(begun, cloning(bc__steps=24))
    run(begun, cloning(bc__steps=24), extend=True)
    assert checkpoint_steps(begun / "checkpoints" / "bc")[-1] == 6
    assert rows(begun)[: len(before)] == before
    assert [row["step"] for row in rows(begun)] == list(range(2, 25, 2))
    assert json.loads((begun / "config.json").read_text())["bc"]["steps"] == 24


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        ({"bc__steps": 8}, r"--extend can only raise bc.steps, .*not change bc.steps: 16 -> 8"),
        ({"bc__steps": 24, "bc__batch_size": 8}, r"--extend can only raise .*bc.batch_size: 16 -> 8"),
    ],
)
def test_what_is_not_longer_is_no_extension(begun, overrides, found):
    with pytest.raises(WorkdirError, match=found):
        run(begun, cloning(**overrides), extend=True)


def test_a_stage_that_others_started_from_is_not_extended(tmp_path):
    workdir = Path(shutil.copytree(finished_run(), tmp_path / "run"))
    with pytest.raises(WorkdirError, match=r"would train bc on, from whose end discover has started"):
        run(workdir, toy_config(bc__steps=32), extend=True)
    with pytest.raises(WorkdirError, match=r"would train discover on, from whose end finetune has started"):
        run(workdir, toy_config(discover__iterations=4), extend=True)


def test_a_warm_start_begins_with_the_weights_and_scales_of_the_clone(cloned, tmp_path):
    """With other data: a learning rate of next to nothing leaves the clone as it was, scales included."""
    config = cloning(
        start_from=cloned, warm_start="bc", bc__learning_rate=1e-30, bc__weight_decay=0, data__seed=7
    )
    run(tmp_path / "run", config)
    ours, theirs = (restore(path, "bc", []).state for path in (tmp_path / "run", cloned))
    for a, b in zip(
        *map(jax.tree.leaves, ((ours.params, ours.stats), (theirs.ema, theirs.stats))), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    fresh = tmp_path / "fresh"
    run(fresh, cloning(data__seed=7))
    scales = [restore(path, "bc", []).state.stats["normalizer"].obs_low for path in (fresh, cloned)]
    assert not np.array_equal(*scales)  # so that the above shows something


def test_bc_among_the_stages_beside_a_clone_is_a_question(cloned, tmp_path):
    with pytest.raises(ConfigError, match=r"config.start_from .*warm_start=bc"):
        toy_pipeline(tmp_path, cloning(start_from=cloned))
    with pytest.raises(ConfigError, match=r"config.warm_start .*start_from set"):
        toy_pipeline(tmp_path, cloning(warm_start="bc"))
    with pytest.raises(CheckpointError, match=r"another configuration: policy.hidden"):
        toy_pipeline(tmp_path, cloning(start_from=cloned, warm_start="bc", policy__hidden="4,"))


@pytest.mark.slow
def test_finetune_starts_warm(tmp_path):
    config = toy_config(
        stages="finetune",
        start_from=finished_run(),
        warm_start="finetune",
        finetune__iterations=1,
        learner__learning_rate=1e-30,
        seeds=1,
        evaluation__every_epochs=0,
    )
    toy_run(tmp_path / "run", config)
    ours, theirs = (
        restore(path, "finetune", []).state.params["actor"] for path in (tmp_path / "run", finished_run())
    )
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_array_equal(a[0], b[0])


def demonstrations(scale=1.0):
    rng = np.random.default_rng(0)
    return Episodes(
        scale * rng.normal(size=(24, 2)), rng.normal(size=(24, 2)), np.array([8, 16, 24]), None, "x"
    )


def test_the_fingerprint_is_of_the_numbers(tmp_path):
    one = demonstrations()
    loaded = Episodes(one.obs.copy(), one.action.copy(), one.ends, None, "elsewhere")
    assert fingerprint(one) == fingerprint(loaded)
    for other in (
        demonstrations(1.0001),
        Episodes(one.obs, one.action, np.array([8, 15, 24]), None, "x"),
        Episodes(one.obs, one.action, one.ends, np.zeros(3), "x"),
        Episodes({"obs": one.obs, "more": one.obs}, one.action, one.ends, None, "x"),
    ):
        assert fingerprint(other) != fingerprint(one)


def test_data_that_changed_is_refused(tmp_path):
    path, workdir = tmp_path / "demos.npz", tmp_path / "run"
    demonstrations().save_npz(path)
    config = cloning(env__name="", data__path=path, data__holdout=0.34)
    run(workdir, config)
    mark = json.loads((workdir / "data.json").read_text())["fingerprint"]
    assert read_meta(workdir / "checkpoints" / "bc")[1]["data"] == mark == fingerprint(demonstrations())
    demonstrations(2.0).save_npz(path)
    with pytest.raises(DataError, match=rf"demos.npz has changed since .* fingerprint \w+, was {mark}"):
        run(workdir, config)  # finished
    (workdir / "data.json").unlink()
    (workdir / "stages" / "bc" / "result.json").unlink()
    with pytest.raises(DataError, match="has changed since stage bc was trained"):
        run(workdir, config)
    with unchecked(), pytest.raises(DataError, match="has changed since stage bc was trained"):
        evaluate.main(["--checkpoint", str(workdir), "--diagnostics", "separation"])


def test_a_finished_run_does_not_miss_its_data(tmp_path):
    path, workdir = tmp_path / "demos.npz", tmp_path / "run"
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.1, 0.1, size=(2, 24, 2))
    Episodes(*points, np.array([8, 16, 24]), None, "x").save_npz(path)
    config = cloning(data__path=path)
    run(workdir, config)
    path.unlink()
    run(workdir, config)


def flip(path: Path, at: int):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("what", ["description", "state"])
@spared("description")
def test_a_damaged_checkpoint_falls_back_to_the_one_before(begun, cloned, what, capsys):
    shutil.rmtree(begun / "stages")
    newest = begun / "checkpoints" / "bc" / "4"
    if what == "description":
        victim = newest / "meta" / "metadata"
        flip(
            victim, victim.read_bytes().index(b'"steps": 16') + 9
        )  # it still is JSON, of another configuration
    else:
        for victim in (path for path in (newest / "state").rglob("*") if path.is_file()):
            if (
                victim.stat().st_size > 1000
            ):  # arrays lie in some of them, the others are lists of what is where
                flip(victim, victim.stat().st_size // 2)
    with unchecked():
        assert evaluate.main(["--checkpoint", str(begun), "--json"]) == 0
    said = capsys.readouterr().err
    assert "bc/4 is damaged" in said
    assert said.endswith(f"checkpoint {begun / 'checkpoints/bc/3'}\n")
    printed = run(begun, cloning())
    assert "bc/4 is damaged" in printed
    assert "it is damaged-4 now, and bc goes on from 3" in printed
    assert (begun / "checkpoints" / "bc" / "damaged-4").exists()
    assert results_json(begun, "bc") == results_json(cloned, "bc")
    assert rows(begun) == rows(cloned)


def test_the_only_checkpoint_damaged_is_an_error(begun):
    shutil.rmtree(begun / "checkpoints" / "bc" / "3")
    flip(begun / "checkpoints" / "bc" / "4" / "meta" / "metadata", 20)
    (begun / "stages" / "bc" / "result.json").unlink()
    with pytest.raises(CheckpointError, match="bc/4 is damaged"):
        run(begun, cloning())


def test_two_processes_do_not_share_a_directory(begun):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(begun)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        before = {p: p.stat().st_mtime_ns for p in begun.rglob("*") if p.is_file()}
        with pytest.raises(WorkdirError, match=f"in use by process {process.pid} "):
            run(begun, cloning())
        assert {p: p.stat().st_mtime_ns for p in begun.rglob("*") if p.is_file()} == before
    finally:
        process.kill()
        process.wait()


def test_evaluation_says_which_stage_is_missing(tmp_path, capsys):
    workdir = Path(shutil.copytree(finished_run(), tmp_path / "run"))
    shutil.rmtree(workdir / "checkpoints" / "finetune")
    with unchecked():
        assert evaluate.main(["--checkpoint", str(workdir)]) == 0
    assert (
        f"there is no checkpoint of finetune in {workdir}: this is stage discover\n"
        in capsys.readouterr().out
    )


def test_the_best_checkpoint_is_kept_and_outlives_an_interruption(tmp_path, monkeypatch):
    """Success rates of .2, .6, .4, .6 by epoch: the first .6 is the best, whatever is repeated."""
    rates = [0.2, 0.6, 0.4, 0.6]
    monkeypatch.setattr(
        StageRun, "_evaluate", lambda self, state, epoch: [{"eval/success_rate": rates[epoch]}]
    )
    config = cloning(checkpoint__best="success_rate")
    config.evaluation.every_epochs = 1
    save = StageLoop._save

    def dying(self, epoch, state):
        if epoch == 3:
            raise KeyboardInterrupt
        save(self, epoch, state)

    monkeypatch.setattr(StageLoop, "_save", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config)
    monkeypatch.setattr(StageLoop, "_save", save)
    run(tmp_path, config)
    assert checkpoint_steps(tmp_path / "best" / "bc") == [2]
    _, meta = read_meta(tmp_path / "best" / "bc")
    assert (meta["best"], meta["metric"], meta["epoch"]) == (0.6, "success_rate", 2)
    best, last = restore(tmp_path / "best", "bc", []), restore(tmp_path, "bc", [])
    assert int(best.state.step[0]) == 8
    assert int(last.state.step[0]) == 16
    with pytest.raises(ConfigError, match=r"checkpoint.best = 'sr_m' .*evaluation.every_epochs is 0"):
        toy_pipeline(tmp_path / "other", cloning(checkpoint__best="sr_m"))
