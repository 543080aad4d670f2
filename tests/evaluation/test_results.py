from __future__ import annotations

import json
import math

import jax
import numpy as np
import pytest

from mmbc_jax.core.types import Rollouts
from mmbc_jax.evaluation.results import StageResult, load_result, save_result, scalars


def result(rollouts=True):
    episodes = Rollouts(
        success=np.array([[True, False], [False, False], [True, True]]),
        mode=np.array([[2, -1], [-1, -1], [0, 1]], np.int32),
        z=np.zeros((3, 2), np.int32),
        reward=np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2),
        steps=np.full((3, 2), 16, np.int32),
        log_q=np.full((3, 2), np.nan, np.float32),
        path=np.random.default_rng(0).normal(size=(3, 1, 17, 2)).astype(np.float32),
        path_mask=np.ones((3, 1, 17), np.float32),
        outcome={"bridge": np.array([[0, 1], [0, 0], [1, 1]], np.float32)},
    )
    metrics = [{"success_rate": 0.1 * i, "mi": None, "table": [[1, 2], [3, i]]} for i in range(3)]
    index = np.array([[0, 1], [2, 1]], np.int32)
    return StageResult("finetune", 4, index, metrics, {"seconds": 1.5}, episodes if rollouts else None)


@pytest.mark.parametrize("rollouts", [True, False])
def test_round_trip(tmp_path, rollouts):
    saved = result(rollouts)
    save_result(tmp_path, saved)
    found = load_result(tmp_path, "finetune")
    assert (found.name, found.num_modes, found.metrics, found.facts) == (
        "finetune",
        4,
        saved.metrics,
        saved.facts,
    )
    np.testing.assert_array_equal(found.index, saved.index)
    if not rollouts:
        assert found.rollouts is None
        assert found.run(0, 0) is None
        return
    assert jax.tree.structure(found.rollouts) == jax.tree.structure(saved.rollouts)
    for one, other in zip(jax.tree.leaves(found.rollouts), jax.tree.leaves(saved.rollouts), strict=True):
        assert one.tobytes() == other.tobytes()
        assert one.dtype == other.dtype


def test_run_picks_the_episodes_of_a_point_and_seed():
    saved = result()
    assert saved.run(1, 0).mode.tolist() == [0, 1]
    assert saved.run(0, 0).mode.tolist() == [2, -1]
    assert saved.run(0, 1).success.tolist() == saved.run(1, 1).success.tolist() == [False, False]


@pytest.mark.parametrize("damage", ["no json", "cut json", "no npz", "cut npz", "other json"])
def test_what_is_missing_or_damaged_counts_as_unfinished(tmp_path, damage):
    save_result(tmp_path, result())
    folder = tmp_path / "stages" / "finetune"
    what, kind = damage.split()
    path = folder / {"json": "result.json", "npz": "rollouts.npz"}[kind]
    if what == "no":
        path.unlink()
    elif what == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_text(json.dumps({"name": "finetune"}))
    assert load_result(tmp_path, "finetune") is None


def test_scalars_are_the_finite_numbers():
    metrics = {
        "a": 1,
        "b": 0.5,
        "c": np.float32(2.0),
        "d": math.nan,
        "e": None,
        "f": [1.0],
        "g": True,
        "h": "x",
    }
    assert scalars(metrics) == {"a": 1.0, "b": 0.5, "c": 2.0}
