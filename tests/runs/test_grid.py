"""The grid of a sweep: which runs exist and which of them stages share."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.runs.grid import (
    Grid,
    check_grid,
    hparams,
    parent_index,
    parse_grid,
    run_keys,
    stage_runs,
)

TEXT = "finetune.mi_coef=0,0.5; bc.learning_rate=1e-3, 3e-4,1e-4"


def test_parse_is_the_full_product():
    grid = parse_grid(TEXT, seeds=2, first_seed=5)
    assert grid.paths == ("finetune.mi_coef", "bc.learning_rate")
    rates = (1e-3, 3e-4, 1e-4)
    assert grid.points == tuple((coefficient, rate) for coefficient in (0.0, 0.5) for rate in rates)
    assert grid.seeds == (5, 6)
    assert grid.values(4) == {"finetune.mi_coef": 0.5, "bc.learning_rate": 3e-4}


@pytest.mark.parametrize("text", ["", "  "])
def test_no_grid_is_one_point(text):
    grid = parse_grid(text, 3, 0)
    assert grid == Grid((), ((),), (0, 1, 2))
    assert stage_runs(grid, ("a.b",)).index.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    "text",
    ["a.b", "a.b=", "a.b=x", "a.b=1,two", "a.b=1;c.d", "a.b=[1]", ";", "a.b=1;;c.d=2", "a.b=1,,2", "a.b=1,"],
)
def test_malformed_grids_say_what_is_wanted(text):
    with pytest.raises(ConfigError, match=r'config\.sweep\.grid = .* of the form "section\.field=1,2,3'):
        parse_grid(text, 1, 0)


def test_only_traced_scalars_can_be_swept():
    check_grid(parse_grid(TEXT, 1, 0), ("finetune.mi_coef", "bc.learning_rate"))
    with pytest.raises(ConfigError, match=r"'bc\.batch_size' .* a traced scalar") as info:
        check_grid(parse_grid("bc.batch_size=1,2", 1, 0), ("bc.ema_decay",))
    assert info.value.field == "sweep.grid"


def test_points_that_differ_elsewhere_share_a_run():
    """Cloning does not see lambda: of 6 points x 2 seeds only 3 rates x 2 seeds are cloned."""
    grid = parse_grid(TEXT, 2, 0)
    clone = stage_runs(grid, ("bc.learning_rate",))
    assert clone.runs == ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1))
    assert clone.index.tolist() == [[0, 1], [2, 3], [4, 5]] * 2
    tune = stage_runs(grid, ("bc.learning_rate", "finetune.mi_coef"))
    assert len(tune.runs) == 12
    assert len(set(tune.index.ravel().tolist())) == 12
    assert parent_index(clone, tune).tolist() == [0, 1, 2, 3, 4, 5] * 2
    everything_shared = stage_runs(grid, ())
    assert everything_shared.runs == ((0, 0), (0, 1))


@pytest.mark.parametrize("text", ["a.b=1,1,2", "a.b=0.5;c.d=3, 0.1,0.10", "a.b=0,1e-60"])
def test_equal_points_are_refused(text):
    """They would be trained once and reported twice; scalars are traced as float32."""
    with pytest.raises(
        ConfigError, match=r"config\.sweep\.grid = .* without a value of (a.b|c.d) that comes twice"
    ):
        parse_grid(text, 1, 0)


def test_a_grid_may_end_with_a_semicolon():
    assert parse_grid("a.b=1;", 1, 0).points == ((1.0,),)


def test_hparams_put_the_grid_over_the_config():
    config = ConfigDict({"bc": {"learning_rate": 9.0, "ema_decay": 0.5}, "finetune": {"mi_coef": 7.0}})
    grid = parse_grid(TEXT, 1, 0)
    traced = ("finetune.mi_coef", "bc.learning_rate", "bc.ema_decay")
    scalars = {"stage.mi_coef": "finetune.mi_coef"} | {path: path for path in traced[1:]}
    found = hparams(config, grid, stage_runs(grid, traced), scalars, {"stage.env_coef": 1})
    assert found["stage.env_coef"].tolist() == [1.0] * 6
    np.testing.assert_allclose(found["stage.mi_coef"], [0, 0, 0, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(found["bc.learning_rate"], [1e-3, 3e-4, 1e-4] * 2)
    np.testing.assert_allclose(found["bc.ema_decay"], 0.5)
    assert all(value.dtype == np.float32 for value in found.values())


def test_keys_depend_on_seed_and_purpose_alone():
    keys = [np.asarray(jax.random.key_data(run_keys(label, (0, 1)))) for label in ("bc", "bc", "eval")]
    np.testing.assert_array_equal(keys[0], keys[1])
    assert len(np.unique(np.concatenate([keys[0], keys[2]]), axis=0)) == 4
    single = np.asarray(jax.random.key_data(run_keys("bc", (1,))))
    np.testing.assert_array_equal(single[0], keys[0][1])
