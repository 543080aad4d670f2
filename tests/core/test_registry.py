"""Plug-ins by file name, by argument and from outside the package."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.data.windows import Windows
from mmbc_jax.learners import bc
from mmbc_jax.ops.normalisation import Normalizer

OUTSIDE = "outside_policy_for_tests"


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A module beside nobody's package, importable for one test; the name of its policy."""
    (tmp_path / f"{OUTSIDE}.py").write_text((Path(__file__).parent / "_outside.py").read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield f"{OUTSIDE}:build"
    sys.modules.pop(OUTSIDE, None)


@pytest.mark.parametrize("kind", registry.FOLDERS)
def test_available_lists_the_files_of_the_folders_and_nothing_else(kind):
    expected = {}
    for folder in registry.FOLDERS[kind]:
        root = Path(importlib.import_module(folder).__path__[0])
        names = [p.stem for p in root.glob("*.py") if not p.stem.startswith("_")]
        expected |= {name.removesuffix(f"_{kind}"): f"{folder}.{name}" for name in names}
    found = registry.available(kind)
    assert found == expected
    assert list(found) == sorted(found)
    assert found


@pytest.mark.parametrize("kind", registry.FOLDERS)
def test_every_file_holds_a_plugin_whose_traced_fields_exist(kind):
    for name in registry.available(kind):
        found = registry.find(kind, name)
        assert found.kind == kind
        assert set(found.hparams) <= set(found.default_config().keys())
        assert "name" not in found.default_config()


def test_unknown_name_offers_the_nearest():
    with pytest.raises(ConfigError, match=r"config\.policy\.name = 'flwo' .*did you mean 'flow'\?") as info:
        registry.find("policy", "flwo")
    assert "diffusion" in info.value.allowed
    assert "package.module:attribute" in info.value.allowed


def test_known_name_keeps_its_argument_for_the_plugin():
    assert registry.find("env", "brax:reacher") is registry.find("env", "brax")
    assert plugin("env", "brax:reacher").name == "brax:reacher"


def test_register_refuses_an_unknown_kind():
    with pytest.raises(KeyError, match="did you mean 'policy'"):
        registry.register("polcy", dict)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module_here:build", "cannot be imported"),
        ("json:no_such_attribute", "cannot be imported"),
        ("json:loads", r"@register\('policy', ...\)"),
        ("mmbc_jax.priors.normal:build", r"@register\('policy', ...\)"),
        (":build", "cannot be imported"),
    ],
)
def test_what_is_no_plugin_of_that_kind_is_refused(name, reason):
    with pytest.raises(ConfigError, match=reason) as info:
        registry.find("policy", name)
    assert info.value.field == "policy.name"
    assert info.value.value == name


def test_an_unmarked_function_outside_is_refused(outside):
    with pytest.raises(ConfigError, match="@register"):
        registry.find("policy", f"{OUTSIDE}:not_registered")


def test_outside_plugin_takes_overrides_as_one_of_the_package(outside):
    cfg = plugin("policy", outside, start=1)
    assert (cfg.name, cfg.start) == (outside, 1.0)
    with pytest.raises(ConfigError, match="did you mean 'start'"):
        plugin("policy", outside, strt=1.0)


@pytest.mark.heavy
def test_outside_policy_trains_two_steps(outside):
    """Adam's first step moves each bias by the learning rate towards the data: .5 -> .4 -> .3."""
    cfg = plugin("policy", outside)
    policy = registry.build("policy", cfg, PolicySpec(1, 1, 2), prior=None, sampler=None)
    integers = jnp.zeros((4,), jnp.int32)
    windows = Windows(jnp.zeros((4, 1)), jnp.zeros((4, 2, 1)), jnp.ones((4, 2)), integers, integers, integers)
    options = bc.BCOptions(steps=2, batch_size=3, warmup_steps=0, final_lr_fraction=1.0)
    values = {"learning_rate": 0.1, "weight_decay": 0.0, "ema_decay": 0.5, "clip_norm": 10.0}
    hparams = {f"bc.{name}": jnp.asarray(value) for name, value in values.items()}
    hparams["policy.pull"] = jnp.asarray(1.0)
    normalizer = Normalizer(-jnp.ones(1), jnp.ones(1), -jnp.ones(1), jnp.ones(1))
    learner, shared = bc.CloningLearner(options, policy), (windows, normalizer)
    state = learner.init(jax.random.key(0), hparams, None, shared)
    step = jax.jit(learner.train_step)
    for expected in (0.4, 0.3):
        state, metrics = step(state, shared)
        np.testing.assert_allclose(state.params["bias"], expected, atol=5e-3)
    assert int(state.step) == 2
    assert metrics["bc/error"] == pytest.approx(0.16, abs=0.01)  # before the second step: .4^2


@pytest.mark.parametrize(
    ("prior", "sampler", "policies"),
    [
        ("normal", "euler", {"policy": "mse"}),
        ("mixture", "euler", {"policy": "flow"}),
        ("mixture", "heun", {"policy": "flow", "baseline": "mse"}),
        ("vamp", "euler", {"policy": "mse", "baseline": "cvae"}),
        ("categorical", "euler", {"policy": "vq"}),
        ("normal", "heun", {"policy": "mixture_flow"}),
    ],
)
def test_a_base_that_some_policy_uses_is_allowed(prior, sampler, policies):
    registry.check_base(prior, sampler, policies)


@pytest.mark.parametrize(
    ("prior", "sampler", "policies", "found"),
    [
        (
            "mixture",
            "euler",
            {"policy": "mse"},
            "config.prior.name = 'mixture' .*'normal': .*policy.name = 'mse'",
        ),
        ("mixture", "heun", {"policy": "mixture_flow"}, "config.prior.name = 'mixture'"),
        ("mixture", "euler", {}, "config.prior.name = 'mixture' .*no use in a run without a clone"),
        ("normal", "heun", {"policy": "cvae"}, "config.sampler.name = 'heun' .*'euler': .*flow, .*"),
        (
            "normal",
            "ddim",
            {"policy": "mean_flow", "baseline": "mse"},
            "mean_flow' and baseline.name = 'mse'",
        ),
        ("normal", "euler", {"baseline": "msee"}, "config.baseline.name = 'msee' .*did you mean 'mse'"),
    ],
)
def test_a_base_that_nothing_uses_is_refused(prior, sampler, policies, found):
    with pytest.raises(ConfigError, match=found):
        registry.check_base(prior, sampler, policies)


def test_an_outside_policy_that_does_not_say_is_not_checked(outside):
    assert (registry.find("policy", outside).needs_prior, registry.find("policy", outside).needs_sampler) == (
        "any",
        None,
    )
    registry.check_base("vamp", "sde", {"policy": outside})


def test_every_policy_of_the_package_says_what_it_needs():
    said = {name: registry.find("policy", name).needs_prior for name in registry.available("policy")}
    assert "any" not in said.values()
    assert not [n for n in said if registry.find("policy", n).needs_sampler is None]
    with pytest.raises(KeyError, match="did you mean 'fixed'"):
        registry.register("policy", dict, needs_prior="fixd")


@pytest.mark.parametrize("name", registry.available("policy"))
def test_a_policy_has_the_use_for_a_base_that_it_says(name):
    """What a family does not build on is refused in every run that trains no other, whatever the prior or sampler."""
    spec, asked = PolicySpec(2, 2, 4), []
    found = registry.find("policy", name)

    def prior(event):
        asked.append(event)
        return registry.build("prior", plugin("prior", "normal"), event, spec=spec)

    sampler = registry.build("sampler", plugin("sampler", "euler"))
    policy = registry.build("policy", plugin("policy", name), spec, prior=prior, sampler=sampler)
    assert bool(asked) == found.uses("prior")
    assert (getattr(policy, "sampler", None) is sampler) == found.uses("sampler")
    for kind, neutral in registry.NEUTRAL.items():
        for other in registry.available(kind):
            if other == neutral or found.uses(kind):
                continue
            given = {**registry.NEUTRAL, kind: other}
            with pytest.raises(ConfigError, match=f"config.{kind}.name = '{other}'"):
                registry.check_base(given["prior"], given["sampler"], {"policy": name})


def test_a_file_that_is_added_is_found_without_a_restart(tmp_path, monkeypatch):
    """The list of a kind is kept for as long as its folders are as they were."""
    folder = tmp_path / "added_plugins"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "first.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.FOLDERS, "policy", ("added_plugins",))
    assert registry.available("policy") == {"first": "added_plugins.first"}
    (folder / "second.py").touch()
    os.utime(folder, ns=(0, os.stat(folder).st_mtime_ns + 1))  # a file system's clock may be coarse
    assert list(registry.available("policy")) == ["first", "second"]
