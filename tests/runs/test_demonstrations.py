"""What a run makes of its demonstrations before it trains on them, and what it says of them."""

from __future__ import annotations

import dataclasses
import io
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.registry import register
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.envs.synthetic import landscape
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.demonstrations import StageData
from mmbc_jax.runs.pipeline import make_pipeline
from mmbc_jax.runs.restored import restore
from tests.toys.landscape import results_json, toy_config, unchecked


@register("env", landscape.LandscapeOptions)
def turning(options):
    """The landscape, whose second coordinate is declared to be an angle."""
    env = landscape.Landscape(options)
    env.spec = dataclasses.replace(env.spec, obs=ObsSpec.vector(2, angles=(1,)))
    return env


STEP = 0.15  # of the landscape: its actions are displacements of up to so much


def recorded(path, share=0.07, change=lambda obs, action: None):
    """Twenty walks of 16 steps on the landscape, whose actions fill a share of the box."""
    rng = np.random.default_rng(0)
    action = share * STEP * rng.uniform(-1, 1, (20, 16, 2))
    action[0, 0], action[0, 1] = share * STEP, -share * STEP
    obs = rng.uniform(-1, 1, (20, 1, 2)) + np.cumsum(action, 1) - action
    obs, action = obs.reshape(-1, 2), action.reshape(-1, 2)
    change(obs, action)
    return Episodes(obs, action, 16 * np.arange(1, 21), None, "walks").save_npz(path)


def run(folder, path, **overrides):
    """(what a run showed, its pipeline)."""
    settings = {"stages": "bc", "seeds": 1, "data__path": path, "evaluation__every_epochs": 0} | overrides
    screen = io.StringIO()
    pipeline = make_pipeline(toy_config(**settings), folder, Console(file=screen, width=400))
    with unchecked():
        pipeline.run()
    return screen.getvalue(), pipeline


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A run on actions that fill 7 % of the box, cloned and fine-tuned."""
    folder = tmp_path_factory.mktemp("narrow")
    shown, _ = run(folder / "run", recorded(folder / "a.npz"), stages="bc,finetune")
    return folder / "run", shown


@pytest.mark.slow
def test_the_scale_is_said_once_and_written_down(narrow):
    folder, shown = narrow
    assert shown.count("-1 and 1 are the data's own in the columns 0: 7 %, 1: 7 %") == 1
    facts = json.loads((folder / "data.json").read_text())
    assert facts["action_scale"]["own"] == [0, 1]
    np.testing.assert_allclose(facts["action_scale"]["high"], [0.07 * STEP] * 2, rtol=1e-2)
    assert len(facts["notes"]) == 1


@pytest.mark.parametrize("stage", ["bc", "finetune"])
def test_the_scale_travels_with_the_checkpoint(narrow, stage):
    folder, _ = narrow
    restored = restore(folder, stage, [])
    scale = restored.state.stats["normalizer"]
    np.testing.assert_allclose(scale.action_high[0], [0.07 * STEP] * 2, rtol=1e-2)
    np.testing.assert_allclose(scale.box[1][0], [STEP] * 2, rtol=1e-6)
    with unchecked():
        ours = restored.evaluate()[stage].metrics
    theirs = results_json(folder, stage)["metrics"]
    assert all(ours[0][name] == theirs[0][name] for name in ("success_rate", "reward") if name in theirs[0])
    # a clone of steps of a fourteenth of the largest does not walk at full speed
    with np.load(folder / "stages" / "bc" / "rollouts.npz") as episodes:
        moved = np.abs(np.diff(episodes["path"][0], axis=1)).max()
    assert moved < 0.7 * STEP


def test_a_later_run_starts_from_a_clone_with_its_own_scale(narrow, tmp_path):
    folder, _ = narrow
    path = folder.parent / "a.npz"
    shown, pipeline = run(tmp_path / "run", path, stages="finetune", start_from=str(folder))
    assert "start_from" not in shown
    state = pipeline._finals._final("finetune").state
    np.testing.assert_allclose(state.stats["normalizer"].box[1][0], [STEP] * 2, rtol=1e-6)


@pytest.mark.slow
def test_a_lane_that_compiled_for_the_box_compiles_again(narrow, tmp_path):
    folder, _ = narrow
    path = folder.parent / "a.npz"
    run(tmp_path / "run", path, stages="bc,finetune", mesh__cores="own")
    assert (tmp_path / "run" / "lanes" / "finetune").exists()
    for stage in ("bc", "finetune"):
        assert results_json(tmp_path / "run", stage) == results_json(folder, stage)


def prepared(tmp_path, path, **overrides):
    setup = setup_lib.build(toy_config(stages="bc", data__path=path, **overrides))
    return StageData.prepare(setup, tmp_path, keep=False)


def test_data_that_fill_the_box_keep_it(tmp_path):
    full = prepared(tmp_path, recorded(tmp_path / "full.npz", share=1.0))
    assert full.normalizer.box is None
    assert full.notes == ()
    assert full.scale.line == (
        "actions: -1 and 1 are the environment's bounds, of which the data fill 99 % or more (data.scale=auto)"
    )
    narrow = recorded(tmp_path / "narrow.npz")
    boxed = prepared(tmp_path, narrow, data__scale="box")
    assert boxed.normalizer.box is None
    np.testing.assert_allclose(boxed.normalizer.action_high, [STEP] * 2, rtol=1e-6)
    assert np.abs(np.asarray(boxed.train_windows.chunk)).max() < 0.08
    own = prepared(tmp_path, narrow)
    np.testing.assert_allclose(np.abs(np.asarray(own.train_windows.chunk)).max(), 1.0, rtol=1e-2)


def test_without_an_environment_there_is_no_box(tmp_path):
    path = recorded(tmp_path / "a.npz")
    with pytest.raises(ConfigError, match=r"config.data.scale = 'box' .*auto, data, quantile or mean_std"):
        prepared(tmp_path, path, env__name="", data__scale="box")
    data = prepared(tmp_path, path, env__name="")
    assert data.normalizer.box is None
    np.testing.assert_allclose(np.abs(np.asarray(data.train_windows.chunk)).max(), 1.0, rtol=1e-2)
    assert jax.tree.leaves(data.normalizer.box) == []


def test_what_an_environment_declares_holds_for_files_that_say_nothing(tmp_path):
    path = recorded(tmp_path / "a.npz")
    named = toy_config(stages="bc", data__path=path, env__name="tests.runs.test_demonstrations:turning")
    setup = setup_lib.build(named)
    data = StageData.prepare(setup, tmp_path, keep=False)
    raw = data.episodes.obs[:, 1]
    assert data.normalizer.obs_low[1] == -1.0
    assert data.normalizer.obs_high[1] == 1.0
    assert np.isin(np.asarray(data.train_windows.obs)[:, 1], raw).all()  # left as it is
    assert setup.policy_spec.obs.entries[0][1].angles == (1,)  # and read as an angle


def test_what_looks_wrong_is_said_and_written_down(tmp_path):
    def change(obs, action):
        obs *= 100.0  # in centimetres, and one sensor failed
        obs[77, 0] = 1e7

    shown, _ = run(tmp_path / "run", recorded(tmp_path / "a.npz", 1.0, change))
    far, units = "column 0 of obs is 1e+07 in episode 4, step 13", "of state lies in [-"
    assert shown.count(far) == shown.count(units) == 1
    notes = json.loads((tmp_path / "run" / "data.json").read_text())["notes"]
    assert len(notes) == 2
    assert far in notes[0]
    assert "are the units the environment's?" in notes[1]
