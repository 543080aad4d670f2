from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mmbc_jax.core.types import Rollouts
from mmbc_jax.diagnostics.outcomes import outcome_metrics, success_figures, without_success


def episodes(success, mode, **outcome):
    n = len(success)
    zeros = np.zeros(n)
    arrays = {name: np.asarray(values, float) for name, values in outcome.items()}
    return Rollouts(
        np.asarray(success, bool), np.asarray(mode), zeros.astype(int), zeros, zeros, zeros,
        np.zeros((1, 2, 2)), np.ones((1, 2)), arrays,
    )  # fmt: skip


def test_coverage_with_and_without_success():
    rollouts = episodes(
        [1, 1, 0, 0, 0], [0, 0, -1, -1, -1],
        nearest_mode=[0, 0, 1, 2, 2], collision=[0, 0, 0, 1, 1], bridge=[0, 0, 1, 1, 0],
        path_distance=[1, 2, 3, 4, 5],
    )  # fmt: skip
    found = outcome_metrics(rollouts, 4)
    assert found["valid_mode_coverage"] == 0.25  # mode 0 of 4
    assert found["mode_coverage"] == 0.5  # 0 and 1 without collision; 2 always collided
    assert found["bridge_fraction"] == pytest.approx(0.4)
    assert found["collision_fraction"] == pytest.approx(0.4)
    assert found["final_path_distance"] == pytest.approx(3.0)
    assert "final_nearest_mode" not in found


def test_without_labels_or_metrics():
    assert outcome_metrics(episodes([1, 0], [-1, -1]), 0) == {}
    assert outcome_metrics(episodes([0, 0], [-1, -1]), 3) == {"valid_mode_coverage": 0.0}
    assert outcome_metrics(episodes([1], [-1], nearest_mode=[-1]), 2)["mode_coverage"] == 0.0


def test_success_that_is_not_defined_is_absent_and_not_zero():
    found = {"success_rate": 0.0, "wilson95": [0.0, 0.3], "success_per_z": [0.0], "mean_reward": 2.0, "n": 8}
    left = without_success(found)
    assert [name for name, value in left.items() if value is not None] == ["mean_reward", "n"]
    assert success_figures(None) == {}
    assert success_figures(SimpleNamespace(success=np.zeros(4)), defined=False) == {}
    assert success_figures(SimpleNamespace(success=np.zeros(4))) == {"outcome/success": 0.0}
