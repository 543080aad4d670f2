"""The MI reward: what an episode earns in all, by hand."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.ops.mi_reward import PAYMENTS, absorbing_weight, information, remaining_decisions
from tests.toys.products import spared

HORIZON = 6


def test_information_is_bounded_by_log_z():
    """q = 1 gives log Z, q = 1/Z gives 0, q = 0.1 with Z = 4 gives log .4 < 0."""
    found = information(jnp.log(jnp.array([1.0, 0.25, 0.1])), 4)
    np.testing.assert_allclose(found, [math.log(4), 0.0, math.log(0.4)], atol=1e-6)


@pytest.mark.parametrize("discount", [0.25, 0.9, 0.9987**8, 0.9999, 1.0])
@pytest.mark.parametrize("remaining", [0, 1, 5, 30])
def test_absorbing_weight_is_the_geometric_sum(discount, remaining):
    found = absorbing_weight(jnp.array([0.0, 1.0]), jnp.array([remaining, remaining]), discount)
    expected = sum(discount**i for i in range(remaining + 1))
    np.testing.assert_allclose(found, [1.0, expected], rtol=1e-3 if discount == 0.9999 else 1e-5)


def test_absorbing_weight_has_finite_gradients_at_discount_one():
    slope = jax.grad(lambda g: absorbing_weight(jnp.ones(()), jnp.asarray(3), g))(1.0)
    assert np.isfinite(slope)


def test_remaining_decisions_counts_a_cut_decision_once():
    """Length 10 in chunks of 4 is 3 decisions: after 1..4 steps one was taken, after 5..8 two, after 9 and 10 all."""
    found = remaining_decisions(jnp.arange(11), 10, 4)
    np.testing.assert_array_equal(found, [3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0])


@pytest.mark.parametrize(
    ("length", "exec_len"),
    [
        (10, 4),
        (16, 4),
        (60, 7),
        pytest.param(250, 8, marks=pytest.mark.slow),
        pytest.param(100, 3, marks=pytest.mark.slow),
        (5, 8),
    ],
)
@spared("60-7")
def test_an_episode_of_full_information_earns_log_z_whenever_it_ends(length, exec_len):
    """phi = log Z from the first decision on: 1/n of it for each decision, the last one for those that remain."""
    n, full = -(-length // exec_len), math.log(24)
    for steps in range(1, length + 1):
        taken = -(-steps // exec_len)
        at = np.minimum(np.arange(1, taken + 1) * exec_len, steps)
        over = (np.arange(taken) == taken - 1).astype(np.float32)
        phi = jnp.full((taken,), full)
        left = remaining_decisions(jnp.asarray(at), length, exec_len)
        paid = PAYMENTS["absorbing"](phi, phi, jnp.asarray(over), jnp.zeros(taken), left, n, 1.0)
        assert float(np.asarray(paid, np.float64).sum()) == pytest.approx(full, rel=1e-6)


def episode(payment, phi, *, ends_at=None, failed=False, horizon=HORIZON, discount=1.0):
    """Reward of each decision of one episode whose information runs through `phi` (n+1 values)."""
    phi = np.asarray(phi, np.float32)
    n = len(phi) - 1
    over = np.zeros(n, np.float32)
    if ends_at is not None:
        over[ends_at] = 1.0
    remaining = horizon - 1 - np.arange(n)
    paths = map(jnp.asarray, (phi[:-1], phi[1:], over, over * failed, remaining))
    found = PAYMENTS[payment](*paths, horizon, discount)
    return np.asarray(found)


def test_golden_absorbing():
    """phi = 1, 2, 3 after three decisions, horizon 6, terminated in the third: (1 + 2 + 3 * 4) / 6 = 2.5."""
    found = episode("absorbing", [0, 1, 2, 3], ends_at=2)
    np.testing.assert_allclose(found, [1 / 6, 2 / 6, 12 / 6], rtol=1e-6)
    # discount .5: the last decision stands for 1 + .5 + .25 + .125 = 1.875 decisions
    found = episode("absorbing", [0, 1, 2, 3], ends_at=2, discount=0.5)
    np.testing.assert_allclose(found, [1 / 6, 2 / 6, 3 * 1.875 / 6], rtol=1e-6)


def test_golden_potential():
    np.testing.assert_allclose(episode("potential", [0, 1, 2, 3], ends_at=2), [1, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(episode("potential", [0.5, -1, 2]), [-1.5, 3], rtol=1e-6)


@pytest.mark.parametrize("payment", PAYMENTS)
def test_loitering_does_not_pay(payment):
    """Full information from the first decision on: ending early or at the horizon earns the same in all."""
    full = math.log(4)
    totals = []
    for decisions in (1, 3, HORIZON):
        phi = [0.0] + [full] * decisions
        totals.append(episode(payment, phi, ends_at=decisions - 1).sum())
    np.testing.assert_allclose(totals, full, rtol=1e-6)


@pytest.mark.parametrize("payment", PAYMENTS)
def test_an_episode_never_earns_more_than_log_z(payment):
    rng = np.random.default_rng(0)
    for decisions in range(1, HORIZON + 1):
        phi = np.concatenate([[0.0], math.log(4) - rng.exponential(size=decisions)])
        assert episode(payment, phi, ends_at=decisions - 1).sum() <= math.log(4) + 1e-6


def test_potential_sums_telescope_to_the_end():
    """sum_t (phi_{t+1} - phi_t) = phi_T - phi_0, whatever happened between."""
    phi = np.random.default_rng(1).normal(size=HORIZON + 1)
    np.testing.assert_allclose(episode("potential", phi).sum(), phi[-1] - phi[0], rtol=1e-5)


def test_a_failure_forfeits():
    """absorbing: paid for the decisions before, not for the failing one; potential: hands all of it back."""
    phi = [0.0, 1.0, 1.2, 1.3]
    kept = episode("absorbing", phi, ends_at=2, failed=True)
    np.testing.assert_allclose(kept, [1 / 6, 1.2 / 6, 0.0], rtol=1e-6)
    assert episode("potential", phi, ends_at=2, failed=True).sum() == pytest.approx(0.0, abs=1e-6)
    assert episode("absorbing", phi, ends_at=2).sum() > kept.sum()


def test_truncation_is_no_end():
    """Without termination the last decision stands for itself alone: the value function has the rest."""
    np.testing.assert_allclose(episode("absorbing", [0, 1, 1]), [1 / 6, 1 / 6], rtol=1e-6)
