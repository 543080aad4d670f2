"""Configurations: overrides keep types, plug-in sections switch as a whole, errors say what is allowed."""

from __future__ import annotations

import json

import pytest
from ml_collections import ConfigDict

from mmbc_jax.core import config as lib
from mmbc_jax.core.errors import ConfigError, UserError
from mmbc_jax.core.files import plain


@pytest.fixture
def config() -> ConfigDict:
    return ConfigDict(
        {
            "steps": 10,
            "rate": 0.1,
            "name": "run",
            "fast": False,
            "stages": ("bc", "finetune"),
            "widths": (8, 8),
            "nothing": (),
            "ppo": ConfigDict({"clip": 0.2, "epochs": 4}),
            "policy": lib.plugin("policy", "flow"),
            "baseline": lib.plugin("policy", "mse"),
        }
    )


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("steps", "20", 20),
        ("rate", "1", 1.0),
        ("rate", "1e-3", 1e-3),
        ("name", "other", "other"),
        ("name", "7", "7"),  # a string field keeps what was typed
        ("fast", "true", True),
        ("fast", "False", False),
        ("stages", "bc, plain", ("bc", "plain")),
        ("stages", "bc", ("bc",)),
        ("stages", "('bc', 'plain')", ("bc", "plain")),
        ("widths", "16,32", (16, 32)),
        ("widths", "64", (64,)),
        ("nothing", "1,2", (1, 2)),
        ("ppo.clip", "1", 1.0),
        ("policy.hidden", "(16, 16, 16)", (16, 16, 16)),
    ],
)
def test_override_converts_to_the_fields_type(config, key, text, value):
    lib.apply_overrides(config, [(key, text)])
    found = config
    for part in key.split("."):
        found = found[part]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "allowed"),
    [
        ("steps", "2.5", "a whole number"),
        ("steps", "True", "a whole number"),
        ("steps", "many", "a whole number"),
        ("rate", "fast", "a number"),
        ("rate", "True", "a number"),
        ("fast", "1", "True or False"),
        ("widths", "8,wide", "a whole number"),
        ("ppo", "3", "a section with fields clip, epochs"),
        ("ppo.clip.low", "3", "ppo.clip is a value, not a section"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(config, key, text, allowed):
    before = config.to_json_best_effort()
    with pytest.raises(ConfigError) as info:
        lib.apply_overrides(config, [(key, text)])
    assert info.value.field == key
    assert allowed in info.value.allowed
    assert f"config.{key} = " in str(info.value)
    assert config.to_json_best_effort() == before


@pytest.mark.parametrize(
    ("key", "hint"),
    [("stps", "'steps'"), ("ppo.clop", "'clip'"), ("pppo.clip", "'ppo'"), ("policy.hiden", "'hidden'")],
)
def test_an_unknown_field_offers_the_nearest(config, key, hint):
    with pytest.raises(ConfigError, match=f"no such field; did you mean {hint}") as info:
        lib.apply_overrides(config, [(key, "1")])
    assert info.value.field in (key, key.split(".")[0])


def test_the_last_override_wins(config):
    assert lib.apply_overrides(config, [("steps", "1"), ("steps", "2")]).steps == 2


def test_naming_another_plugin_replaces_its_section(config):
    lib.apply_overrides(config, [("policy.hidden", "16,16")])
    # the field comes before the name on the command line, and still lands in the new section
    lib.apply_overrides(config, [("policy.prediction", "data"), ("policy.name", "diffusion")])
    expected = lib.plugin("policy", "diffusion", prediction="data")
    assert config.policy.to_dict() == expected.to_dict()
    assert config.policy.hidden != (16, 16)


def test_naming_the_same_plugin_keeps_the_section(config):
    lib.apply_overrides(config, [("policy.hidden", "16,16")])
    lib.apply_overrides(config, [("policy.name", "flow")])
    assert config.policy.hidden == (16, 16)


def test_a_section_may_hold_a_plugin_of_another_kinds_name(config):
    lib.apply_overrides(config, [("baseline.name", "flow"), ("baseline.times", "uniform")])
    assert config.baseline.times == "uniform"


def test_unknown_plugin_names_the_nearest(config):
    with pytest.raises(ConfigError, match="did you mean 'diffusion'"):
        lib.apply_overrides(config, [("policy.name", "difusion")])


def test_fields_of_the_former_plugin_are_unknown_to_the_new_one(config):
    with pytest.raises(ConfigError, match="no such field"):
        lib.apply_overrides(config, [("policy.name", "mse"), ("policy.times", "beta")])


def test_plugin_section_has_name_defaults_and_fields():
    section = lib.plugin("sampler", "euler", steps=7)
    assert section.to_dict() == {"name": "euler", "steps": 7, "crowding": 1.0}
    assert lib.plugin("env", "").to_dict() == {"name": ""}
    with pytest.raises(ConfigError, match=r"config\.sampler\.steps = 2\.5 .*whole number"):
        lib.plugin("sampler", "euler", steps=2.5)


def test_split_overrides_takes_both_forms_and_keeps_order():
    argv = ["--workdir", "w", "--config.a.b=1=2", "--config", "f.py", "--config.c", "3", "--config.d="]
    rest, overrides = lib.split_overrides(argv)
    assert rest == ["--workdir", "w", "--config", "f.py"]
    assert overrides == [("a.b", "1=2"), ("c", "3"), ("d", "")]


def test_from_plain_is_the_inverse_of_plain(config):
    text = json.dumps(plain(config))
    back = lib.from_plain(json.loads(text))
    assert back.to_dict() == config.to_dict()
    assert isinstance(back.stages, tuple)
    assert isinstance(back.policy, ConfigDict)


@pytest.mark.parametrize(
    ("value", "low", "high", "open_low", "fits"),
    [
        (0.0, 0.0, 1.0, False, True),
        (0.0, 0.0, 1.0, True, False),
        (1.0, 0.0, 1.0, True, True),
        (1.1, 0.0, 1.0, False, False),
        (-5, None, 1.0, False, True),
        (5, 1, None, False, True),
        (float("nan"), None, None, False, False),
        (float("nan"), 0.0, None, False, False),
    ],
)
def test_check_range(value, low, high, open_low, fits):
    if fits:
        lib.check_range("a.b", value, low, high, open_low=open_low)
    else:
        with pytest.raises(ConfigError, match=r"config\.a\.b = .* must be (above|at|a number)"):
            lib.check_range("a.b", value, low, high, open_low=open_low)


def test_check_choice_offers_the_nearest():
    lib.check_choice("a.b", "vmap", ("vmap", "map"))
    with pytest.raises(ConfigError, match=r"config\.a\.b = 'vmapp' .* did you mean 'vmap'"):
        lib.check_choice("a.b", "vmapp", ("vmap", "map"))


def test_load_reads_a_file_and_says_what_is_missing(tmp_path):
    good = tmp_path / "good.py"
    good.write_text(
        "from ml_collections import ConfigDict\ndef get_config():\n  return ConfigDict({'a': 1})\n"
    )
    assert lib.load(good).a == 1
    empty = tmp_path / "empty.py"
    empty.write_text("")
    with pytest.raises(UserError, match=r"empty\.py has no get_config"):
        lib.load(empty)
    with pytest.raises(UserError, match=r"absent\.py is not a file"):
        lib.load(tmp_path / "absent.py")
