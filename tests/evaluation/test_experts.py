"""What is shown of experts, against the environments themselves."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.evaluation import experts
from mmbc_jax.runs.env_checks import played


def build(name, **fields):
    return registry.build("env", plugin("env", name, **fields))


def test_the_expert_is_shown_in_the_mode_that_it_pursues():
    """Landscape: four ends at the four centres, all of them successes after 16 steps, from starts within 5 sigma."""
    modes = np.array([0, 1, 2, 3, 3])
    shown = experts.show(build("landscape"), jax.random.key(0), modes)
    assert shown.path.shape == (17, 5, 2)
    assert np.abs(shown.path[0]).max() < 5 * 0.05
    centres = np.sqrt(0.5) * np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    assert np.linalg.norm(shown.path[-1] - centres[modes], axis=-1).max() <= 0.2
    np.testing.assert_array_equal(shown.success, True)
    np.testing.assert_array_equal(shown.length, 16)
    assert np.abs(shown.path[:, 3] - shown.path[:, 4]).max() > 0.01  # a key each


def test_another_mode_than_the_pursued_one_is_no_success(monkeypatch):
    """With the peaks turned by 90 degrees the expert ends at the next mode's peak: always paid, never as asked."""
    env = build("landscape", reward="rotated", goal_angle=float(np.pi / 2))
    monkeypatch.setattr(experts, "demonstrated", lambda env: None)
    np.testing.assert_array_equal(experts.success_by_mode(env, jax.random.key(1), 2), np.zeros(4))
    any_mode = experts.show(env, jax.random.key(1), np.full(4, -1))
    assert any_mode.success.mean() < 1.0  # random actions
    np.testing.assert_array_equal(
        experts.success_by_mode(build("landscape"), jax.random.key(1), 2), np.ones(4)
    )


def test_an_expert_is_judged_by_the_task_that_it_demonstrates():
    """Where the reward's peaks are turned and those of the demonstrations are not, as they are recorded, too."""
    env = build("landscape", reward="rotated", goal_angle=float(np.pi / 2))
    np.testing.assert_array_equal(experts.success_by_mode(env, jax.random.key(1), 2), np.ones(4))
    assert played(env, jax.random.key(2)).errors == []


def test_what_is_kept_of_a_state():
    shown = experts.show(build("landscape"), jax.random.key(2), np.array([1]), keep=lambda state: state.obs)
    np.testing.assert_array_equal(shown.states, shown.path)


@pytest.mark.heavy
def test_a_task_costs_something():
    found = experts.cost(build("landscape"), jax.random.key(3))
    assert found.compile_seconds > 0.0
    assert 0.0 < found.steps_per_second < 1e12
