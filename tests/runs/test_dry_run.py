"""What a run says before it begins, and how its place is made free."""

from __future__ import annotations

import os
import shutil

import jax
import pytest

from mmbc_jax import train
from mmbc_jax.core.errors import UserError, WorkdirError
from mmbc_jax.runs import dry_run
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.lock import WorkdirLock
from mmbc_jax.runs.resources import product_bytes, tree_bytes
from mmbc_jax.runs.stages import make_stages
from mmbc_jax.runs.templates import template_of
from mmbc_jax.runs.workdir import put_aside
from tests.malformed.calls import contents
from tests.toys.landscape import config_file, finished_run, toy_config, toy_pipeline, unchecked


@pytest.fixture
def untraced(monkeypatch):
    """Tracing is slow where every call is checked, and one test of it is enough."""
    monkeypatch.setattr(dry_run, "compile_seconds", lambda pipeline, stage, runs: 3.0)


def test_compiling_is_estimated_from_the_traced_programs(tmp_path):
    pipeline = toy_pipeline(tmp_path / "run", toy_config(stages="bc", seeds=1))
    with unchecked():
        assert 1.0 < dry_run.compile_seconds(pipeline, pipeline.trained[0], 1) < 100.0


def said(folder, capsys, *argv):
    with unchecked():
        assert train.main(["--config", str(config_file(folder)), "--dry_run", *argv]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("untraced")
def test_it_says_what_would_run_and_writes_nothing(tmp_path, capsys):
    before = contents(tmp_path) | {str(config_file(tmp_path)): config_file(tmp_path).read_bytes()}
    out = said(tmp_path, capsys, "--workdir", str(tmp_path / "run"))
    assert contents(tmp_path) == before
    first, data, runs, bc, discover, finetune, last = out.splitlines()
    assert first == f"work directory: {tmp_path / 'run'}, new"
    assert data == "demonstrations: 24 episodes to be recorded of the expert of landscape"
    assert runs == "runs: 1 points x 2 seeds, on 1 cpu"
    assert bc.startswith("1. bc: 16 training steps in 4 epochs, from nothing, ")
    assert discover.startswith("2. discover: 2 training steps in 2 epochs, from bc, 256 control steps, ")
    assert finetune.startswith(
        "3. finetune: 4 training steps in 4 epochs, from discover, 512 control steps, "
    )
    assert finetune.endswith("compiled already")  # it shares the program of discover
    state = template_of(make_stages(setup_lib.build(toy_config()), ("bc",))["bc"], 1, own_scale=False)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert f"{count:,} parameters x 2 runs" in bc
    assert last.endswith("nothing was written")


@pytest.mark.usefixtures("untraced")
def test_it_says_what_is_in_the_work_directory(capsys, tmp_path):
    short = ("--config.stages=bc", "--workdir", str(finished_run()))
    assert "another configuration (stages" in said(tmp_path, capsys, *short)
    assert "would be put aside" in said(tmp_path, capsys, *short, "--overwrite")
    out = said(tmp_path, capsys, "--workdir", str(finished_run()))
    assert "holds this run, which would be continued" in out
    assert "4 epochs are done" in out


def test_the_largest_product_is_that_of_the_widest_layer():
    """flow on 16 windows: 8 hidden units, or the time features and inputs of a layer, whichever are more."""
    setup = setup_lib.build(toy_config(bc__batch_size=4096, policy__hidden=64))
    stage = make_stages(setup, ("bc",))["bc"]
    assert product_bytes(stage) == 4 * 4096 * 64
    assert tree_bytes(jax.ShapeDtypeStruct((3, 5), "float32")) == 60


def test_a_run_is_put_aside_whole(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run(), run)
    before = contents(run)
    for n in (1, 2):
        assert put_aside(run) == tmp_path / f"run.old-{n}"
        assert not run.exists()
        shutil.copytree(tmp_path / f"run.old-{n}", run)
    moved = contents(tmp_path / "run.old-1")
    assert {os.path.relpath(p, tmp_path / "run.old-1"): x for p, x in moved.items()} == {
        os.path.relpath(p, run): x for p, x in before.items()
    }


def test_nothing_else_is_touched(tmp_path):
    assert put_aside(tmp_path / "nothing") is None
    mine = tmp_path / "mine"
    mine.mkdir()
    assert put_aside(mine) is None
    (mine / "thesis.tex").write_text("x")
    for content in (None, "{}", "[]", '{"stages": 1, "env": 2}'):
        if content is not None:
            (mine / "config.json").write_text(content)
        with pytest.raises(WorkdirError, match="--overwrite: .* is no work directory"):
            put_aside(mine)
        assert (mine / "thesis.tex").exists()
    (tmp_path / "link").symlink_to(finished_run())
    with pytest.raises(WorkdirError, match="is no work directory"):
        put_aside(tmp_path / "link")


def test_a_run_that_is_under_way_stays(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run(), run)
    lock = WorkdirLock(run)
    with lock.held(), pytest.raises(WorkdirError, match="is in use by"):
        put_aside(run)
    assert run.exists()


def test_overwriting_and_extending_exclude_each_other(tmp_path):
    with pytest.raises(UserError, match="do not go together"):
        train.parse(["--config", str(config_file(tmp_path)), "--overwrite", "--extend"])
