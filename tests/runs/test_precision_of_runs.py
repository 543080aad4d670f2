"""The precision of a run: what it trains, what its tables say, and that it travels with its checkpoints."""

from __future__ import annotations

import functools
import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from mmbc_jax.core.files import seal
from mmbc_jax.evaluate import parse
from mmbc_jax.report import run_report, table
from mmbc_jax.runs.restored import restore
from mmbc_jax.runs.sources import find_sources
from tests.toys.landscape import results_json, toy_config, toy_pipeline, toy_run, unchecked


@functools.cache
def bf16_run(folder):
    workdir = folder / "bf16"
    with unchecked():
        pipeline = toy_pipeline(workdir, toy_config(stages="bc", precision="bf16"))
        results = pipeline.run()
        found = run_report.write(pipeline, results, [], 1.0)
    return workdir, pipeline, found


@pytest.fixture
def bf16(tmp_path_factory):
    return bf16_run(tmp_path_factory.getbasetemp())


def test_the_tables_have_a_line(bf16):
    _, _, found = bf16
    assert found["run"]["precision"] == "bf16"
    assert table.text(found).replace("\n", " ").split("Networks in ")[1].startswith("bf16.")
    assert table.markdown(found).rstrip().endswith("Networks in bf16.")
    out = Console(file=io.StringIO(), width=118)
    run_report.show_stages(out, found)
    assert "Networks in bf16." in " ".join(out.file.getvalue().split())


def test_a_checkpoint_is_evaluated_in_the_precision_of_its_training(bf16):
    workdir, pipeline, _ = bf16
    restored = restore(workdir, "", [])
    assert restored.setup.policy.network.precision == "bf16"
    with unchecked():
        again = restored.evaluate()["bc"].metrics
    trained = results_json(workdir, "bc")["metrics"]
    for ours, theirs in zip(again, trained, strict=True):
        assert ours["success_rate"] == theirs["success_rate"]
        assert ours["mean_reward"] == theirs["mean_reward"]
    _, overrides = parse(["--checkpoint", str(workdir), "--config.precision=fp32"])
    assert restore(workdir, "", overrides).setup.policy.network.precision == "fp32"


def test_a_clone_of_another_precision_is_said_to_be(bf16):
    workdir, _, _ = bf16
    config = toy_config(stages="finetune", start_from=workdir)
    pipeline = toy_pipeline(workdir.parent / "unused", config)
    assert pipeline.sources.line == "start_from: the clone had another precision 'bf16' -> 'fp32'"
    copy = workdir.parent / "older"
    shutil.copytree(workdir / "checkpoints", copy)
    for meta in (copy / "bc").glob("*/meta/metadata"):
        said = json.loads(meta.read_text())
        del said["config"]["precision"]  # one that was written before there was a choice
        del said["meta_crc32"]
        meta.write_text(json.dumps({**said, "meta_crc32": seal(said)}))
    pipeline.setup.config.start_from = str(copy)
    assert find_sources(pipeline.setup, ("finetune",), pipeline.grid).differences == []


@pytest.mark.slow
def test_small_trainings_agree(tmp_path):
    """Two seeds of a clone: losses within 5 %, success within .08, a standard error of 512 episodes being .02."""
    sizes = {
        "stages": "bc", "policy__hidden": "(32, 32)", "data__episodes": 120, "bc__steps": 800, "bc__batch_size": 64,
        "bc__steps_per_epoch": 400, "bc__steps_per_row": 100, "bc__warmup_steps": 50, "evaluation__episodes": 256,
        "evaluation__every_epochs": 0, "bc__learning_rate": 3e-3, "bc__ema_decay": 0.98,
    }  # fmt: skip
    found = {}
    for precision in ("fp32", "bf16"):
        metrics = toy_run(tmp_path / precision, toy_config(**sizes, precision=precision))["bc"].metrics
        found[precision] = {
            name: np.mean([run[name] for run in metrics]) for name in ("success_rate", "offline/loss")
        }
    assert found["fp32"]["success_rate"] > 0.4  # it learned something
    assert abs(found["fp32"]["success_rate"] - found["bf16"]["success_rate"]) < 0.08
    assert found["bf16"]["offline/loss"] == pytest.approx(found["fp32"]["offline/loss"], rel=0.05)
    assert found["bf16"] != found["fp32"]
