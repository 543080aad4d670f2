"""Values of commands at the starts of the very episodes that are played, and episodes under commands from outside."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.errors import UserError
from mmbc_jax.runs.commanded import check_head, value_program
from mmbc_jax.runs.recommanded import Recommand
from mmbc_jax.runs.restored import restore
from tests.toys.landscape import finished_run, unchecked


@functools.cache
def restored(stage="finetune"):
    return restore(finished_run(), stage, [])


def test_values_are_the_critics_at_the_starts_that_are_played():
    stage, state = restored().stage, restored().state
    keys = restored().keys("evaluate/finetune/test")
    z = np.array([[0, 1] * 4, [1] * 8])
    with unchecked():
        values = np.asarray(value_program(stage)(state, keys, None))
        played, _ = restored().programs().evaluate(stage, state, keys, commands=z)
    assert values.shape == (2, 8, 2)
    np.testing.assert_array_equal(played.z, z)
    for run in range(2):
        own = jax.tree.map(lambda leaf, run=run: leaf[run], state)
        starts = own.stats["normalizer"].normalize_obs(
            jnp.asarray(played.path[run, :, 0])
        )  # of 4 of the episodes
        for command in range(2):
            given = (starts, jnp.full((4,), command), jnp.zeros(4))
            expected = stage.learner.critic.apply(own.params["critic"], *given)
            np.testing.assert_allclose(values[run, :4, command], expected, atol=1e-5)
    assert np.ptp(values) > 0


def test_commands_from_outside_change_nothing_else():
    """The z that an evaluation spreads by itself give its own episodes."""
    stage, state = restored().stage, restored().state
    keys = restored().keys("evaluate/finetune/same")
    with unchecked():
        programs = restored().programs()
        own, _ = programs.evaluate(stage, state, keys)
        given, _ = programs.evaluate(stage, state, keys, commands=np.tile(np.arange(8) % 2, (2, 1)))
    for ours, theirs in zip(jax.tree.leaves(own), jax.tree.leaves(given), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_commanded_or_has_no_head():
    with pytest.raises(UserError, match="stage bc has one z"):
        Recommand("trial").check(restored("bc"))
    with pytest.raises(UserError, match="learner bc of stage bc has no values"):
        value_program(restored("bc").stage)
    with pytest.raises(UserError, match="stage bc trains no actor"):
        check_head(restored("bc").stage)
    check_head(restored().stage)
