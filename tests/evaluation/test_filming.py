"""What is filmed is what the evaluator plays, step by step."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from mmbc_jax.envs import wrappers
from mmbc_jax.evaluation.filming import Filming
from mmbc_jax.evaluation.playing import Playing
from tests.evaluation.test_evaluator import LENGTH, Walk, evaluator, steer, subject


def noisy(one, key, obs, z):
    """Steps whose size the key draws: a film of another draw would differ."""
    return steer(one, key, obs, z) * jax.random.uniform(key, (obs.shape[0], 1, 1))


@pytest.mark.parametrize("playing", [Playing(), Playing(hold=True), Playing(starts=3)])
def test_a_film_is_the_evaluation(playing):
    """Same keys and commands: the same starts, draws, ends, modes and positions after every control step."""
    player = evaluator(act=noisy, paths=8, playing=playing)
    played = jax.jit(lambda one: player.run(one, None))(subject())
    filming = Filming(dataclasses.replace(player, reward=None), Walk(), 1)

    def keep(state):
        return wrappers.plotted(Walk(), state)

    kept, success, mode, steps = jax.jit(lambda one, z: filming.run(one, z, keep))(subject(), played.z)
    np.testing.assert_array_equal(success, played.success)
    np.testing.assert_array_equal(mode, played.mode)
    np.testing.assert_array_equal(steps, played.steps)
    for i, end in enumerate(np.asarray(steps)):
        np.testing.assert_array_equal(kept[: end + 1, i], played.path[i, : end + 1])
        np.testing.assert_array_equal(kept[end:, i], np.broadcast_to(kept[end, i], kept[end:, i].shape))
    assert len(kept) >= LENGTH + 1
