"""Commands that merge in a stage, and that split while a learner discovers."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from tests.learners import _probed
from tests.toys.probes import probe

MODES, ITERATIONS = 4, 6
Q = plugin("discriminator", "categorical", input="state", hidden=(8,), noise=0.2)
STEER = plugin("actor", "steer", hidden=(8,), fourier_octaves=0)
SIZES = {
    "ppo": {"num_envs": 32, "decisions": 4, "epochs": 1, "minibatches": 2},
    "sac": {"num_envs": 32, "decisions": 4, "updates": 2, "capacity": 512, "warmup": 0, "batch_size": 32},
}


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    with jax.debug_key_reuse(False):
        yield


@functools.cache
def trained(name, env_coef=0.0, merge=True, **changes):
    """(alive [Z] and commands [B] after each iteration, metrics) with a q that learns nothing: it confuses all."""
    fields = {
        **SIZES[name],
        "critic_hidden": (4,),
        "critic_octaves": 0,
        "merge": merge,
        "merge_paths": 4.0,
        "merge_after": 0.5,
        **changes,
    }
    learner = _probed.build(plugin("learner", name, **fields), STEER, Q, modes=MODES)
    stage = {"train_reward": 0.0, "env_coef": env_coef, "iterations": float(ITERATIONS), "mi_coef": 1.0}
    hp = jax.tree.map(lambda x: x[0], _probed.hparams(name, 1, stage))

    def step(state, _):
        state, metrics = learner.train_step(state, ())
        loop = state.env_state["loop"] if name == "sac" else state.env_state
        return state, (state.params["reward"].get("alive", jnp.ones(MODES)), loop.z, metrics)

    @jax.jit
    def run(key):
        state = _probed.start(learner, hp, probe(steps=1.0), key, _probed.cloned())
        return jax.lax.scan(step, state, None, ITERATIONS)

    return run(jax.random.key(0))


@pytest.mark.parametrize("name", ["ppo", pytest.param("sac", marks=pytest.mark.slow)])
def test_commands_that_q_confuses_become_one_in_the_second_half_of_discovery(name):
    """An untrained q gives each command the same share, whatever the path: all become the first."""
    _, (alive, z, metrics) = trained(name)
    counts = np.asarray(alive).sum(1)
    np.testing.assert_array_equal(counts[:3], MODES)
    assert counts[-1] == 1
    np.testing.assert_array_equal(metrics["mode/codes"], counts)
    assert (np.asarray(z)[-1] == 0).all()  # episodes of one step: all drawn anew since


@pytest.mark.slow
@pytest.mark.parametrize(("merge_in", "env_coef"), [("discover", 1.0), ("finetune", 0.0)])
def test_nothing_merges_in_another_stage(merge_in, env_coef):
    _, (alive, _, _) = trained("ppo", env_coef=env_coef, merge_in=merge_in)
    np.testing.assert_array_equal(alive, 1.0)


def test_commands_merge_in_fine_tuning_where_that_is_asked_for():
    _, (alive, _, metrics) = trained("ppo", env_coef=1.0, merge_in="finetune")
    counts = np.asarray(alive).sum(1)
    np.testing.assert_array_equal(counts[:3], MODES)
    assert counts[-1] == 1
    np.testing.assert_array_equal(metrics["mode/codes"], counts)


def test_one_command_alone_says_nothing():
    """log q - log p is 0 of one command that is left; before, of a uniform q, it is 0 as well."""
    _, (_, _, metrics) = trained("ppo")
    np.testing.assert_allclose(metrics["mode/mi"], 0.0, atol=1e-6)


@pytest.mark.slow
def test_without_merging_there_is_no_such_figure():
    state, (_, _, metrics) = trained("ppo", merge=False)
    assert "mode/codes" not in metrics
    assert "alive" not in state.params["reward"]


def test_what_judges_commands_is_drawn_with_a_key_of_its_own():
    """Not with one that the reward splits its key into, as `fold_in` of that key would be."""
    fields = {**SIZES["ppo"], "critic_hidden": (4,), "critic_octaves": 0}
    merging, plain = (
        _probed.build(plugin("learner", "ppo", **fields, merge=merge), STEER, Q, modes=MODES)
        for merge in (True, False)
    )
    keys = merging.keys(jax.random.key(3))
    np.testing.assert_array_equal(
        jax.random.key_data(keys[:4]), jax.random.key_data(plain.keys(jax.random.key(3)))
    )
    others = [keys[i] for i in range(4)] + list(jax.random.split(keys[2]))
    own = jax.random.key_data(keys[4])
    assert not any(np.array_equal(own, jax.random.key_data(other)) for other in others)


def test_nothing_can_merge_without_a_discriminator_of_several():
    parts = _probed.parts(STEER, Q, modes=1)
    fields = {**SIZES["ppo"], "merge": True}
    learner = registry.build("learner", plugin("learner", "ppo", **fields), parts)
    hp = jax.tree.map(lambda x: x[0], _probed.hparams("ppo", 1, {}))
    with pytest.raises(ConfigError, match="merge"):
        jax.eval_shape(lambda: learner.init(jax.random.key(0), hp, _probed.cloned(), ()))


SPLIT = {"merge": False, "split": True, "first_codes": 2, "split_after": 0.3}


@pytest.mark.parametrize("name", ["ppo", pytest.param("sac", marks=pytest.mark.slow)])
def test_commands_whose_paths_fall_apart_are_split_one_at_a_time_while_any_is_free(name):
    """Half of a probe's episodes lie at x = -1 and half at 1, and each command has more than 32 in an iteration.

    Of six iterations the third is the first that splits; the last fifth is left to settle.
    """
    _, (alive, z, metrics) = trained(name, **SPLIT)
    np.testing.assert_array_equal(np.asarray(alive).sum(1), [2, 2, 3, 4, 4, 4])
    np.testing.assert_array_equal(metrics["mode/codes"], np.asarray(alive).sum(1))
    np.testing.assert_array_equal(metrics["mode/splits"], [0, 0, 1, 1, 0, 0])
    assert set(np.asarray(z)[1]) == {0, 1}
    assert set(np.asarray(z)[-1]) == {0, 1, 2, 3}


@pytest.mark.slow
def test_nothing_splits_where_the_environment_pays():
    _, (alive, _, _) = trained("ppo", env_coef=1.0, **SPLIT)
    np.testing.assert_array_equal(np.asarray(alive).sum(1), 2)


@pytest.mark.slow
def test_halves_of_a_split_do_not_merge_at_once():
    """q confuses all. In the fourth of six iterations the two that there are merge and the one that is left splits.

    Its halves are left alone for a quarter of discovery; without that they merge and split again in each iteration.
    """
    for grace, splits in ((0.24, [0, 0, 0, 1, 0, 0]), (0.0, [0, 0, 0, 1, 1, 1])):
        _, (alive, _, metrics) = trained("ppo", split=True, first_codes=2, split_after=0.5, split_grace=grace)
        np.testing.assert_array_equal(metrics["mode/splits"], splits)
        np.testing.assert_array_equal(np.asarray(alive).sum(1), 2)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"first_codes": 2}, "first_codes.*neither"),
        ({"split": True, "first_codes": 5}, "first_codes.*at most num_modes = 4"),
    ],
)
def test_what_cannot_split_is_said(fields, match):
    learner = _probed.build(plugin("learner", "ppo", **SIZES["ppo"], **fields), STEER, Q, modes=MODES)
    hp = jax.tree.map(lambda x: x[0], _probed.hparams("ppo", 1, {}))
    with pytest.raises(ConfigError, match=match):
        jax.eval_shape(lambda: learner.init(jax.random.key(0), hp, _probed.cloned(), ()))


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_the_first_episodes_of_a_stage_are_of_commands_that_there_are(name):
    """Of 16 commands two at first, and the same two in a stage that goes on from there."""
    fields = {**SIZES[name], "critic_hidden": (4,), "split": True, "first_codes": 2}
    learner = _probed.build(plugin("learner", name, **fields), STEER, Q, modes=16)
    hp = jax.tree.map(lambda x: x[0], _probed.hparams(name, 1, {}))
    state = _probed.cloned()
    for key in jax.random.split(jax.random.key(3)):
        state = learner.init(key, hp, state, ())
        loop = state.env_state["loop"] if name == "sac" else state.env_state
        assert set(np.unique(loop.z)) == {0, 1}
