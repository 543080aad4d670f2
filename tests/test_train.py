"""The training command from its arguments to its files."""

from __future__ import annotations

import json
import sys

import pytest

from mmbc_jax import cli, train
from mmbc_jax.runs.loop import StageLoop
from tests.toys.landscape import config_file, finished_run, results_json, rows, unchecked

BC = ("--config.stages=bc", "--config.evaluation.every_epochs=0")


def main(folder, *argv):
    with unchecked():
        return train.main(["--config", str(config_file(folder)), "--workdir", str(folder / "run"), *argv])


def test_arguments(tmp_path, monkeypatch):
    config, workdir, _ = train.parse(["--config", str(config_file(tmp_path)), "--config.bc.steps", "32"])
    assert config.bc.steps == 32
    assert workdir.parts == ("runs", "toy")
    monkeypatch.setattr(train, "DEFAULT_CONFIG", str(config_file(tmp_path)))
    config, workdir, _ = train.parse(["--workdir", "here", "--config.stages=bc,plain"])
    assert (config.stages, str(workdir)) == (("bc", "plain"), "here")


def test_what_a_run_leaves():
    workdir = finished_run()
    summary = json.loads((workdir / "summary.json").read_text())
    for stage in ("bc", "discover", "finetune"):
        metrics = results_json(workdir, stage)["metrics"]
        per_seed = summary["points"][0]["stages"][stage]["success_rate"]["per_seed"]
        assert per_seed == [seed["success_rate"] for seed in metrics]
        assert (workdir / "figures" / f"curves_{stage}.png").stat().st_size > 1000
        assert (workdir / "figures" / f"trajectories_{stage}.png").stat().st_size > 1000
    assert summary["stages"] == summary["points"][0]["stages"]
    assert summary["run"]["seeds"] == [3, 4]
    assert summary["run"]["timings"]["finetune"]["train_compilations"] == 0
    assert summary["run"]["timings"]["finetune"]["env_steps"] == 4 * 8 * 4 * 4
    assert summary["run"]["command"] == "python -m mmbc_jax.train --config toy.py --workdir run"
    assert str(workdir.parent) not in (workdir / "summary.json").read_text()
    steps = [row["step"] for row in rows(workdir) if row["stage"] == "bc" and row["seed"] == 4]
    assert steps == [2, 4, 6, 8, 8, 10, 12, 14, 16, 16]  # 8 and 16 once more with the evaluation


def test_the_same_command_again_gives_the_same_summary(tmp_path, capsys):
    assert main(tmp_path, *BC) == 0
    first = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert "report.html summary.json, model_card.md, metrics.jsonl" in " ".join(
        capsys.readouterr().out.split()
    )
    (tmp_path / "run" / "summary.json").unlink()
    assert main(tmp_path, *BC) == 0
    again = json.loads((tmp_path / "run" / "summary.json").read_text())
    for key in ("stages", "points"):
        assert again[key] == first[key]
    assert again["run"]["data"] == first["run"]["data"]
    assert again["run"]["timings"]["bc"]["wall_s"] == first["run"]["timings"]["bc"]["wall_s"]


def test_a_signal_ends_with_143_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    log_epoch = StageLoop._log_epoch

    def signalled(self, epoch, metrics):
        self.stop.received = 15
        return log_epoch(self, epoch, metrics)

    monkeypatch.setattr(StageLoop, "_log_epoch", signalled)
    assert main(tmp_path, *BC) == 143
    assert "the same command continues" in " ".join(capsys.readouterr().out.split())
    assert len(rows(tmp_path / "run")) == 2 * 2
    assert not (tmp_path / "run" / "summary.json").exists()


def test_divergence_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    argv = ["train", "--config", str(config_file(tmp_path)), "--workdir", str(tmp_path / "run"), *BC]
    monkeypatch.setattr(sys, "argv", [*argv, "--config.bc.learning_rate=1e30", "--config.nonfinite_limit=4"])
    with pytest.raises(SystemExit) as exit_, unchecked():
        cli.run_main(train.main)
    err = capsys.readouterr().err
    assert exit_.value.code == 2
    assert err.startswith("error: stage bc, seed 3, point 0: gradients were not finite")
    assert err.count("\n") == 1
