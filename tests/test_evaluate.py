"""The evaluation command: training's own figures again, from the checkpoint alone."""

from __future__ import annotations

import json
import sys

import pytest

from mmbc_jax import cli, evaluate
from mmbc_jax.core.errors import UserError
from tests.toys.landscape import finished_run, unchecked


def main(capsys, *argv):
    capsys.readouterr()
    with unchecked():
        assert evaluate.main(["--checkpoint", *map(str, argv)]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("stage", ["discover", "finetune"])
def test_the_figures_are_those_of_training(capsys, stage):
    workdir = finished_run()
    trained = json.loads((workdir / "summary.json").read_text())
    found = main(capsys, workdir, "--stage", stage)
    assert found["stages"] == {stage: trained["stages"][stage]}
    assert found["run"]["sampler"] == trained["run"]["sampler"]
    assert found["run"]["seeds"] == trained["run"]["seeds"]


def test_the_clone_without_its_offline_metrics(capsys):
    trained = json.loads((finished_run() / "summary.json").read_text())["stages"]["bc"]
    found = main(capsys, finished_run() / "checkpoints" / "bc")["stages"]["bc"]
    assert found["success_rate"] == trained["success_rate"]
    for name, value in found.items():
        assert value == trained[name], name


@pytest.mark.parametrize("stage", ["bc", "finetune"])
def test_without_chance_two_evaluations_agree(capsys, stage):
    """The seed draws start states and the noise of actions; with the former the same, nothing is left to chance."""
    same = ("--stage", stage, "--config.evaluation.paired=True", "--deterministic", "--sampler_steps", 3)
    found = [
        main(capsys, finished_run(), *same, "--seed", seed)["stages"][stage]["mean_reward"] for seed in (1, 2)
    ]
    assert found[0] == found[1]
    drawn = [
        main(capsys, finished_run(), *same[:3], "--seed", seed)["stages"][stage]["mean_reward"]
        for seed in (1, 2)
    ]
    assert drawn[0] != drawn[1]


def test_held_noise_is_played(capsys):
    found = main(capsys, finished_run(), "--stage", "bc", "--hold")["stages"]["bc"]
    assert found["switches"]["mean"] is not None


@pytest.mark.parametrize(("m", "found"), [("-3", "ensemble = -3.0"), ("0.1", "plans do not overlap: .* = 4")])
def test_ensembling_that_cannot_be(m, found):
    with pytest.raises(UserError, match=f"config.evaluation.ensemble.*{found}|{found}"):
        evaluate.main(["--checkpoint", str(finished_run()), "--ensemble", m])


def test_out_holds_the_summary_and_figures(capsys, tmp_path):
    out = tmp_path / "deep" / "out"
    found = main(capsys, finished_run(), "--z", 1, "--episodes", 6, "--seed", 5, "--out", out)
    assert json.loads((out / "summary.json").read_text()) == found
    assert (out / "figures" / "trajectories_finetune.png").stat().st_size > 1000
    assert found["run"]["episodes"] == 6
    table = found["points"][0]["stages"]["finetune"]["z_mode_table"]
    assert "6" in json.dumps(table)


def test_a_runs_own_directory_is_not_overwritten():
    before = (finished_run() / "summary.json").read_bytes()
    with pytest.raises(UserError, match="whose summary it would overwrite"):
        evaluate.main(["--checkpoint", str(finished_run()), "--out", str(finished_run())])
    assert (finished_run() / "summary.json").read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (("--z", "2"), "--z 2: stage finetune has z 0 to 1"),
        (("--stage", "plain"), "holds no checkpoint of a stage (plain)"),
        (("--episodes", "1"), "config.evaluation.episodes = 1"),
        (("--out", __file__), "cannot be a folder"),
    ],
)
def test_what_cannot_work_is_one_line(monkeypatch, capsys, argv, found):
    monkeypatch.setattr(sys, "argv", ["evaluate", "--checkpoint", str(finished_run()), *argv])
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        cli.run_main(evaluate.main)
    err = capsys.readouterr().err
    assert exit_.value.code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert found in err
