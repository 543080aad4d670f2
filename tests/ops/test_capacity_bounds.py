"""Mode counts and bridge masses against arithmetic, analytic maps and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import optimize
from scipy.stats import norm

from mmbc_jax.ops import capacity_bounds as capacity


# T(x)_i = clip(x_i, -1/2, 1/2) on N(0, I_m): 1-Lipschitz, a mode per corner, 2^m of them, of mass
# P(x_i >= 1/2)^m = .3085375^m, a distance of 1 apart. Printed bound: 1 + ceil(2 Phi^-1(1 - mass/2)):
#   m = 3: mass .0293714, Phi^-1(.9853143) = 2.1784 -> 1 + ceil(4.357) = 6
#   m = 4: mass .0090622, Phi^-1(.9954689) = 2.6093 -> 1 + ceil(5.219) = 7
#   m = 5: mass .0027960, Phi^-1(.9986020) = 2.9891 -> 1 + ceil(5.978) = 7
# Dimension-free: Phi^-1(mass) + 1/2 = -1.38931, -1.86300, -2.27110 with Phi of .0822471, .0312263, .0115798
@pytest.mark.parametrize(
    ("m", "mass", "printed", "free"), [(3, 0.0294, 6, 12.2), (4, 0.0091, 7, 32.0), (5, 0.0028, 7, 86.4)]
)
def test_clipped_identity_breaks_the_printed_bound_and_not_the_other(m, mass, printed, free):
    exact = norm.cdf(-0.5) ** m
    assert exact == pytest.approx(mass, abs=5e-5)
    assert capacity.printed_mode_bound(1.0, 1.0, exact) == printed < 2**m
    assert capacity.mode_bound(1.0, 1.0, exact) == pytest.approx(free, abs=0.05)
    assert capacity.mode_bound(1.0, 1.0, exact) >= 2**m
    masses = np.full(2**m, exact)
    assert capacity.enlargement_sum(masses, 1.0, 1.0) == pytest.approx(2**m / free, rel=5e-3)
    assert capacity.required_lipschitz(masses, 1.0) < 1.0  # the true L is allowed


def test_clipped_identity_simulated():
    rng = np.random.default_rng(0)
    n, m = 200_000, 3
    image = np.clip(rng.standard_normal((n, m)), -0.5, 0.5)
    corners = np.array(list(itertools.product([-0.5, 0.5], repeat=m)))
    masses = np.array([(image == corner).all(1).mean() for corner in corners])
    p = norm.cdf(-0.5) ** 3
    assert np.abs(masses - p).max() < 5 * np.sqrt(p * (1 - p) / n)
    assert capacity.enlargement_sum(masses, 1.0, 1.0) <= 1.0
    # the bound .658 - .235 = .423 lies below the truth 1 - 8 p = .765
    bound = capacity.bridge_mass_bound(masses, 1.0, 1.0)
    assert 0.4 < bound < 1.0 - masses.sum()


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (4.0, 0.0), (4.0, 0.7), (30.0, -1.2)])
def test_two_plateaus_meet_the_bridge_bound(slope, shift):
    # T(x) = clip(slope (x - shift), -1, 1): plateaus 2 apart, below shift - 1/slope and above shift + 1/slope
    low, high = norm.cdf(shift - 1 / slope), norm.sf(shift + 1 / slope)
    assert capacity.bridge_mass_bound([low, high], slope, 2.0) == pytest.approx(1 - low - high, rel=1e-9)
    assert capacity.required_lipschitz([low, high], 2.0) == pytest.approx(slope, rel=1e-9)
    assert capacity.enlargement_sum([low, high], slope, 2.0) == pytest.approx(1.0, rel=1e-12)
    x = np.random.default_rng(1).standard_normal(100_000)
    seen = (np.abs(slope * (x - shift)) < 1).mean()
    assert abs(seen - (1 - low - high)) < 5 * np.sqrt((1 - low - high) / len(x))


def test_a_staircase_of_three_spills_more_than_the_bound():
    # plateaus of width 1 about -2, 0, 2 joined by lines of slope 1 over unit lengths: h = delta / 2L = 1/2
    edges = norm.cdf([-1.5, -0.5, 0.5, 1.5])
    masses = [edges[0], edges[2] - edges[1], 1 - edges[3]]
    bound = capacity.bridge_mass_bound(masses, 1.0, 1.0)
    # the outer half-lines grow exactly as the bound has it: Phi(-1) - Phi(-1.5) each; the slab in the middle
    # grows from .3829 to .6827, the half-line of its mass only to Phi(-.29781 + .5) = .58012
    assert bound == pytest.approx(2 * (norm.cdf(-1) - norm.cdf(-1.5)) + 0.580117 - 0.382925, abs=2e-6)
    assert bound < 1 - sum(masses)


def test_printed_bound_by_hand():
    # Phi^-1(1 - .05/2) = 1.95996: 1 + ceil(3.92) = 5; three plateaus of the staircase above fit below it
    assert capacity.printed_mode_bound(1.0, 1.0, 0.05) == 5.0
    assert capacity.printed_mode_bound(2.0, 1.0, 0.05) == 9.0  # 1 + ceil(7.84)


def test_required_lipschitz_agrees_with_brentq():
    masses = np.array([0.3, 0.2, 0.25, 0.1, 0.0])
    h = optimize.brentq(lambda h: norm.cdf(norm.ppf(masses[:4]) + h).sum() - 1, 0, 5, xtol=1e-14)
    assert capacity.required_lipschitz(masses, 0.8) == pytest.approx(0.8 / (2 * h), rel=1e-10)


def test_required_lipschitz_is_the_smallest_allowed():
    rng = np.random.default_rng(2)
    masses = rng.dirichlet(np.ones(9), size=50)[:, :8]
    needed = capacity.required_lipschitz(masses, 0.3)
    assert needed.shape == (50,)
    assert np.all(capacity.enlargement_sum(masses, needed, 0.3) <= 1.0 + 1e-14)
    assert np.all(capacity.enlargement_sum(masses, needed * (1 - 1e-6), 0.3) > 1.0 + 1e-12)
    # at the smallest L the bound asks for all that lies outside
    np.testing.assert_allclose(capacity.bridge_mass_bound(masses, needed, 0.3), 1 - masses.sum(-1), rtol=1e-8)


def test_monotonicity():
    L, delta, tau = np.linspace(0.1, 9, 30), np.linspace(0.1, 5, 30), np.linspace(0.001, 0.4, 30)
    masses = np.array([0.2, 0.3, 0.1])
    assert np.all(np.diff(capacity.mode_bound(L, 1.0, 0.05)) > 0)
    assert np.all(np.diff(capacity.mode_bound(3.0, delta, 0.05)) < 0)
    assert np.all(np.diff(capacity.mode_bound(3.0, 1.0, tau)) < 0)
    assert np.all(np.diff(capacity.printed_mode_bound(L, 1.0, 0.05)) >= 0)
    assert np.all(np.diff(capacity.printed_mode_bound(3.0, delta, 0.05)) <= 0)
    assert np.all(np.diff(capacity.bridge_mass_bound(masses, L, 1.0)) < 0)
    assert np.all(np.diff(capacity.enlargement_sum(masses, 3.0, delta)) > 0)
    np.testing.assert_allclose(
        capacity.required_lipschitz(masses, delta) / delta, capacity.required_lipschitz(masses, 1.0)
    )


def test_edges():
    # one mode, or no distance: any L will do; two that fill everything: a jump
    assert capacity.required_lipschitz([1.0], 2.0) == 0.0
    assert capacity.required_lipschitz([0.7, 0.0], 2.0) == 0.0
    assert capacity.required_lipschitz([0.5, 0.5], 0.0) == 0.0
    assert capacity.required_lipschitz([0.5, 0.5], 2.0) == np.inf
    assert capacity.required_lipschitz(np.full(10, 0.1), 2.0) == np.inf  # sums to 1 - 1e-16
    mixed = capacity.required_lipschitz([[0.4, 0.4], [1.0, 0.0], [0.5, 0.5]], [1.0, 1.0, 0.0])
    # h = -Phi^-1(.4) = .2533471 brings both to a half, L = 1 / 2h
    np.testing.assert_allclose(mixed, [1.9735769, 0.0, 0.0], rtol=1e-7)
    # no distance or an infinite L: masses as they are, 1/tau modes; a constant map: one mode
    assert capacity.mode_bound(1.0, 0.0, 0.05) == pytest.approx(20.0)
    assert capacity.mode_bound(np.inf, 1.0, 0.05) == pytest.approx(20.0)
    assert capacity.mode_bound(0.0, 1.0, 0.05) == 1.0
    assert capacity.enlargement_sum([0.5, 0.25, 0.0], 0.0, 1.0) == 2.0
    assert capacity.bridge_mass_bound([0.5, 0.5], np.inf, 1.0) == pytest.approx(0.0, abs=1e-12)
    assert capacity.bridge_mass_bound([1.0, 0.0], 1.0, 1.0) == 0.0
    assert capacity.printed_mode_bound(0.0, 0.0, 0.5) == 1.0
    assert capacity.printed_mode_bound(np.inf, 1.0, 1.0) == 1.0
    assert capacity.printed_mode_bound(1.0, 0.0, 0.5) == np.inf


def test_shapes():
    assert isinstance(capacity.mode_bound(1.0, 1.0, 0.1), float)
    assert capacity.mode_bound(np.ones((4, 1)), np.ones(3), 0.1).shape == (4, 3)
    assert capacity.enlargement_sum(np.full((5, 2), 0.3), np.ones(5), 1.0).shape == (5,)
    assert capacity.bridge_mass_bound(np.full((5, 2), 0.3), 1.0, 1.0).shape == (5,)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: capacity.mode_bound(-1.0, 1.0, 0.1), "L"),
        (lambda: capacity.mode_bound(np.nan, 1.0, 0.1), "L"),
        (lambda: capacity.mode_bound(1.0, np.inf, 0.1), "delta"),
        (lambda: capacity.printed_mode_bound(1.0, -1.0, 0.1), "delta"),
        (lambda: capacity.printed_mode_bound(1.0, 1.0, 0.0), "tau"),
        (lambda: capacity.mode_bound(1.0, 1.0, 1.5), "tau"),
        (lambda: capacity.enlargement_sum([0.5, -0.1], 1.0, 1.0), "masses"),
        (lambda: capacity.enlargement_sum([0.5, np.nan], 1.0, 1.0), "masses"),
        (lambda: capacity.bridge_mass_bound([0.7, 0.7], 1.0, 1.0), "sum to at most 1"),
        (lambda: capacity.required_lipschitz([], 1.0), "at least one"),
        (lambda: capacity.required_lipschitz(0.5, 1.0), "at least one"),
        (lambda: capacity.required_lipschitz([0.5], np.nan), "delta"),
    ],
)
def test_rejects(call, name):
    with pytest.raises(ValueError, match=name):
        call()
