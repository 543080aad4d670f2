"""Errors name what the user can mend."""

from __future__ import annotations

import pytest

from mmbc_jax.core import errors
from mmbc_jax.core.errors import ConfigError, UserError, bounds, nearest


def test_config_error_names_field_value_and_what_is_allowed():
    error = ConfigError("ppo.clip", -1.0, bounds(0.0, None, open_low=True))
    assert str(error) == "config.ppo.clip = -1.0 must be above 0"
    assert (error.field, error.value, error.allowed) == ("ppo.clip", -1.0, bounds(0.0, None, open_low=True))


@pytest.mark.parametrize("name", ["ConfigError", "DataError", "CheckpointError", "WorkdirError"])
def test_every_error_is_one_the_command_lines_catch(name):
    assert issubclass(getattr(errors, name), UserError)


def test_a_choice_says_what_it_must_be():
    said = str(ConfigError("sweep.mode", "vmapp", errors.one_of("vmapp", ["loop", "vmap"])))
    assert said == "config.sweep.mode = 'vmapp' must be one of loop, vmap; did you mean 'vmap'?"
    assert errors.one_of("x", ["map", "vmap"], ", or a file") == "must be one of map, vmap, or a file"


def test_nearest_lists_close_names_first_then_all():
    text = nearest("flwo", ["mse", "flow", "diffusion"])
    assert text == "did you mean 'flow'? (known: diffusion, flow, mse)"


def test_nearest_without_a_close_name_only_lists():
    assert nearest("xyzzy", ["mse", "flow", "flow"]) == "(known: flow, mse)"
