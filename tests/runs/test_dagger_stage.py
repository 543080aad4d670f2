"""DAgger as a stage of a run: what it counts, that it resumes bit for bit, and what is refused."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from mmbc_jax.core.errors import CheckpointError, ConfigError
from mmbc_jax.core.registry import register
from mmbc_jax.data.collect import record
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs import stages as stages_lib
from mmbc_jax.runs.grid import config_grid
from mmbc_jax.runs.restored import restore
from tests.learners.test_dagger import Unstable
from tests.toys.landscape import rows, toy_config, toy_pipeline, toy_run, unchecked

from .test_checkpoint import raw
from .test_resume import Killed, assert_same, kill_in_save


def config(**overrides):
    return toy_config(
        **{
            "stages": "bc,dagger",
            "dagger__rounds": 2,
            "dagger__episodes": 4,
            "dagger__steps_per_round": 3,
            **overrides,
        }
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("dagger") / "run"
    return workdir, toy_run(workdir, config())


def test_the_stage_in_a_run(finished):
    """2 rounds x 4 episodes x 4 decisions x (4 played + 4 looked ahead) = 256 control steps, 32 windows."""
    workdir, results = finished
    own = [row for row in rows(workdir) if row["stage"] == "dagger" and "bc/loss" in row]
    assert [(row["step"], row["seed"]) for row in own] == [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert [row["dagger/aggregated"] for row in own] == [16, 16, 32, 32]
    facts = results["dagger"].facts
    assert (facts["env_steps"], facts["train_steps"], facts["train_compilations"]) == (256, 2, 1)
    for metrics in results["dagger"].metrics:
        assert 0.0 <= metrics["success_rate"] <= 1.0
        assert np.isfinite(metrics["offline/loss"])
    restored = restore(workdir, "dagger", [])
    assert restored.stage.name == "dagger"
    subject = restored.stage.subject(restored.state, jax.random.key(0))
    assert raw(subject.reference.params) == raw(restored.state.ema)
    with unchecked():
        again = restored.evaluate()["dagger"]
    assert [m["success_rate"] for m in again.metrics] == [
        m["success_rate"] for m in results["dagger"].metrics
    ]
    assert again.facts["train_steps"] == 2


@pytest.mark.slow
def test_two_rounds_are_one_and_one_bit_for_bit(finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_in_save(patch, "dagger", 1, saved=True)
        with pytest.raises(Killed):
            toy_run(tmp_path / "run", config())
    toy_run(tmp_path / "run", config())
    assert_same(tmp_path / "run", finished[0], ("bc", "dagger"))
    states = [restore(folder, "dagger", []).state for folder in (tmp_path / "run", finished[0])]
    assert raw(states[0]) == raw(states[1])


def test_start_from_another_run(finished, tmp_path):
    found = toy_run(tmp_path / "run", config(stages="dagger", start_from=finished[0]))
    assert raw(restore(tmp_path / "run", "dagger", []).state) == raw(restore(finished[0], "dagger", []).state)
    assert set(found) == {"dagger"}
    for override, found in (
        ({"data__episodes": 25}, "data.episodes: 24 -> 25"),
        ({"env__start_std": 0.1}, "env.start"),
    ):
        with pytest.raises(CheckpointError, match=found):
            toy_pipeline(tmp_path / "other", config(stages="dagger", start_from=finished[0], **override))


@pytest.mark.slow
def test_its_own_scalar_is_swept_alone():
    points = config_grid(config(sweep__grid="dagger.beta=0,0.5", first_seed=0))
    setup = setup_lib.build(config())
    stages = stages_lib.make_stages(setup, ("bc", "dagger"))
    assert {name: len(stage.runs(points).runs) for name, stage in stages.items()} == {"bc": 2, "dagger": 4}
    hp = stages["dagger"].make_hparams(points, stages["dagger"].runs(points))
    assert hp["learner.beta"].tolist() == [0.0, 0.0, 0.5, 0.5]
    assert "dagger.beta" in stages_lib.all_traced(stages.values())
    assert stages["dagger"].parent.name == "bc"


@register("env", lambda: ConfigDict())
def mute(cfg):
    """An environment without an expert."""
    env = Unstable()
    return type(
        "Mute", (), {name: getattr(env, name) for name in ("spec", "default_params", "reset", "step")}
    )()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dagger__rounds": 0}, "dagger.rounds"),
        ({"dagger__episodes": 0}, "dagger.episodes"),
        ({"dagger__steps_per_round": 0}, "dagger.steps_per_round"),
        ({"dagger__beta": 1.5}, "dagger.beta"),
        ({"env__name": f"{__name__}:mute"}, "stages"),
        ({"env__name": ""}, "stages"),
    ],
)
def test_config_is_checked(change, field, tmp_path):
    data = tmp_path / "data.npz"
    record(Unstable(), jax.random.key(1), 4, 0.0).save_npz(data)
    with pytest.raises(ConfigError) as info:
        toy_pipeline(tmp_path / "run", config(data__path=data, **change))
    assert info.value.field == field
