"""Other settings of the environment, played beside its own."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.evaluation.shifts import parse_shifts, shifted_params
from mmbc_jax.report.summary import summarise_stage
from mmbc_jax.report.table import text
from mmbc_jax.runs.grid import run_keys
from mmbc_jax.runs.mesh import Mesh
from mmbc_jax.runs.programs import Programs
from mmbc_jax.runs.restored import restore
from tests.toys.landscape import finished_run, unchecked


def test_settings_are_read():
    assert parse_shifts("") == {}
    assert parse_shifts(" calm: a=0, b = 1e-3 ; push:a=0.5;") == {
        "calm": {"a": 0.0, "b": 0.001},
        "push": {"a": 0.5},
    }


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("start_std=1", "start_std=1"),
        ("calm", "calm"),
        ("calm:", ""),
        ("calm: start_std=1,,", ""),
        ("calm: start_std=1;; push: start_std=2", ""),
        (";", ""),
        ("a b: start_std=1", "a b: start_std=1"),
        ("calm: start_std=1; calm: start_std=2", "calm: start_std=2"),
        ("calm: start_std=one", "start_std=one"),
        ("calm: start_std=inf", "start_std=inf"),
        ("calm: start_std=1, start_std=2", "start_std=2"),
        ("calm: start_stdd=1", "start_stdd"),
        ("calm: name=1", "name"),
    ],
)
def test_what_cannot_be_played_is_named(given, named):
    env = registry.build("env", plugin("env", "landscape"))
    with pytest.raises(ConfigError, match=rf"evaluation\.shifts = {re.escape(repr(named))} is not allowed"):
        shifted_params(given, env)


def test_without_an_environment_there_is_nothing_to_shift():
    assert shifted_params("", None) == {}
    with pytest.raises(ConfigError, match=r"env\.name is empty"):
        shifted_params("calm: start_std=1", None)


def test_a_shift_is_the_environment_with_that_setting():
    """The same keys with the parameter given to the one program, and with an environment built with it."""
    shift = ("evaluation.shifts", "wide: start_std=0.5")
    ours = restore(finished_run(), "finetune", [shift])
    theirs = restore(finished_run(), "finetune", [("env.start_std", "0.5")])
    keys = run_keys("test", [3, 4])
    with unchecked():
        programs = Programs(ours.setup, Mesh())
        own, _ = programs.evaluate(ours.stage, ours.state, keys)
        shifted, metrics = programs.evaluate(ours.stage, ours.state, keys, programs.shifts["wide"])
        expected, figures = Programs(theirs.setup, Mesh()).evaluate(theirs.stage, theirs.state, keys)
    assert len(programs.compiled) == 1
    for name in ("success", "mode", "z", "steps"):
        np.testing.assert_array_equal(getattr(shifted, name), getattr(expected, name))
    np.testing.assert_allclose(shifted.path, expected.path, atol=1e-5)
    assert metrics[0]["success_rate"] == figures[0]["success_rate"]
    assert np.abs(own.path[:, :, 0] - shifted.path[:, :, 0]).max() > 0.1  # it did start elsewhere


def test_measured_and_shown_beside_the_stages_own():
    restored = restore(
        finished_run(), "bc", [("evaluation.shifts", "wide: start_std=0.5; goal: goal_angle=1")]
    )
    with unchecked():
        result = restored.evaluate()["bc"]
    assert list(result.metrics[0]["shifts"]) == ["wide", "goal"]
    stage = summarise_stage(result.metrics)
    found = stage["shifts"]["wide"]["success_rate"]
    assert found["per_seed"] == [run["shifts"]["wide"]["success_rate"] for run in result.metrics]
    assert found["ci95"]
    shown = text({"stages": {"bc": stage}, "run": {}})
    assert re.search(rf"under wide +{found['mean']:.3f} \[", shown)
    assert "shifts" not in summarise_stage([{"n": 1, "success_rate": 1.0}])
