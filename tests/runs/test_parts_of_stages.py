"""Stages with parts of their own: other learners, no clone, blocks of windows, buffers that are saved less often."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.pipeline import make_pipeline
from mmbc_jax.runs.restored import restore
from mmbc_jax.runs.stages import make_stages
from tests.toys.landscape import rows, toy_config, toy_run, unchecked

SAC = {
    "learner__name": "sac",
    "learner__num_envs": 8,
    "learner__decisions": 4,
    "learner__updates": 2,
    "learner__batch_size": 8,
    "learner__capacity": 64,
    "learner__warmup": 8,
    "learner__critic_hidden": "(8,)",
    "learner__iterations_per_epoch": 1,
}
SCRATCH = {
    "stages": "finetune",
    "actor__name": "gaussian",
    "actor__hidden": "(8,)",
    "evaluation__every_epochs": 0,
}


def test_reinforcement_without_a_clone(tmp_path):
    with unchecked():
        result = toy_run(tmp_path / "run", toy_config(**SCRATCH))["finetune"]
        restored = restore(tmp_path / "run", "", [])
        assert restored.state.stats["reference"] is None
        again = restored.evaluate()["finetune"]
    assert [m["success_rate"] for m in again.metrics] == [m["success_rate"] for m in result.metrics]


def test_an_actor_that_needs_a_clone_says_so(tmp_path):
    config = toy_config(stages="finetune")
    with pytest.raises(ConfigError, match=r"config.actor.name = 'steer'"):
        make_pipeline(config, tmp_path / "run", Console(quiet=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_stages_of_two_learners_in_one_run(tmp_path):
    own = {f"plain__{name}": value for name, value in SAC.items()}
    config = toy_config(stages="bc,finetune,plain", **own)
    with unchecked():
        results = toy_run(tmp_path / "run", config)
    logged = {(row["stage"], name) for row in rows(tmp_path / "run") for name in row}
    assert ("finetune", "ppo/approx_kl") in logged
    assert ("plain", "replay/buffer") in logged
    assert results["plain"].facts["train_compilations"] == 1


def test_a_buffer_is_saved_at_its_own_cadence():
    config = toy_config(checkpoint__buffer_every_epochs=3, checkpoint__every_epochs=1, **SAC)
    stages = make_stages(setup_lib.build(config), config.stages)
    assert stages["bc"].schedule.save_every == 1
    assert stages["finetune"].schedule.save_every == 3


def test_blocks_of_windows_train_and_resume(tmp_path):
    """24 episodes of 16 steps are 18 x 16 = 288 training windows of 68 bytes: .01 MB holds 3 blocks of about 50."""
    config = toy_config(stages="bc", data__stream=0.01)
    with unchecked():
        result = toy_run(tmp_path / "run", config)["bc"]
        whole = toy_run(tmp_path / "whole", toy_config(stages="bc"))["bc"]
    losses = [row["bc/loss"] for row in rows(tmp_path / "run") if "bc/loss" in row]
    assert np.isfinite(losses).all()
    assert losses != [row["bc/loss"] for row in rows(tmp_path / "whole") if "bc/loss" in row]
    assert result.facts["train_compilations"] == whole.facts["train_compilations"] == 1
