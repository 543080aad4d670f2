"""The evaluation command: training's own figures again, from the checkpoint alone."""

from __future__ import annotations

import json
import sys

import pytest

from mmbc_jax import cli, evaluate
from mmbc_jax.core.errors import UserError
from tests.toys import landscape
from tests.toys.landscape import finished_run, unchecked
from tests.toys.products import spared


def main(capsys, *argv):
    capsys.readouterr()
    with unchecked():
        assert evaluate.main(["--checkpoint", *map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("stage", ["discover", "finetune"])
def test_the_figures_are_those_of_training(capsys, stage):
    workdir = finished_run()
    trained = json.loads((workdir / "summary.json").read_text())
    found = main(capsys, workdir, "--stage", stage)
    assert found["stages"] == {stage: trained["stages"][stage]}
    assert found["run"]["sampler"] == trained["run"]["sampler"]
    assert found["run"]["seeds"] == trained["run"]["seeds"]


def test_a_table_and_the_checkpoint_for_a_person(capsys, monkeypatch):
    """In 60 columns; JSON is for programs and asked for."""
    monkeypatch.setenv("COLUMNS", "60")
    workdir = finished_run()
    trained = json.loads((workdir / "summary.json").read_text())["stages"]["finetune"]
    capsys.readouterr()
    with unchecked():
        assert evaluate.main(["--checkpoint", str(workdir)]) == 0
    out = capsys.readouterr().out
    first, *lines = out.splitlines()
    assert first == f"checkpoint {workdir}/checkpoints/finetune/4"
    assert max(map(len, lines)) <= 60
    assert f"{trained['success_rate']['mean']:.3f} [" in out
    assert "return" in out
    assert "{" not in out


def test_a_clone_without_a_simulator_is_measured_on_what_was_held_out(tmp_path, capsys):
    """As at the end of its training, and where the data have moved to."""
    landscape.toy_run(tmp_path / "first", landscape.toy_config(stages="bc", seeds=1))
    data = tmp_path / "demos.npz"
    data.write_bytes((tmp_path / "first" / "demonstrations.npz").read_bytes())
    config = landscape.toy_config(
        stages="bc", seeds=1, env__name="", data__path=data, evaluation__every_epochs=0
    )
    trained = landscape.toy_run(tmp_path / "run", config)["bc"].metrics[0]
    found = main(capsys, tmp_path / "run")["stages"]["bc"]
    for name in ("offline/loss", "offline/best_of_1", "offline/spread"):
        assert found[name]["per_seed"] == [trained[name]]
    moved = data.rename(tmp_path / "moved.npz")
    assert main(capsys, tmp_path / "run", f"--config.data.path={moved}")["stages"]["bc"] == found
    with unchecked():
        assert evaluate.main(["--checkpoint", str(tmp_path / "run"), f"--config.data.path={moved}"]) == 0
    assert "held-out episodes" in capsys.readouterr().out


def test_the_clone_without_its_offline_metrics(capsys):
    trained = json.loads((finished_run() / "summary.json").read_text())["stages"]["bc"]
    found = main(capsys, finished_run() / "checkpoints" / "bc")["stages"]["bc"]
    assert found["success_rate"] == trained["success_rate"]
    for name, value in found.items():
        assert value == trained[name], name


@pytest.mark.parametrize("stage", ["bc", "finetune"])
@spared("bc")
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


def test_an_example_is_commanded(capsys, tmp_path):
    (tmp_path / "way.csv").write_text("x,y\n0,0\n0.3,0.3\n0.6,0.6\n")
    found = main(capsys, finished_run(), "--like", tmp_path / "way.csv")
    like, stage = found["run"]["like"], found["stages"]["finetune"]
    assert (like["rule"], like["seeds"]) == ("posterior", [3, 4])
    for z, scores, table in zip(
        like["z"], like["probability"], stage["z_mode_table"]["per_seed"], strict=True
    ):
        assert scores[z] == max(scores)
        assert [sum(row) for row in table] == [8 * (own == z) for own in range(2)]


def test_steering_without_its_head_is_the_reference(capsys):
    """On the same starts: as the clone itself, but for the draws."""
    same = ("--config.evaluation.paired=True", "--deterministic", "--seed", 1)
    found = main(capsys, finished_run(), "--stage", "finetune", "--headless", *same)
    assert found["run"]["headless"]
    clone = main(capsys, finished_run(), "--stage", "bc", *same)["stages"]["bc"]
    assert found["stages"]["finetune"]["mean_reward"]["per_seed"] == clone["mean_reward"]["per_seed"]


@pytest.mark.slow
def test_recommanding_is_summarised_and_drawn(capsys, tmp_path):
    shifts = "--config.evaluation.shifts=blocked: block_radius=0.1"
    argv = (finished_run(), "--recommand", "both", "--attempts", 2, "--trials", 3, "--out", tmp_path, shifts)
    found = main(capsys, *argv)["run"]["recommand"]
    assert (found["rule"], found["attempts"], found["trials"]) == ("both", 2, 3)
    assert list(found["settings"]) == ["as trained", "blocked"]
    for rules in found["settings"].values():
        assert list(rules) == ["random", "value", "trial"]  # this run has no stage plain
        for entry in rules.values():
            first, second = (each["per_seed"] for each in entry["within"])
            assert all(0 <= a <= b <= 1 for a, b in zip(first, second, strict=True))
            assert entry["within"][0]["n"] == 8
        assert rules["trial"]["trial_episodes"] == 6
        for z, wins in zip(rules["trial"]["z"], rules["trial"]["wins"], strict=True):
            assert z == wins.index(max(wins))
    assert (tmp_path / "figures" / "attempts.png").stat().st_size > 1000


def test_a_setting_of_the_environment_may_have_parameters_of_its_own(capsys):
    """The state of a training knows nothing of them."""
    same = ("--stage", "finetune", "--config.env.block_x=0", "--config.env.block_y=0")
    found = main(capsys, finished_run(), *same, "--config.env.block_radius=2")["stages"]["finetune"]
    assert (found["success_rate"]["mean"], found["mean_steps"]["mean"]) == (0.0, 1.0)


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
        (("--episodes", "0"), "--episodes 0 must be at least 1"),
        (("--config.bc.steps=3",), "--config.bc.steps: must be of env, evaluation"),
        (("--episodes", "1"), "config.evaluation.episodes = 1"),
        (("--out", __file__), "cannot be a folder"),
        (("--like", "none.csv"), "none.csv is no file"),
        (("--like", "none.csv", "--z", "1"), "--z and --like do not go together"),
        (("--stage", "bc", "--like", __file__), ".npz and .csv"),
        (("--stage", "bc", "--headless"), "stage bc trains no actor"),
        (("--stage", "bc", "--recommand", "value"), "stage bc has one z"),
        (("--recommand", "guess"), "--recommand"),
        (("--recommand", "trial", "--config.evaluation.paired=True"), "not from the same starts"),
        (("--recommand", "trial", "--trials", "0"), "--trials 0 must be at least 1"),
        (("--recommand", "trial", "--attempts", "0"), "--attempts 0 must be at least 1"),
        (("--config.evaluation.shifts=late: action_delay=0.5",), "action_delay=0.5"),
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


OURS = "mmbc_jax.envs.gymnasium_tasks:mmbc_jax/landscape-v0"


def test_a_gymnasium_environment(capsys):
    pytest.importorskip("gymnasium")
    found = main(capsys, finished_run(), "--stage=finetune", f"--gym={OURS}", "--episodes=4", "--z=1")
    assert (found["gym"], found["stage"], found["episodes"]) == (OURS, "finetune", 4)
    assert len(found["runs"]) == 2
    for one in found["runs"]:
        assert one["mean_steps"] == 16
        assert 0.0 <= one["success_rate"] <= 1.0
        assert sum(one["modes"].values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--gym=Nothing-v9",), "--gym 'Nothing-v9' cannot be made"),
        (("--gym=CartPole-v1",), r"--gym CartPole-v1: its actions are Discrete\(2\)"),
        ((f"--gym={OURS}", "--hold"), "--hold and --gym do not go together"),
        ((f"--gym={OURS}", "--z=9", "--stage=finetune"), "--z 9: stage finetune has z 0 to 1"),
    ],
)
def test_what_a_gymnasium_environment_cannot_do(argv, message):
    pytest.importorskip("gymnasium")
    with unchecked(), pytest.raises(UserError, match=message):
        evaluate.main(["--checkpoint", str(finished_run()), *argv])
