"""Seeds that have diverged have no figures, and no part in what is drawn and told of the others."""

from __future__ import annotations

import numpy as np
import pytest

from mmbc_jax.core.types import Rollouts
from mmbc_jax.diagnostics.modes import mode_metrics
from mmbc_jax.evaluation.results import without_figures
from mmbc_jax.report import style
from mmbc_jax.report.figures.robustness import success_over_strength
from mmbc_jax.report.figures.z_modes import commands_over_points, z_mode_heatmap
from mmbc_jax.report.summary import build_summary, summarise_stage
from mmbc_jax.report.web.explorer import zmap

NAMES = ("left", "middle", "right")
SETTINGS = ("calm", "noise=0.1", "noise=0.2")


def measured(seed, rate):
    rng, n = np.random.default_rng(seed), 40
    success = np.arange(n) < round(rate * n)
    rollouts = Rollouts(
        success=success,
        mode=np.where(success, rng.integers(0, 3, n), -1),
        z=np.arange(n) % 4,
        reward=1.0 * success,
        steps=np.full(n, 10.0),
        log_q=np.full(n, -1.0),
        path=np.zeros((n, 2, 2)),
        path_mask=np.ones((n, 2)),
        outcome={},
    )
    return mode_metrics(rollouts, 3, 4)


def with_shifts(seed, rate):
    shifts = {name: measured(seed, rate - 0.1 * i) for i, name in enumerate(SETTINGS)}
    return {**measured(seed, rate), "shifts": shifts}


GONE = without_figures(with_shifts(1, 0.5))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0)])
def test_of_three_seeds_one_has_diverged(order):
    """Two that are well: .8 and .6, and .1 less under each further setting; wherever the third stands."""
    seeds = [(with_shifts(0, 0.8), GONE, with_shifts(2, 0.6))[i] for i in order]
    stage = summarise_stage(seeds)
    assert stage["success_rate"]["mean"] == pytest.approx(0.7)
    for i, name in enumerate(SETTINGS):
        assert stage["shifts"][name]["success_rate"]["mean"] == pytest.approx(0.7 - 0.1 * i)
    assert stage["strengths"]["noise"]["strengths"] == [0.1, 0.2]
    first = next(i for i in range(3) if order[i] != 1)
    assert style.shown_seed(stage) == first
    figure = z_mode_heatmap(stage, "task", NAMES, stage="finetune")
    assert f"seed {first} of 3" in figure.get_suptitle()
    assert f"SR {seeds[first]['success_rate']:.2f}" in figure.get_suptitle()
    assert "z 3" in zmap(stage, NAMES)
    success_over_strength({"finetune": stage}, "noise", "noise", "task", NAMES)
    found = build_summary([{"values": {"a": v}, "stages": {"finetune": seeds}} for v in (1, 2)], {})
    commands_over_points(found["points"], "finetune", "task", NAMES)


def test_of_seeds_that_have_all_diverged_nothing_is_told():
    stage = summarise_stage([GONE, GONE])
    assert style.shown_seed(stage) == 0
    assert "shifts" not in stage
    assert zmap(stage, NAMES) == ""
    with pytest.raises(ValueError, match="no modes to tabulate"):
        z_mode_heatmap(stage, "task", NAMES)
