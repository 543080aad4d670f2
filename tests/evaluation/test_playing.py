from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.evaluation.playing import Playing
from tests.evaluation.test_evaluator import evaluator, subject


def test_ensembling_averages_what_the_last_plans_had_for_a_step():
    """H = 5, h = 2, m = ln 2: plans 0, 10, 20 (constant), of which a step sees those that reach it.

    Decision 2, first step: ages 0, 1, 2 with weights 1, 2, 4: (20 + 2 10 + 4 0) / 7. Its second step: the plan of
    age 2 would need step 5 of 5, so ages 0 and 1: (20 + 20) / 3.
    """
    playing = Playing(ensemble=float(np.log(2.0)))
    plans = playing.no_plans(lambda: (3, 5, 1), 2)
    assert plans.shape == (2, 3, 5, 1)
    found = []
    for decision in range(3):
        plan = jnp.full((3, 5, 1), 10.0 * decision)
        done, plans = playing.executed(plan, plans, jnp.asarray(decision), 2)
        found.append(np.asarray(done)[0, :, 0])
    np.testing.assert_allclose(found[0], [0.0, 0.0])
    np.testing.assert_allclose(found[1], [10 / 3, 10 / 3], rtol=1e-6)
    np.testing.assert_allclose(found[2], [40 / 7, 40 / 3], rtol=1e-6)


def test_without_ensembling_a_plan_is_played_as_it_is():
    plan = jnp.ones((3, 5, 1))
    done, plans = Playing().executed(
        plan, Playing().no_plans(lambda: pytest.fail("asked"), 2), jnp.asarray(1), 2
    )
    assert done is plan
    assert len(plans) == 0


def drawing(subject, key, obs, z):
    """Chunks of 3 actions to a side that is drawn."""
    side = jnp.where(jax.random.bernoulli(key, shape=z.shape), 0.25, -0.25)
    return jnp.broadcast_to(side[:, None, None], (*z.shape, 3, 1))


@pytest.mark.parametrize("hold", [False, True])
def test_holding_the_noise_keeps_to_a_side(hold):
    """Two decisions at least: those of a held episode go one way, of others 8 episodes do with 2^-8 at most."""
    found = evaluator(act=drawing, playing=Playing(hold=hold), paths=8).run(subject(), None)
    steps = np.sign(np.diff(found.path[:, :, 0], axis=1))
    alive = np.asarray(found.path_mask[:, 1:]) > 0
    one_way = [len(np.unique(row[live & (row != 0)])) == 1 for row, live in zip(steps, alive, strict=True)]
    assert all(one_way) == hold


def test_all_start_from_the_same_states():
    playing = Playing(starts=7)
    starts = [evaluator(playing=playing).run(subject(seed), None).path[:, 0] for seed in (0, 1)]
    np.testing.assert_array_equal(*starts)
    free = [evaluator().run(subject(seed), None).path[:, 0] for seed in (0, 1)]
    assert not np.array_equal(*free)
