"""Figures of episodes: what is drawn is what was evaluated."""

from __future__ import annotations

import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.types import Rollouts
from mmbc_jax.evaluation.results import StageResult, save_result
from mmbc_jax.study.drawings import episodes, errors_over_time
from mmbc_jax.study.family_settings import closed_loop
from mmbc_jax.study.plan import Variant

SEEDS, EPISODES = 2, 3


@pytest.fixture(scope="module")
def variant():
    return Variant("one", {}, closed_loop("smooth_path", 4, "deterministic"))


@pytest.fixture(scope="module")
def runs(variant, tmp_path_factory):
    """Episodes that run beside the mean path, seed s at distance .01 (s + 1); the second half is not recorded."""
    env = registry.build("env", variant.config.env)
    path = np.asarray(env.mean_paths(env.default_params()))[0]
    shift = 0.01 * (1 + np.arange(SEEDS))[:, None, None, None]
    own = np.broadcast_to(path, (SEEDS, EPISODES, *path.shape)) + shift * np.array([0.0, 1.0])
    mask = np.ones(own.shape[:-1])
    mask[..., 50:] = 0.0
    flat = np.zeros((SEEDS, EPISODES))
    rollouts = Rollouts(
        success=flat, mode=flat.astype(int), z=flat.astype(int), reward=flat, steps=flat + 100, log_q=flat,
        path=own, path_mask=mask,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("run")
    save_result(folder, StageResult("bc", 1, np.array([[0, 1]]), [{}, {}], {}, rollouts))
    return {"one": folder}


def test_error_over_time_is_the_distance(variant, runs):
    axes = errors_over_time([variant], ["shifted"], "title")(runs).axes[0]
    (line,) = axes.get_lines()
    # the mean of .01 and .02 while episodes run
    np.testing.assert_allclose(line.get_ydata(), np.full(50, 0.015), atol=1e-6)
    assert axes.get_legend().get_texts()[0].get_text() == "shifted"


def test_episodes_have_a_panel_each_and_a_line_per_seed(variant, runs):
    figure = episodes([variant, variant], ["a", "b"], "title", count=2)(runs)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b"]
    scene = 1  # the mean path
    assert len(figure.axes[0].get_lines()) == scene + 2 * SEEDS


def test_without_runs_there_is_no_figure(variant):
    assert errors_over_time([variant], ["a"], "t")({}) is None
    assert episodes([variant], ["a"], "t")({}) is None
