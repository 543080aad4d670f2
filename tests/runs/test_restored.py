from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from mmbc_jax.core.errors import CheckpointError, ConfigError, UserError
from mmbc_jax.runs.restored import restore
from tests.toys.landscape import finished_run, results_json, unchecked
from tests.toys.products import spared


@pytest.mark.parametrize("stage", ["bc", "discover", "finetune"])
@spared("discover")
def test_it_plays_what_training_played(stage):
    restored = restore(finished_run(), stage, [])
    with unchecked():
        result = restored.evaluate()[stage]
    expected = results_json(finished_run(), stage)
    for ours, theirs in zip(result.metrics, expected["metrics"], strict=True):
        for name in (
            ours.keys() if stage == "bc" else theirs.keys()
        ):  # bc also has metrics of held-out windows
            assert ours[name] == theirs[name], name
    with np.load(finished_run() / "stages" / stage / "rollouts.npz") as episodes:
        for name in episodes.files:
            field, _, outcome = name.partition(".")
            ours = getattr(result.rollouts, field)
            assert np.asarray(ours[outcome] if outcome else ours).tobytes() == episodes[name].tobytes()
    np.testing.assert_array_equal(result.index, expected["index"])


def test_the_last_stage_and_its_settings_are_the_checkpoints_own():
    restored = restore(finished_run(), "", [])
    assert restored.stage.name == "finetune"
    assert restored.runs == [(0, 3), (0, 4)]
    config = restored.setup.config
    assert (config.sampler.name, config.sampler.steps, config.chunk.predict) == ("euler", 2, 4)
    assert restored.setup.policy.sampler.steps == 2
    direct = restore(finished_run() / "checkpoints" / "finetune", "", [])
    for ours, theirs in zip(
        jax.tree.leaves(direct.state.params), jax.tree.leaves(restored.state.params), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_command_and_a_seed():
    restored = restore(finished_run(), "finetune", [("evaluation.episodes", "6")])
    with unchecked():
        first = restored.evaluate(seed=1, command=1)["finetune"].rollouts
        second = restored.evaluate(seed=1, command=1)["finetune"].rollouts
        other = restored.evaluate(seed=2, command=1)["finetune"].rollouts
    assert first.z.tolist() == [[1] * 6] * 2
    assert first.path.tobytes() == second.path.tobytes()
    assert first.path.tobytes() != other.path.tobytes()
    for command in (-1, 2):
        with pytest.raises(UserError, match=rf"--z {command}: stage finetune has z 0 to 1"):
            restored.evaluate(command=command)


def test_a_shifted_environment_changes_the_figures_only():
    restored = restore(finished_run(), "bc", [("env.start_std", "0.5")])
    with unchecked():
        result = restored.evaluate()["bc"]
    assert result.metrics != results_json(finished_run(), "bc")["metrics"]


@pytest.mark.parametrize(
    ("stage", "overrides", "error", "found"),
    [
        ("tune", [], CheckpointError, "--stage tune: known are bc"),
        ("plain", [], CheckpointError, r"holds no checkpoint of a stage \(plain\)"),
        (
            "",
            [("env.name", "avoiding")],
            CheckpointError,
            r"trained on env.name = 'landscape'.*'avoiding' has",
        ),
        ("", [("evaluation.episodes", "1")], ConfigError, "config.evaluation.episodes = 1"),
        ("", [("env.start_stdd", "1")], ConfigError, "config.env.start_stdd"),
    ],
)
def test_what_cannot_work_is_named(stage, overrides, error, found):
    with pytest.raises(error, match=found):
        restore(finished_run(), stage, overrides)


def test_a_run_that_diverged_has_no_figures_here_either():
    """As training left it: nothing but the number of episodes, and it is said which."""
    restored = restore(finished_run(), "bc", [])
    stopped = dataclasses.replace(restored, stopped={1: 12})
    with unchecked():
        result = stopped.evaluate()["bc"]
    well, gone = result.metrics
    assert well["success_rate"] is not None
    assert {name for name, value in gone.items() if value is not None} == {"n"}
    assert result.facts["stopped"] == [[*restored.runs[1], 12]]
