"""Instruments in training and on a checkpoint: chosen by name, the same figures from both, a verdict each."""

from __future__ import annotations

import json

import pytest

from mmbc_jax import evaluate
from mmbc_jax.core.errors import ConfigError, UserError
from mmbc_jax.diagnostics.chosen import build_instruments, default_config, instrument_names
from mmbc_jax.diagnostics.verdict import MECHANISMS
from tests.toys.landscape import finished_run, toy_config, toy_run, unchecked


def test_names():
    assert instrument_names(("drift", "all", "drift"))[0] == "drift"
    assert set(instrument_names(("all",))) == set(default_config())
    assert len(instrument_names(("all", "bridges"))) == len(default_config())
    with pytest.raises(ConfigError, match="did you mean 'bridges'"):
        instrument_names(("bridge",))


def test_settings_reach_the_instrument():
    config = toy_config(diagnostics="separation", instruments__separation__max_modes=3)
    assert build_instruments(config)["separation"].options.max_modes == 3
    with pytest.raises(ConfigError, match="max_modes"):
        build_instruments(toy_config(diagnostics="separation", instruments__separation__max_modes=0))


@pytest.mark.slow
def test_in_training_and_from_the_checkpoint_alike(tmp_path, capsys):
    config = toy_config(stages="bc", diagnostics="separation", data__episodes=160, sweep__mode="map")
    with unchecked():
        metrics = toy_run(tmp_path / "run", config)["bc"].metrics
    assert len(metrics) == 2
    for run in metrics:
        assert run["separation/anchors"] >= 0
        assert run["verdict"]["mechanism"] in MECHANISMS
        assert run["verdict"]["text"].startswith("flow: ")
    capsys.readouterr()
    with unchecked():
        argv = ["--checkpoint", str(tmp_path / "run"), "--diagnostics", "separation", "--json"]
        assert evaluate.main(argv) == 0
    found = json.loads(capsys.readouterr().out)["stages"]["bc"]
    for name in ("separation/anchors", "separation/modes"):
        assert found[name]["per_seed"] == [run[name] for run in metrics]
    assert found["verdict"]["per_seed"] == [run["verdict"] for run in metrics]


def test_only_clones_are_diagnosed():
    with pytest.raises(UserError, match="not finetune"), unchecked():
        evaluate.main(["--checkpoint", str(finished_run()), "--stage", "finetune", "--diagnostics", "all"])


def test_what_asks_the_episodes_alone_measures_every_stage(capsys):
    argv = ["--checkpoint", str(finished_run()), "--stage", "finetune", "--diagnostics", "paths", "--json"]
    with unchecked():
        assert evaluate.main([*argv, "--config.evaluation.paths=8"]) == 0
    found = json.loads(capsys.readouterr().out)["stages"]["finetune"]
    for name in ("information", "z_contrastive", "z_neighbours"):
        low, value, high = (found[f"paths/{name}{end}"]["per_seed"] for end in ("_low", "", "_high"))
        assert len(value) == 2
        assert all(a <= b for a, b in zip(low, high, strict=True))
    assert "verdict" not in found


def test_unknown_instruments_are_refused():
    with pytest.raises(ConfigError, match="diagnostics"):
        evaluate.main(["--checkpoint", str(finished_run()), "--diagnostics", "nothing"])
