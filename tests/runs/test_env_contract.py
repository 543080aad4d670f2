"""Environments that break their contract are refused in one line, before anything is written or compiled."""

from __future__ import annotations

import dataclasses
import inspect
import re

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.registry import register
from mmbc_jax.runs.env_contract import check_env
from tests.toys.fragile import Fragile
from tests.toys.landscape import toy_config, toy_pipeline
from tests.toys.products import spared


class Changed(Fragile):
    """The environment, with its states passed through two functions."""

    def __init__(self, at_reset, at_step):
        super().__init__()
        self.at_reset, self.at_step = at_reset, at_step

    def reset(self, key, params=None):
        return self.at_reset(super().reset(key, params))

    def step(self, state, action):
        return self.at_step(super().step(state, action))


def same(state):
    return state


def without(part, key):
    """A function that takes a key out of `metrics` or `info`."""
    return lambda s: s.replace(**{part: {k: v for k, v in getattr(s, part).items() if k != key}})


def always(**parts):
    """Both functions, which replace parts of the state by functions of them."""

    def change(s):
        return s.replace(**{name: make(getattr(s, name)) for name, make in parts.items()})

    return change, change


FAULTS = {
    "no mode": ((without("info", "mode"),) * 2, r"reset returns a state with info\['mode'\]"),
    "no params": ((without("info", "params"),) * 2, r"reset returns a state with info\['params'\]"),
    "no success": ((without("metrics", "success"),) * 2, r"with metrics\['success'\]"),
    "size of obs": (
        always(obs=lambda x: jnp.zeros(3)),
        r"obs is as spec.obs says: it has state of shape \(3,\)",
    ),
    "type of obs": (
        always(obs=lambda x: x.astype(int)),
        "obs is as spec.obs says: state is int32, not float32",
    ),
    "dict of obs": (always(obs=lambda x: {"a": x}), "obs is as spec.obs says: it has entries a, not state"),
    "axes of reward": (always(reward=lambda x: x[None]), r"reward is a float without axes, not float32\[1\]"),
    "reward of python": (always(reward=lambda x: None), "reward is a float without axes, not None"),
    "axes of done": (always(done=lambda x: jnp.zeros(2)), r"done is a float without axes, not float32\[2\]"),
    "type of done": (always(done=lambda x: x > 0), r"done is a float without axes, not bool\[\]"),
    "axes of a metric": (
        always(metrics=lambda x: {**x, "far": jnp.zeros(4)}),
        r"metrics\['far'\] is a float without axes, not float32\[4\]",
    ),
    "type of mode": (
        always(info=lambda x: {**x, "mode": jnp.zeros(())}),
        r"info\['mode'\] is an int32 without axes, not float32\[\]",
    ),
    "metrics": (always(metrics=lambda x: x["success"]), "whose metrics is a dict, not a "),
    "a shape that changes": (
        (same, lambda s: s.replace(data={**s.data, "held": jnp.zeros(3)})),
        r"\.data\['held'\] is float32\[\] after reset and float32\[3\] after step",
    ),
    "a leaf that comes": (
        (same, lambda s: s.replace(data={**s.data, "new": s.reward})),
        r"\.data\['new'\] is in that of step alone",
    ),
    "a metric that goes": ((same, without("metrics", "t")), r"\.metrics\['t'\] is in that of reset alone"),
    "numpy in step": (
        (same, lambda s: s.replace(reward=jnp.asarray(np.sin(s.reward)))),
        r"its step fails at \S+test_env_contract.py, line \d+: TracerArrayConversionError: .*use jax.numpy",
    ),
    "a branch in step": (
        (same, lambda s: s if s.reward > 0 else s),
        r"its step fails at \S+test_env_contract.py, line \d+: TracerBoolConversionError: .*use jax.numpy",
    ),
    "an error in reset": (
        (lambda s: {}["no such"], same),
        r"its reset fails at \S+test_env_contract.py, line \d+: KeyError: 'no such'",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_breaks_the_contract_is_named(fault):
    changes, message = FAULTS[fault]
    with pytest.raises(ConfigError, match=message) as found:
        check_env(Changed(*changes), "mine:env")
    assert str(found.value).startswith("config.env.name = 'mine:env' is not allowed: ")
    assert "\n" not in str(found.value)


def test_the_line_is_that_of_the_author():
    with pytest.raises(ConfigError) as found:
        check_env(Raising(), "mine:env")
    lines, start = inspect.getsourcelines(Raising.step)
    expected = start + next(i for i, line in enumerate(lines) if "odd" in line)
    assert re.search(rf"{re.escape(__file__)}, line {expected}: ValueError: this is odd", str(found.value))


class Raising(Fragile):
    """One whose step raises below a transformation of JAX."""

    def step(self, state, action):
        raise ValueError("this is odd\nand has two lines")


def test_what_is_no_environment():
    with pytest.raises(ConfigError, match="an environment with spec, default_params, reset, step"):
        check_env(object(), "mine:env")
    other = Fragile()
    other.spec = dataclasses.asdict(other.spec)
    with pytest.raises(ConfigError, match="an environment with an EnvSpec as its spec"):
        check_env(other, "mine:env")


@pytest.mark.parametrize("name", [n for n in registry.available("env") if n != "brax"])
@spared("avoiding_arm", "reach")
def test_every_environment_keeps_it(name):
    check_env(registry.build("env", plugin("env", name)), name)


@register("env", lambda: ConfigDict())
def moody(cfg):
    """An environment without a mode."""
    return Changed(*(without("info", "mode"),) * 2)


@register("env", lambda: ConfigDict())
def broken(cfg):
    """A builder that fails."""
    raise RuntimeError("no licence")


@pytest.mark.parametrize(
    ("name", "message"),
    [("moody", r"info\['mode'\]"), ("broken", r"its builder fails at .*test_env_contract.py.*no licence")],
)
def test_a_run_leaves_nothing_behind(name, message, tmp_path):
    config = toy_config(stages="plain")
    with config.unlocked():
        config.env = ConfigDict({"name": f"{__name__}:{name}"})
    with pytest.raises(ConfigError, match=message):
        toy_pipeline(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()
