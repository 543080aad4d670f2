from __future__ import annotations

import numpy as np
import pytest

from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError, DataError
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.runs import sections as defaults
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.grid import Grid
from mmbc_jax.runs.stages import make_stages
from tests.toys.landscape import toy_config


@pytest.fixture
def demos(tmp_path):
    """A file of episodes of 5, 7 and 9 steps with 3 observed numbers and 2 actions."""
    rng = np.random.default_rng(0)
    episodes = Episodes(rng.normal(size=(21, 3)), rng.normal(size=(21, 2)), np.array([5, 12, 21]), None, "x")
    return episodes.save_npz(tmp_path / "demos.npz")


def clone_only(path, **overrides):
    return toy_config(stages="bc,baseline", env__name="", data__path=path, **overrides)


def test_sizes_come_from_the_environment():
    setup = setup_lib.build(toy_config())
    assert (setup.obs.size, setup.action_dim, setup.horizon) == (2, 2, 4)
    assert setup.policy_spec.chunk_shape == (4, 2)
    assert setup_lib.build(toy_config(chunk__execute=3)).horizon == 6  # ceil(16 / 3)


def test_sizes_come_from_the_file_without_one(demos):
    setup = setup_lib.build(clone_only(demos))
    assert (setup.obs.size, setup.action_dim) == (3, 2)
    assert setup_lib.load_episodes(setup) is setup.episodes  # read once
    with pytest.raises(ConfigError, match=r"config.env.name = ''"):
        setup.env_spec  # noqa: B018


def test_sizes_come_from_a_checkpoint_without_either(demos):
    setup = setup_lib.build(clone_only("/no/longer/there.npz"), (ObsSpec.vector(3), 2))
    assert (setup.obs.size, setup.action_dim) == (3, 2)


def test_a_chunk_longer_than_every_episode(demos):
    setup_lib.load_episodes(setup_lib.build(clone_only(demos, chunk__predict=9)))
    with pytest.raises(ConfigError, match=r"config.chunk.predict = 10 .*at most 9.*demos.npz"):
        setup_lib.load_episodes(setup_lib.build(clone_only(demos, chunk__predict=10)))


def test_a_file_that_does_not_fit_the_environment(demos):
    with pytest.raises(DataError, match="observations have size 3, environment 'landscape' has 2"):
        setup_lib.load_episodes(setup_lib.build(toy_config(data__path=demos)))


def test_recorded_demonstrations_are_balanced_and_named():
    episodes = setup_lib.load_episodes(setup_lib.build(toy_config()))
    assert np.bincount(episodes.mode).tolist() == [6, 6, 6, 6]
    assert episodes.source == "expert of landscape (noise 0.1)"


@pytest.mark.parametrize(("holdout", "held"), [(0.0, 0), (0.25, 0), (0.34, 1), (0.67, 2), (0.2, 0)])
def test_held_out_episodes(demos, holdout, held):
    setup = setup_lib.build(clone_only(demos, data__holdout=holdout))
    train, rest = setup_lib.split_episodes(setup, setup_lib.load_episodes(setup))
    assert len(train) == 3 - held
    assert (0 if rest is None else len(rest)) == held


def test_every_value_of_a_sweep_is_checked():
    setup = setup_lib.build(toy_config())
    seeds = (0,)
    setup_lib.check_points(setup, Grid(("finetune.mi_coef", "bc.learning_rate"), ((0.0, 1e-3),), seeds))
    with pytest.raises(ConfigError, match=r"config.learner.clip = 0.0"):
        setup_lib.check_points(setup, Grid(("bc.clip_norm", "learner.clip"), ((1.0, 0.1), (1.0, 0.0)), seeds))
    assert setup.config.learner.clip == 0.2


def checked(config):
    """Builds everything that the stages of a configuration are made of."""
    setup = setup_lib.build(config)
    for stage in make_stages(setup, config.stages).values():
        stage.check()
    return setup


def test_errors_name_the_section_of_the_plugin():
    with pytest.raises(ConfigError, match=r"config.baseline.hidden = \(\)"):
        checked(toy_config(stages="bc,baseline", baseline__hidden="()"))
    with pytest.raises(ConfigError, match=r"config.policy.hidden = \(\)"):
        checked(toy_config(policy__hidden="()"))
    with pytest.raises(ConfigError, match=r"config.baseline.name = 'msee'"):
        defaults.check_config(with_baseline("msee"))
    # what is not the plug-in's own keeps its name
    with pytest.raises(ConfigError, match=r"config.sampler.name = 'ddpm'"):
        checked(toy_config(stages="bc,baseline", policy__name="mse", baseline__name="flow",
                                   sampler__name="ddpm", prior__name="mixture"))  # fmt: skip


def with_baseline(name):
    config = toy_config()
    config.baseline.name = name
    return config


def test_fields_that_a_config_file_made_up():
    config = toy_config()
    config.bc.stepz = 3
    with pytest.raises(ConfigError, match=r"config.bc.stepz .*did you mean 'steps'"):
        defaults.check_config(config)
    config = toy_config()
    config.policy = plugin("policy", "flow")
    del config.policy["times"]
    with pytest.raises(ConfigError, match=r"config.policy.times = None is not allowed: the field is missing"):
        defaults.check_config(config)
    config = toy_config()
    config.policy.beta = (1.0, float("inf"))
    with pytest.raises(ConfigError, match=r"config.policy.beta = \(1.0, inf\) is not allowed: finite"):
        defaults.check_config(config)


def test_a_configuration_of_an_earlier_version_is_completed():
    """What it has stays; an option, and a section, that came later take their defaults."""
    config = toy_config()
    config.bc.steps = 77
    del config.evaluation["shifts"], config.actor["box"], config["mesh"], config.data["scale"]
    found = defaults.completed(config)
    assert found.data.scale == "box"  # as it was, whatever `auto` would make of it today
    assert (found.bc.steps, found.evaluation.shifts, found.actor.box) == (77, "", 0.0)
    defaults.check_config(found)
    assert "mesh" not in config


def test_every_default_passes():
    defaults.check_config(defaults.base_config())


def test_a_stage_names_parts_of_its_own():
    config = toy_config(plain__learner__name="sac", plain__learner__batch_size=16)
    setup = setup_lib.build(config)
    assert setup.part("plain", "learner") == "plain.learner"
    assert setup.part("finetune", "learner") == "learner"
    with pytest.raises(ConfigError, match=r"config.plain.learner.batch_size = 0"):
        checked(toy_config(plain__learner__name="sac", plain__learner__batch_size=0))


def test_short_paths_of_a_plugin():
    assert toy_config(ppo__clip=0.1).learner.clip == 0.1
    assert toy_config(ppo__mi_payment="potential").reward.payment == "potential"
    with pytest.raises(ConfigError, match=r"config.sac .*no such field"):
        toy_config(sac__tau=0.1)  # the learner is ppo
