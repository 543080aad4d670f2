"""Behavioural cloning: the averaged weights, the schedule, the checks of its section."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.learners import bc
from tests.toys import cloning as _toy


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    """JAX takes a scan over keys under vmap for a reuse; test_epoch.py checks single runs instead."""
    with jax.debug_key_reuse(False):
        yield


@pytest.fixture(scope="module")
def history():
    """[states before and after each of 6 steps] and the metrics of each, run 0 of 8."""
    state, shared = _toy.start("bc")
    states, rows = [jax.tree.map(lambda x: x[0], state.replace(key=()))], []
    for _ in range(6):
        state, metrics = _toy.epoch("bc")(state, shared)
        states.append(jax.tree.map(lambda x: x[0], state.replace(key=())))
        rows.append({name: float(value[0, 0]) for name, value in metrics.items()})
    return states, rows


def test_weights_are_averaged_with_a_warm_up(history):
    """ema <- d ema + (1 - d) params with d = min(.998, (1 + step) / (10 + step)): .1, 2/11, 3/12, .."""
    states, _ = history
    average = _toy.arrays(states[0].params)
    for i, state in enumerate(states[1:]):
        d = (1 + i) / (10 + i)
        moved = _toy.arrays(state.params)
        average = [d * e + (1 - d) * p for e, p in zip(average, moved, strict=True)]
        for found, expected in zip(_toy.arrays(state.ema), average, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert bc.reference(states[-1]).params is states[-1].ema


def test_learning_rate_follows_the_schedule(history):
    """8 steps, no warm-up, peak 4e-3, floor .01: a half cosine from the peak."""
    _, rows = history
    found = [row["bc/learning_rate"] for row in rows]
    cosine = 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * np.arange(6) / 8))
    np.testing.assert_allclose(found, 4e-3 * cosine, rtol=1e-5)


def test_steps_are_counted_and_the_loss_is_the_policys(history):
    states, rows = history
    assert [int(state.step) for state in states] == list(range(7))
    for row in rows:
        assert row["bc/loss"] == pytest.approx(row["bc/flow_mse"], rel=1e-5)
        assert row["bc/grad_norm"] > 0
        assert row["train/skipped_updates"] == 0


def test_the_first_step_has_the_size_of_the_learning_rate(history):
    """Adam's first step is rate * sign(gradient); weight decay adds at most 1e-4 of each weight."""
    states, _ = history
    largest = []
    for old, new in zip(_toy.arrays(states[0].params), _toy.arrays(states[1].params), strict=True):
        largest.append(np.abs(new - old).max())
        assert largest[-1] <= 4e-3 * (1 + 1e-4 * np.abs(old).max()) + 1e-7
    assert max(largest) > 3.9e-3


def test_a_section_of_hparams():
    hp = {"policy.pull": 1, "policy.push": 2, "policyx.no": 3, "bc.learning_rate": 4}
    assert bc.policy_hparams(hp, "policy") == {"pull": 1, "push": 2}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
        ("warmup_steps", 6001),
        ("final_lr_fraction", 1.5),
        ("ema_decay", 1.5),
        ("clip_norm", 0.0),
    ],
)
def test_config_is_checked(field, value):
    cfg = bc.default_config()
    bc.check_config(cfg)
    cfg[field] = value
    with pytest.raises(ConfigError) as info:
        bc.check_config(cfg)
    assert info.value.field == f"bc.{field}"
