"""Information from samples against mixtures of Gaussians whose information is known by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from sklearn.feature_selection import mutual_info_classif

from mmbc_jax.ops.path_information import (
    contrastive_information,
    kernel_scores,
    neighbour_information,
    principal,
    resolved_information,
)
from tests.toys.products import spared

N = 2000


def mixture_entropy(centres, deviation):
    """Differential entropy of an even mixture of normals, by quadrature."""
    centres = np.asarray(centres, float)

    def integrand(x):
        p = stats.norm.pdf(x, centres, deviation).mean()
        return -p * math.log(p) if p > 0 else 0.0

    low, high = centres.min() - 12 * deviation, centres.max() + 12 * deviation
    return quad(integrand, low, high, limit=500, points=sorted(centres))[0]


def about_the_label(centres, deviation=1.0):
    """I(Z; X) of x ~ N(centre of z, deviation^2), z uniform: h(X) - h(X | Z)."""
    return mixture_entropy(centres, deviation) - stats.norm.entropy(scale=deviation)


def drawn(centres, deviation=1.0, seed=0, n=N, extra=0):
    """(x [n, 1 + extra], z [n]); the extra coordinates know nothing of z."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, len(centres), n)
    x = np.asarray(centres, float)[z] + deviation * rng.standard_normal(n)
    return np.concatenate([x[:, None], rng.standard_normal((n, extra))], 1), z


def exact_scores(x, centres, deviation=1.0):
    logs = stats.norm.logpdf(x[:, :1], np.asarray(centres, float), deviation)
    return logs - np.log(np.exp(logs).sum(1, keepdims=True))


MIXTURES = [(0.0, 0.0, 0.0), (-0.5, 0.5), (-1.0, 0.0, 2.0), (-2.0, 2.0), (-6.0, -2.0, 2.0, 6.0)]


@pytest.mark.parametrize("centres", MIXTURES)
def test_contrastive_information_under_the_true_posterior(centres):
    """Within 5 standard errors (its terms have a deviation below .75 here) and 1/n for each normaliser's bias."""
    x, z = drawn(centres)
    found = contrastive_information(exact_scores(x, centres), z)
    assert found.value == pytest.approx(about_the_label(centres), abs=5 * 0.75 / N**0.5 + len(centres) / N)
    assert found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high


def test_contrastive_information_is_a_lower_bound_for_a_wrong_critic():
    """Critics three times too sure and a third as sure: below the information by .01 at least; a blind one: 0."""
    centres = (-1.0, 0.0, 2.0)
    x, z = drawn(centres, seed=1)
    exact, scores = about_the_label(centres), exact_scores(x, centres)
    for factor in (3.0, 0.3):
        assert contrastive_information(factor * scores, z).value < exact - 0.01
    assert contrastive_information(0.0 * scores, z).value == pytest.approx(0.0, abs=1e-12)
    # what the critic says of z in general costs the variational bound alone
    tilted = scores + np.array([2.0, 0.0, -1.0])
    assert contrastive_information(tilted, z).value == pytest.approx(contrastive_information(scores, z).value)


@pytest.mark.parametrize("centres", MIXTURES)
def test_contrastive_information_of_a_fitted_critic(centres):
    """500 samples with a vote, 500 asked, one coordinate in four that matters: below I + 5 errors, and not by far."""
    x, z = drawn(centres, seed=6, n=1000, extra=3)
    scores = kernel_scores(x[:500], z[:500], x[500:], len(centres))
    np.testing.assert_allclose(np.exp(scores).sum(1), 1.0, rtol=1e-9)
    found = contrastive_information(scores, z[500:]).value
    exact = about_the_label(centres)
    assert exact - 0.15 < found < exact + 5 * 0.75 / 500**0.5


def test_a_kernel_vote_by_hand():
    """Two points of either label at 0 and 1: their nearest neighbours coincide, so h is tiny, and the vote is theirs.

    Of labels that do not depend on the place the widest kernel is likeliest: every answer is nearly their share.
    """
    x, z = np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([0, 0, 1, 1])
    found = np.exp(kernel_scores(x, z, [[0.1], [0.9]], 2))
    np.testing.assert_allclose(found, [[0.99, 0.01], [0.01, 0.99]], atol=1e-9)
    rng = np.random.default_rng(7)
    x, z = rng.normal(size=(400, 2)), np.arange(400) % 4
    found = np.exp(kernel_scores(x, z, rng.normal(size=(50, 2)), 4))
    np.testing.assert_allclose(found, 0.25, atol=0.06)


def test_contrastive_information_by_hand():
    """Two samples, scores log 3 and log 1 of their own and the other label: log 3 - log((3 + 1) / 2) = log 1.5."""
    scores = np.log([[3.0, 1.0], [1.0, 3.0]])
    assert contrastive_information(scores, [0, 1]).value == pytest.approx(math.log(1.5))
    # it is at most log n, however sure the critic
    assert contrastive_information(1000 * np.eye(2), [0, 1]).value == pytest.approx(math.log(2))


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("centres", MIXTURES)
def test_neighbour_information(centres, extra):
    """Within 5 standard errors, of terms with a deviation below 1, and a bias below .02 in one and two dimensions."""
    x, z = drawn(centres, seed=2, extra=extra)
    found = neighbour_information(x, z)
    assert found.value == pytest.approx(about_the_label(centres), abs=5 * 1.0 / N**0.5 + 0.02)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("k", [1, 3, 10])
def test_neighbour_information_agrees_with_scikit_learn_in_one_dimension(k):
    x, z = drawn((-1.0, 0.0, 2.0), seed=3, n=400)
    z[:1] = 7  # a label of its own is left out
    expected = mutual_info_classif(x, z, discrete_features=False, n_neighbors=k, random_state=0)[0]
    assert neighbour_information(x, z, k).value == pytest.approx(expected, abs=1e-6)


def test_samples_that_coincide_are_told_apart_by_their_place():
    """Four commands with one path each, 50 times: log 4 as for paths of any width, and 0 for one place of all."""
    z = np.repeat(np.arange(4), 50)
    exact = neighbour_information(z[:, None] * np.ones((1, 2)), z, 3)
    wide = neighbour_information(z[:, None] + 1e-3 * np.random.default_rng(0).normal(size=(200, 2)), z, 3)
    assert exact.value == pytest.approx(wide.value, abs=1e-9)  # psi(200) - psi(50) in both
    assert exact.value == pytest.approx(math.log(4), abs=0.02)
    same = neighbour_information(np.zeros((200, 2)), z, 3)
    assert abs(same.value) < 5 * 1.0 / 200**0.5
    assert neighbour_information(np.zeros((3, 1)), np.arange(3)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("sigma", [0.3, 1.0])
@pytest.mark.parametrize(
    ("centres", "deviation"), [((0.0,), 0.1), ((-1.0, 1.0), 0.05), ((-3.0, -1.0, 1.0, 3.0), 0.3)]
)
@spared("centres1*", "centres2-0.3-0.3")
def test_resolved_information(centres, deviation, sigma):
    """h of the mixture widened by sigma less h of the noise; its terms have a deviation below 1.2, bias below .02."""
    exact = mixture_entropy(centres, math.hypot(deviation, sigma)) - stats.norm.entropy(scale=sigma)
    x, _ = drawn(centres, deviation, seed=4, n=1000)
    found = resolved_information(x, sigma)
    assert found.value == pytest.approx(exact, abs=5 * 1.2 / 4000**0.5 + 0.02)
    assert found.low < found.value < found.high


def test_modes_that_are_resolved_count_by_their_entropy():
    """1, 2 and 4 modes, narrow and far apart: 0, log 2, log 4; shares of .75 and .25: .2877 x .75 + 1.3863 x .25."""
    for modes in (1, 2, 4):
        x = np.repeat(10.0 * np.arange(modes), 400 // modes)[:, None] + np.zeros((1, 3))
        assert resolved_information(x, 0.3).value == pytest.approx(math.log(modes), abs=1e-9)
    uneven = resolved_information(np.repeat([0.0, 10.0], [300, 100])[:, None], 0.3)
    assert uneven.value == pytest.approx(0.5623351, abs=1e-6)
    # resampled shares have deviation sqrt(.75 .25 / 400) = .0217; the entropy's slope is log 3
    assert uneven.high - uneven.low == pytest.approx(2 * 1.96 * 0.0217 * math.log(3), rel=0.15)
    coarse = resolved_information(np.repeat([0.0, 10.0], 200)[:, None], 1000.0)
    assert coarse.value == pytest.approx(0.0, abs=1e-3)


def test_principal_coordinates_keep_distances_and_their_order():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(50, 4)) * np.array([0.1, 3.0, 1.0, 0.0])
    found = principal(x, 3)
    assert found.shape == (50, 3)
    np.testing.assert_allclose(
        np.linalg.norm(found[0] - found[1:], axis=1), np.linalg.norm(x[0] - x[1:], axis=1)
    )
    assert (np.diff(found.var(0)) < 0).all()
    assert principal(x, 9).shape == (50, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: contrastive_information(np.zeros((3, 2)), [0, 1]),
        lambda: contrastive_information(np.zeros((3, 2)), [0, 1, 2]),
        lambda: contrastive_information(np.full((3, 2), np.nan), [0, 1, 1]),
        lambda: neighbour_information(np.zeros(3), [0, 1, 1]),
        lambda: neighbour_information(np.zeros((3, 1)), [0.0, 1.0, 1.0]),
        lambda: neighbour_information(np.zeros((3, 1)), [0, 1, 1], 0),
        lambda: resolved_information(np.zeros((3, 1)), 0.0),
        lambda: resolved_information(np.zeros((1, 1)), 1.0),
    ],
)
def test_what_cannot_work_is_refused(call):
    with pytest.raises(ValueError, match=r"label|finite|points|neighbours|resolution"):
        call()


@pytest.mark.parametrize("modes", [4, 24])
def test_intervals_hold_what_another_draw_would_say(modes):
    """The mean of 200 draws of 256 samples of separated modes lies in 88 % of 95 % intervals and more.

    With p = .95 fewer than .88 of 200 are 4.5 standard deviations of sqrt(.95 .05 / 200). Each repeated sample tells
    less: without the shift of the resamples' mean these were 30 % at 24 modes.
    """
    rng = np.random.default_rng(0)
    drawn = [10.0 * rng.integers(0, modes, (256, 1)) for _ in range(200)]
    found = [resolved_information(x, 0.3, draws=1, resamples=200) for x in drawn]
    mean = np.mean([one.value for one in found])
    assert np.mean([one.low <= mean <= one.high for one in found]) > 0.88
    scored = [
        contrastive_information(np.where(x == 10.0 * np.arange(modes), 0.0, -9.0), (x[:, 0] / 10).astype(int))
        for x in drawn[:100]
    ]
    mean = np.mean([one.value for one in scored])
    assert np.mean([one.low <= mean <= one.high for one in scored]) > 0.88
