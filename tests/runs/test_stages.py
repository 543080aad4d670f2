from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs import stages as stages_lib
from mmbc_jax.runs.grid import config_grid
from mmbc_jax.runs.restored import restore
from mmbc_jax.runs.templates import dummy_shared
from tests.toys.landscape import finished_run, toy_config

from .test_checkpoint import raw

ALL = ("bc", "baseline", "discover", "finetune", "plain")


@functools.cache
def setup():
    return setup_lib.build(toy_config(stages=",".join(ALL)))


def make(name, available=ALL):
    return stages_lib.make_stages(setup(), available)[name]


def grid_of(text, seeds):
    return config_grid(toy_config(sweep__grid=text, seeds=seeds, first_seed=0))


def test_parents():
    assert {name: getattr(make(name).parent, "name", "") for name in ALL} == {
        "bc": "",
        "baseline": "",
        "discover": "bc",
        "finetune": "discover",
        "plain": "bc",
    }
    assert make("finetune", ("bc", "finetune")).parent.name == "bc"


def test_what_a_stage_is_worth():
    """An iteration takes 8 environments x 4 decisions x 4 steps = 128 control steps."""
    assert {name: make(name).env_steps for name in ALL} == {
        "bc": 0,
        "baseline": 0,
        "discover": 2 * 128,
        "finetune": 4 * 128,
        "plain": 6 * 128,  # as many as discover and finetune together
    }
    assert make("plain", ("bc", "plain")).env_steps == 4 * 128
    bc, plain = make("bc").schedule, make("plain").schedule
    assert (bc.epochs, bc.rows, bc.steps_per_row, bc.steps_per_epoch) == (4, 2, 2, 4)
    assert (plain.epochs, plain.rows, plain.steps_per_row) == (6, 1, 1)


def test_stages_of_one_shape_name_one_program():
    assert make("discover").program == make("finetune").program != make("plain").program
    config = toy_config(stages=",".join(ALL), finetune__reward__name="none")
    own = stages_lib.make_stages(setup_lib.build(config), ALL)
    assert own["discover"].program != own["finetune"].program  # another reward is another program
    assert make("bc").program != make("baseline").program


@pytest.mark.parametrize(
    ("grid", "distinct"),
    [
        ("finetune.mi_coef=0,1,2", {"bc": 2, "baseline": 2, "discover": 2, "finetune": 6, "plain": 2}),
        ("ppo.clip=0.1,0.2", {"bc": 2, "baseline": 2, "discover": 4, "finetune": 4, "plain": 4}),
        ("bc.learning_rate=1e-3,1e-4", {"bc": 4, "baseline": 4, "discover": 4, "finetune": 4, "plain": 4}),
        ("ppo.clip=0.1,0.2;finetune.mi_coef=0,1",
         {"bc": 2, "baseline": 2, "discover": 4, "finetune": 8, "plain": 4}),
    ],
)  # fmt: skip
def test_distinct_runs(grid, distinct):
    points = grid_of(grid, 2)
    assert {name: len(make(name).runs(points).runs) for name in ALL} == distinct


def test_mi_coefficient_of_each_stage():
    points = grid_of("finetune.mi_coef=0,0.3", 1)
    found = {}
    for name in ("discover", "finetune", "plain"):
        hp = make(name).make_hparams(points, make(name).runs(points))
        found[name] = (hp["stage.mi_coef"].tolist(), hp["stage.env_coef"].tolist())
    assert found["discover"] == ([1.0], [0.0])
    np.testing.assert_allclose(found["finetune"][0], [0.0, 0.3], rtol=1e-6)
    assert found["finetune"][1] == [1.0, 1.0]
    assert found["plain"] == ([0.0], [1.0])


def test_the_template_has_the_shapes_of_the_state():
    points = grid_of("", 2)
    shared = dummy_shared(setup())
    parent = None
    for name in ("bc", "discover", "finetune"):
        stage = make(name)
        hp = stage.make_hparams(points, stage.runs(points))
        parent = stage.template(hp, parent, shared)
        assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(parent))
        assert set(parent.hparams) == set(hp)


def test_finetuning_starts_where_discovery_ended():
    discovered = restore(finished_run(), "discover", [])
    one = jax.tree.map(lambda leaf: leaf[0], discovered.state)
    stage = make("finetune")
    points = grid_of("", 1)
    hp = jax.tree.map(lambda leaf: leaf[0], stage.make_hparams(points, stage.runs(points)))
    state = stage.init(jax.random.key(0), hp, one, ())
    assert raw(state.params) == raw(one.params)
    assert raw(state.stats) == raw(one.stats)
    assert int(state.step) == 0
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert all(not leaf.any() for leaf in moments)  # fresh optimisers


def test_the_clone_is_played_with_its_averaged_weights():
    restored = restore(finished_run(), "bc", [])
    subject = restored.stage.subject(restored.state, jax.random.key(0))
    assert raw(subject.reference.params) == raw(restored.state.ema)
    assert raw(subject.reference.params) != raw(restored.state.params)
