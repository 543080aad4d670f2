"""Fano, the KL weight and linear-Gaussian autoencoders against arithmetic, inversion and optimisation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from mmbc_jax.ops import rate


def test_fano_floor_of_two_and_eight_modes():
    # K = 2, rho = .1: log 2 - h(.1), h(.1) = -.1 log .1 - .9 log .9 = .2302585 + .0948245 = .3250830
    assert rate.fano_floor(np.log(2), 0.1, 2) == pytest.approx(0.6931472 - 0.3250830, abs=1e-6)
    # K = 8: log 8 - h(.1) - .1 log 7 = 2.0794415 - .3250830 - .1945910 = 1.5597675
    assert rate.fano_floor(np.log(8), 0.1, 8) == pytest.approx(1.5597675, abs=1e-6)
    # no error allowed: the whole entropy; chance or worse, or a small entropy: nothing
    assert rate.fano_floor(1.3, 0.0, 8) == pytest.approx(1.3)
    assert rate.fano_floor(np.log(8), 7 / 8, 8) == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_array_equal(rate.fano_floor([np.log(8), 0.2, 0.0], [0.95, 0.1, 0.0], 8), 0.0)
    assert rate.fano_floor(0.0, 0.5, 1) == 0.0


def test_fano_holds_for_a_noisy_channel_and_is_met_by_the_symmetric_one():
    # uniform M, read rightly with 1 - rho and else as any other: I = log K - h(rho) - rho log(K - 1)
    k, rho = 5, 0.3
    channel = np.full((k, k), rho / (k - 1)) + np.eye(k) * (1 - rho - rho / (k - 1))
    known = np.log(k) - stats.entropy(channel[0])
    assert rate.fano_floor(np.log(k), rho, k) == pytest.approx(known, rel=1e-12)
    # any other channel: at its error, the floor lies below its information
    rng = np.random.default_rng(0)
    for _ in range(50):
        channel = rng.dirichlet(np.full(k, 0.3), size=k)  # p(y | m), m uniform
        posterior = channel / channel.sum(0)
        known = np.log(k) - (channel.mean(0) * stats.entropy(posterior, axis=0)).sum()
        error = 1 - channel.max(0).sum() / k
        assert rate.fano_floor(np.log(k), error, k) <= known + 1e-12
        assert rate.fano_inverse(np.log(k), known, k) <= error + 1e-12


def test_fano_inverse_inverts():
    errors = np.array([0.0, 0.01, 0.2, 0.5, 0.85])
    floor = rate.fano_floor(np.log(8), errors, 8)
    np.testing.assert_allclose(rate.fano_inverse(np.log(8), floor, 8), errors, atol=1e-9)
    assert rate.fano_inverse(np.log(8), 0.0, 8) == pytest.approx(7 / 8)  # chance
    assert rate.fano_inverse(np.log(8), 5.0, 8) == 0.0
    assert rate.fano_inverse(0.0, 0.0, 1) == 0.0
    assert rate.fano_inverse([0.5, 2.0], 0.4, 8).shape == (2,)


def test_ceilings_and_their_collision():
    assert rate.information_ceiling(0.4, 0.1) == pytest.approx(4.0)
    assert rate.information_ceiling(0.4, 0.0) == np.inf
    floor = rate.fano_floor(np.log(8), 0.1, 8)
    beta = rate.beta_ceiling(0.4, floor)
    assert beta == pytest.approx(0.4 / 1.5597675, rel=1e-6)
    assert rate.information_ceiling(0.4, beta * 1.01) < floor < rate.information_ceiling(0.4, beta * 0.99)
    np.testing.assert_array_equal(rate.beta_ceiling([1.0, 0.0], [0.0, 0.0]), np.inf)


def scalar_vae(variance, beta):
    """The least E |a - a_hat|^2 + beta KL(q(z|a) | N(0,1)) of a = N(0, variance), z = g a + s e, a_hat = w z.

    E KL = (g^2 variance + s^2 - 1 - log s^2) / 2; E |a - a_hat|^2 = (1 - w g)^2 variance + w^2 s^2.
    """

    def objective(parameters):
        gain, log_s, decoder = parameters
        kl = 0.5 * (gain**2 * variance + np.exp(2 * log_s) - 1 - 2 * log_s)
        error = (1 - decoder * gain) ** 2 * variance + decoder**2 * np.exp(2 * log_s)
        return error + beta * kl, kl, error

    best = optimize.minimize(lambda p: objective(p)[0], [0.7, -0.5, 0.7], method="BFGS", tol=1e-10)
    return objective(best.x)


@pytest.mark.parametrize(("variance", "beta"), [(1.0, 0.1), (0.25, 0.01), (4.0, 3.0), (1.0, 1.8)])
def test_water_filling_is_the_optimal_linear_vae(variance, beta):
    loss, kl, error = scalar_vae(variance, beta)
    nats, distortion = rate.water_filling([variance], beta)
    assert loss == pytest.approx(distortion + beta * nats, rel=1e-7)
    assert kl == pytest.approx(nats, abs=1e-4)
    assert error == pytest.approx(distortion, abs=1e-4)


def test_collapse_at_twice_the_variance():
    assert rate.collapse_beta([0.3, 0.7, 0.1]) == pytest.approx(1.4)
    nats, distortion = rate.water_filling([0.3, 0.7, 0.1], 1.4)
    assert (nats, distortion) == (0.0, pytest.approx(1.1))
    assert rate.water_filling([0.3, 0.7, 0.1], 1.39)[0] > 0.0
    assert scalar_vae(0.7, 1.3)[1] > 0.01
    assert scalar_vae(0.7, 1.5)[1] == pytest.approx(0.0, abs=1e-6)


def test_water_filling_by_hand():
    # level .1: 1/2 (log 10 + log 5 + 0) = 1/2 log 50 ; .1 + .1 + .01
    nats, distortion = rate.water_filling([1.0, 0.5, 0.01], 0.2)
    assert nats == pytest.approx(0.5 * np.log(50))
    assert distortion == pytest.approx(0.21)


def test_classifier_information():
    rng = np.random.default_rng(3)
    labels = np.arange(40_000) % 4
    # a perfect classifier knows log 4; the marginal knows nothing
    assert rate.classifier_information(np.log(np.eye(4)[labels] + 1e-30), labels)[0] == pytest.approx(
        np.log(4)
    )
    assert rate.classifier_information(np.full((40_000, 4), -np.log(4)), labels) == (
        pytest.approx(0.0, abs=1e-12),
        pytest.approx(0.0, abs=1e-12),
    )
    # the symmetric channel read through its own posterior: log 4 - h(.3) - .3 log 3
    read = np.where(rng.random(40_000) < 0.3, (labels + rng.integers(1, 4, 40_000)) % 4, labels)
    posterior = np.full((4, 4), 0.1) + 0.6 * np.eye(4)
    value, error = rate.classifier_information(np.log(posterior[read]), labels)
    assert abs(value - rate.fano_floor(np.log(4), 0.3, 4)) < 5 * error
    # one term is log .7 or log .1 with probability .7, .3: deviation log 7 sqrt(.21) = .8917 over sqrt(n)
    assert error == pytest.approx(0.8917 / 200, rel=0.02)
    # an overconfident classifier falls short of it
    wrong = np.log(np.full((4, 4), 0.01) + 0.96 * np.eye(4))
    assert rate.classifier_information(wrong[read], labels)[0] < value - 5 * error


def test_standard_error_covers_the_estimated_entropy():
    # q = (.8, .2) whatever z, labels Bernoulli(.2): the estimate is -KL(p_hat | q), flat at the truth, so the
    # two sources of noise cancel to first order and the error is nearly 0
    labels = (np.random.default_rng(4).random(5000) < 0.2).astype(int)
    value, error = rate.classifier_information(np.log(np.tile([0.8, 0.2], (5000, 1))), labels)
    share = labels.mean()
    assert value == pytest.approx(-stats.entropy([1 - share, share], [0.8, 0.2]), abs=1e-12)
    assert error < 1e-3


def test_active_units():
    rng = np.random.default_rng(5)
    means = rng.standard_normal((4000, 4)) * np.sqrt([1.0, 0.02, 0.005, 0.0]) + [0, 9, 9, 9]
    assert rate.active_units(means) == 2
    assert rate.active_units(means, threshold=0.001) == 3
    assert rate.active_units(means, threshold=2.0) == 0


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: rate.fano_floor(2.0, 0.1, 2), "nats"),
        (lambda: rate.fano_floor(0.5, 1.1, 2), "rho"),
        (lambda: rate.fano_floor(0.0, 0.1, 0), "num_modes"),
        (lambda: rate.fano_inverse(0.5, -0.1, 2), "information"),
        (lambda: rate.information_ceiling(-1.0, 0.1), "C"),
        (lambda: rate.information_ceiling(1.0, np.nan), "beta"),
        (lambda: rate.beta_ceiling(1.0, -0.1), "floor"),
        (lambda: rate.water_filling([1.0], 0.0), "beta"),
        (lambda: rate.water_filling([1.0, -1.0], 1.0), "variances"),
        (lambda: rate.collapse_beta([]), "variances"),
        (lambda: rate.classifier_information(np.zeros((3, 2)), [0, 1, 0]), "normalise"),
        (lambda: rate.classifier_information(np.full((3, 1), 0.0), [0, 1, 0]), "labels"),
        (lambda: rate.classifier_information(np.full((3, 1), 0.0), [0, 0]), "shapes"),
        (lambda: rate.active_units(np.zeros(3)), "posterior_means"),
    ],
)
def test_rejects(call, name):
    with pytest.raises(ValueError, match=name):
        call()
