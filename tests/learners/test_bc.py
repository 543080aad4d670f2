"""Behavioural cloning: the averaged weights, the schedule, where it starts, the checks of its section."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import COMBINE, Parts
from mmbc_jax.learners._cloning import policy_hparams
from tests.learners import _cloned
from tests.learners._cloned import SPEC, arrays, same


@pytest.fixture(scope="module")
def history():
    """[states before and after each of 6 steps] and the metrics of each."""
    learner, shared = _cloned.learner(), _cloned.shared()
    init = jax.jit(lambda key: learner.init(key, _cloned.hparams(), None, shared))
    step = jax.jit(learner.train_step)
    states, rows = [init(jax.random.key(0))], []
    for _ in range(6):
        state, metrics = step(states[-1], shared)
        states.append(state)
        rows.append({name: float(value) for name, value in metrics.items()})
    return states, rows


def test_weights_are_averaged_with_a_warm_up(history):
    """ema <- d ema + (1 - d) params with d = min(.998, (1 + step) / (10 + step)): .1, 2/11, 3/12, .."""
    states, _ = history
    average = arrays(states[0].params)
    for i, state in enumerate(states[1:]):
        d = (1 + i) / (10 + i)
        moved = arrays(state.params)
        average = [d * e + (1 - d) * p for e, p in zip(average, moved, strict=True)]
        for found, expected in zip(arrays(state.ema), average, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    subject = _cloned.learner().subject(states[-1], jax.random.key(1))
    assert subject.reference.params is states[-1].ema
    assert (subject.actor, subject.reward) == ({}, {})
    assert subject.normalizer is states[-1].stats["normalizer"]


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


def test_counters_are_declared(history):
    _, rows = history
    logs = _cloned.learner().logs
    assert logs == {"train/skipped_updates": "last", "train/skipped_in_a_row": "last"}
    assert set(logs) <= set(rows[0])
    assert set(logs.values()) <= set(COMBINE)
    assert _cloned.learner().env_steps == 0


def test_the_first_step_has_the_size_of_the_learning_rate(history):
    """Adam's first step is rate * sign(gradient); weight decay adds at most 1e-4 of each weight."""
    states, _ = history
    largest = []
    for old, new in zip(arrays(states[0].params), arrays(states[1].params), strict=True):
        largest.append(np.abs(new - old).max())
        assert largest[-1] <= 4e-3 * (1 + 1e-4 * np.abs(old).max()) + 1e-7
    assert max(largest) > 3.9e-3


def test_a_warm_start_takes_the_average_and_a_fresh_optimiser(history):
    """The state after 6 steps as a parent: its ema, no moments, and step 0."""
    states, _ = history
    learner, shared = _cloned.learner(), _cloned.shared()
    start = learner.init(jax.random.key(2), _cloned.hparams(), states[-1], shared)
    assert same(start.params, states[-1].ema)
    assert same(start.ema, states[-1].ema)
    assert not same(start.params, states[-1].params)
    assert same(start.opt_state, states[0].opt_state)
    assert int(start.step) == 0
    moved, _ = jax.jit(learner.train_step)(start, shared)
    assert not same(moved.params, start.params)


def test_a_policy_sees_at_most_2048_spread_windows_before_training():
    """5000 windows whose observation is their number: the first, the last, and equal steps between them."""
    seen = []

    class Looking:
        spec = SPEC

        def init(self, key, sample_batch):
            seen.append(sample_batch.obs[:, 0])
            return _cloned.policy().init(key, sample_batch)

    learner = registry.build("learner", plugin("learner", "bc"), Parts(SPEC, 4, policy=Looking()))
    windows, normalizer = _cloned.shared(5000)
    numbered = windows.replace(obs=jnp.tile(jnp.arange(5000.0)[:, None], (1, 2)))
    learner.init(jax.random.key(3), _cloned.hparams(), None, (numbered, normalizer))
    (found,) = seen
    np.testing.assert_array_equal(found, np.linspace(0, 4999, 2048).round())


def test_a_section_of_hparams():
    hp = {"policy.pull": 1, "policy.push": 2, "policyx.no": 3, "bc.learning_rate": 4}
    assert policy_hparams(hp) == {"pull": 1, "push": 2}


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
    options = registry.find("learner", "bc").options
    cfg = plugin("learner", "bc")
    options.from_config(cfg, "bc")
    cfg[field] = value
    with pytest.raises(ConfigError) as info:
        options.from_config(cfg, "bc")
    assert info.value.field == f"bc.{field}"


def test_needs_a_policy():
    with pytest.raises(ConfigError) as info:
        registry.build("learner", plugin("learner", "bc"), Parts(SPEC, 4))
    assert info.value.field == "policy.name"
