from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.evaluation.results import StageResult
from mmbc_jax.report import differences
from tests.evaluation.test_evaluator import evaluator, subject


def result(name, success):
    episodes = evaluator(reward=None, num_modes=1, episodes=4, paths=1).run(subject(), None)
    rollouts = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(success)), episodes)
    rollouts = rollouts.replace(success=np.array(success, bool), reward=np.array(success, float))
    metrics = [{"n": 4, "success_rate": float(np.mean(row))} for row in success]
    return StageResult(name, 1, np.arange(len(success))[None], metrics, {}, rollouts)


def test_differences_are_of_pairs():
    """Of 4 starts b wins 2 that a loses and loses none: +.5 in the first seed, +.25 in the second."""
    a = result("bc", [[1, 0, 0, 1], [0, 0, 1, 1]])
    b = result("finetune", [[1, 1, 1, 1], [1, 0, 1, 1]])
    found = differences.between_stages({"bc": a, "finetune": b}, 1)
    assert [(entry["figure"], entry["mean"]) for entry in found] == [
        ("success_rate", 0.375),
        ("reward", 0.375),
    ]
    low, high = found[0]["ci95"]
    assert -1.0 <= low < 0.25 < 0.5 < high <= 1.0
    (line,) = differences.lines(found)
    assert line.startswith("finetune - bc, from the same 4 starts: success +0.375 [")
    gone = dataclasses.replace(b, metrics=[b.metrics[0], {"n": 4, "success_rate": None}])
    (alone, _) = differences.between_stages({"bc": a, "finetune": gone}, 1)
    assert (alone["mean"], alone["seeds"]) == (0.5, 1)


def test_rewards_differ_where_no_success_is_defined():
    """Four episodes of 1, 0, 0, 1 against 1, 1, 1, 1: +.5 of reward; of success, which the task has not, nothing."""
    a, b = (result(name, [row]) for name, row in (("bc", [1, 0, 0, 1]), ("plain", [1, 1, 1, 1])))
    a, b = (
        dataclasses.replace(one, metrics=[{"n": 4, "success_rate": None, "mean_reward": mean}])
        for one, mean in ((a, 0.5), (b, 1.0))
    )
    (found,) = differences.between_stages({"bc": a, "plain": b}, 1)
    assert (found["figure"], found["mean"]) == ("reward", 0.5)
    gone = dataclasses.replace(b, metrics=[{"n": 4, "success_rate": None, "mean_reward": None}])
    assert differences.between_stages({"bc": a, "plain": gone}, 1) == []
