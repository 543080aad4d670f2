"""What is said of demonstrations that can be read and yet are hardly what was meant."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.data.collect import record
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.inspection import foreign, noticed

ROWS = 10_000


def episodes(change=lambda obs, action: None, **fields):
    """Ten episodes of a thousand steps, all numbers within [-1, 1]."""
    rng = np.random.default_rng(0)
    obs, action = rng.uniform(-1, 1, (ROWS, 3)), rng.uniform(-1, 1, (ROWS, 2))
    change(obs, action)
    mode = fields.pop("mode", None)
    ends = np.arange(1, 11) * 1000
    return Episodes(obs, action, ends, mode, "a.npz", 3 if mode is not None else 0).validate()


def test_nothing_is_said_of_good_data():
    assert noticed(episodes()) == []
    assert noticed(episodes(mode=np.arange(10) % 3)) == []
    assert noticed(episodes(mode=np.full(10, -1))) == []


@pytest.mark.parametrize(("value", "said"), [(5000.0, True), (-5000.0, True), (150.0, False)])
@pytest.mark.parametrize("name", ["obs", "action"])
def test_a_value_far_outside_the_bulk_is_named(name, value, said):
    """One in ten thousand shrinks all others to 4e-4."""

    def change(obs, action):
        (obs if name == "obs" else action)[3456, 1] = value

    found = noticed(episodes(change))
    assert len(found) == said
    if said:
        where = f"column 1 of {name} is {value:g} in episode 3, step 456, far from all others, which lie in "
        assert found[0].startswith(where + "[-0.9")
        assert "(such values: 1, in 1 of " in found[0]
        assert ("data.scale=quantile" in found[0]) == (name == "action")


def test_a_column_that_seldom_moves_has_no_outliers():
    def change(obs, action):
        action[:, 1], obs[:, 2] = 0.0, 0.0
        action[::200, 1], obs[::200, 2] = 1.0, 300.0

    assert noticed(episodes(change)) == []


def test_columns_that_do_not_change():
    def change(obs, action):
        action[:, 0] = 0.25
        obs[:, 0] = 7.0  # a constant that is observed is harmless
        obs[:, 1:] = 0.5 + 3e-5 * obs[:, 1:]

    still, action = noticed(episodes(change))
    assert still.startswith("columns 1, 2 of obs: the range is less than a hundredth of the magnitude")
    assert action.startswith("column 0 of action never changes")


def test_labels_that_are_missing_among_others():
    mode = np.asarray([0, 1, 2, -1, -1, 0, 1, 2, 0, 1])
    (found,) = noticed(episodes(mode=mode))
    assert found.startswith("2 of 10 episodes have no mode label (-1)")


@pytest.fixture(scope="module")
def shown():
    """An environment and what its expert shows."""
    env = registry.build("env", plugin("env", "high_low"))
    return env, record(env, jax.random.key(0), 8, 0.1)


def changed(shown, change):
    obs = shown.obs.astype(np.float64).copy()
    return dataclasses.replace(shown, obs=change(obs))


def columnwise(factor, offset=0.0):
    return lambda obs: obs * np.asarray([1.0, factor]) + np.asarray([0.0, offset])


def test_observations_in_the_environments_units_pass(shown):
    env, data = shown
    with jax.debug_key_reuse(False):
        assert foreign(env, data, jax.random.key(0)) == []
        assert foreign(env, changed(data, columnwise(3.0)), jax.random.key(0)) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (columnwise(1000.0), "column 1 of state lies in [2"),
        (columnwise(0.001), "column 1 of state lies in [0.000"),
        (columnwise(1.0, 20.0), "column 1 of state lies in [20"),
        (lambda obs: 1000.0 * obs, ", and 1 more columns; are the units"),
    ],
)
def test_observations_in_other_units_are_named(shown, change, found):
    env, data = shown
    with jax.debug_key_reuse(False):
        (text,) = foreign(env, changed(data, change), jax.random.key(0))
    assert found in text, text
    assert "where environment 'high_low' shows [" in text
