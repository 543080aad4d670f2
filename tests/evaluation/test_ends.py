"""Evaluated episodes that diverge, begin done, or succeed in passing: what each counts as."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.learning import Subject
from mmbc_jax.core.types import Variables
from mmbc_jax.diagnostics.outcomes import outcome_metrics
from mmbc_jax.envs import wrappers
from mmbc_jax.evaluation.evaluator import Evaluator
from mmbc_jax.ops.normalisation import Normalizer
from tests.evaluation.test_evaluator import Side
from tests.toys.fragile import LENGTH, Fragile, several

EACH = ({}, {"when": 3}, {"over": 1.0}, {"passing": 2})


class Sure(Side):
    """q is 1 for every z, whatever it sees."""

    num_modes = 2

    def log_prob(self, params, key, features):
        return jnp.zeros((len(features), 2))


def rollouts(latched):
    evaluator = Evaluator(
        env=wrappers.make(Fragile("obs", latched=latched), exec_len=4, autoreset=None, path=True),
        act=lambda subject, key, obs, z: jnp.zeros((len(obs), 4, 1)),
        reward=Sure(),
        num_modes=2,
        episodes=len(EACH),
        paths=len(EACH),
        exec_len=4,
        length=LENGTH,
    )
    scale = Normalizer(-jnp.ones(2), jnp.ones(2), -jnp.ones(1), jnp.ones(1))
    subject = Subject(jax.random.key(0), Variables({}), scale, {}, {})
    return jax.device_get(jax.jit(evaluator.run)(subject, several(*EACH)))


@pytest.mark.parametrize("latched", [False, True])
def test_ends(latched):
    found = rollouts(latched)
    np.testing.assert_array_equal(found.success, [True, False, True, latched])
    np.testing.assert_array_equal(found.steps, [LENGTH, 3, 0, LENGTH])
    np.testing.assert_array_equal(found.reward, [LENGTH, 2, 0, LENGTH])
    np.testing.assert_array_equal(found.outcome["diverged"], [0, 1, 0, 0])
    np.testing.assert_array_equal(found.mode, [1, -1, 1, -1])
    np.testing.assert_array_equal(np.isnan(found.log_q), [False, False, True, False])  # no decision, no path
    np.testing.assert_array_equal(found.path_mask.sum(1), [LENGTH + 1, 4, 1, LENGTH + 1])
    assert np.isfinite(found.path).all()
    assert outcome_metrics(found, 2)["diverged_fraction"] == 0.25
