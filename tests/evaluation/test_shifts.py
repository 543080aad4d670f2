"""Other settings of the environment, played beside its own."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.evaluation.results import load_result
from mmbc_jax.evaluation.shifts import parse_shifts, played_env, read_shifts, shifted_params
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
        ("calm: start_std=1 1", "start_std=1 1"),
        ("calm: start_std=1 x", "start_std=1 x"),
        ("calm: start_std=1 2, goal_angle=1 2 3", "calm: start_std=1 2, goal_angle=1 2 3"),
        ("calm: start_std=-1", "start_std=-1"),
        ("late: action_delay=1.5", "action_delay=1.5"),
        ("late: action_delay=0 -1", "action_delay=-1"),
        ("late: action_delay=2000", "action_delay=2000"),
        ("noise: obs_noise=-1", "obs_noise=-1"),
        ("blocked: block_x=0.5", "block_x=0.5"),
        ("heavy: mass=2", "mass"),
    ],
)
def test_what_cannot_be_played_is_named(given, named):
    env = registry.build("env", plugin("env", "landscape"))
    with pytest.raises(ConfigError, match=rf"evaluation\.shifts = {re.escape(repr(named))} is not allowed"):
        shifted_params(given, env)


def test_a_block_where_there_is_none_is_named():
    env = registry.build("env", plugin("env", "radial"))
    with pytest.raises(
        ConfigError, match=r"evaluation\.shifts = 'block_radius' is not allowed: a parameter of the"
    ):
        shifted_params("blocked: block_radius=0.1", env)


def test_several_values_are_a_setting_each():
    """The first parameter of several values names them; others go with it, or stay."""
    text = "late: goal_angle=1, action_delay=0 2 4, start_std=0.1 0.2 0.3; calm: start_std=0"
    late, calm = read_shifts(text)
    assert (late.parameter, late.strengths, late.is_sweep) == ("action_delay", (0.0, 2.0, 4.0), True)
    assert (calm.parameter, calm.is_sweep) == ("start_std", False)
    assert parse_shifts(text) == {
        "late=0": {"goal_angle": 1.0, "action_delay": 0.0, "start_std": 0.1},
        "late=2": {"goal_angle": 1.0, "action_delay": 2.0, "start_std": 0.2},
        "late=4": {"goal_angle": 1.0, "action_delay": 4.0, "start_std": 0.3},
        "calm": {"start_std": 0.0},
    }


def test_what_the_environment_lacks_is_added_for_the_evaluation_alone():
    env = registry.build("env", plugin("env", "landscape"))
    own = set(env.default_params())
    assert played_env("", env) is env
    assert played_env("calm: start_std=0", env) is env
    blocked = played_env("blocked: block_x=0.2, block_radius=0 0.1 0.2", env)
    assert set(blocked.default_params()) == own | {"block_x", "block_y", "block_radius"}
    text = "late: action_delay=0 3; noise: obs_noise=0.1; blocked: block_radius=0.1"
    late = played_env(text, env)
    assert (late.most, late.unwrapped.blocked) == (3, True)
    params = shifted_params(text, env)
    assert {jax.tree.structure(each) for each in params.values()} == {
        jax.tree.structure(late.default_params())
    }
    assert (params["late=3"]["action_delay"].dtype, int(params["late=3"]["action_delay"])) == (jnp.int32, 3)
    assert float(params["blocked"]["block_radius"]) == pytest.approx(0.1)
    assert set(env.default_params()) == own


@pytest.mark.slow
def test_a_sweep_of_perturbations_is_one_program_and_starts_with_the_policys_own_figures():
    shifts = "late: action_delay=0 2; noise: obs_noise=0 0.5; blocked: block_radius=0 2"
    ours = restore(finished_run(), "finetune", [("evaluation.shifts", shifts)])
    keys = ours.keys("evaluate/finetune")
    with unchecked():
        programs = Programs(ours.setup, Mesh())
        own, _ = programs.evaluate(ours.stage, ours.state, keys)
        found = {
            name: programs.evaluate(ours.stage, ours.state, keys, params)[0]
            for name, params in programs.shifts.items()
        }
    expected = load_result(finished_run(), "finetune").rollouts  # of training, which knew nothing of them
    assert len(programs.compiled) == 1
    for name in ("success", "mode", "z", "steps"):
        for each in (own, *(found[f"{sweep}=0"] for sweep in ("late", "noise", "blocked"))):
            np.testing.assert_array_equal(getattr(each, name), getattr(expected, name))
    np.testing.assert_allclose(own.path, expected.path, atol=1e-5)
    np.testing.assert_allclose(
        found["late=2"].path[:, :, :3], expected.path[:, :, :1].repeat(3, 2), atol=1e-6
    )
    np.testing.assert_allclose(found["late=2"].path[:, :, 4], expected.path[:, :, 2], atol=1e-5)
    assert (found["blocked=2"].steps == 1).all()  # the block holds the start
    assert not found["blocked=2"].success.any()


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
