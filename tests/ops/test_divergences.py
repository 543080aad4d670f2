"""Divergences against brute force, closed forms and numeric integration; the pairing against scipy."""

from __future__ import annotations

import inspect
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import integrate, linalg
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm

from mmbc_jax.core.errors import UserError
from mmbc_jax.ops import divergences
from mmbc_jax.ops.divergences import gaussian_kl, imq_mmd, joint_points, minibatch_ot_pairing, sinkhorn

pairing = jax.jit(minibatch_ot_pairing)


def brute_force_mmd(x, y, scales, biased):
    def kernel(a, b):
        return sum(2 * s * len(a) / (2 * s * len(a) + ((a - b) ** 2).sum()) for s in scales)

    def mean(p, q, same):
        pairs = [(i, j) for i in range(len(p)) for j in range(len(q)) if biased or not same or i != j]
        return np.mean([kernel(p[i], q[j]) for i, j in pairs])

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("scales", [(0.5, 1.0, 2.0, 4.0), (1.0,)])
def test_mmd_against_a_double_loop(biased, scales):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 3)), 0.5 + 2 * rng.normal(size=(7, 3))
    value = jax.jit(lambda a, b: imq_mmd(a, b, scales, biased))(x, y)
    assert float(value) == pytest.approx(brute_force_mmd(x, y, scales, biased), rel=1e-5, abs=1e-6)


def test_mmd_by_hand():
    # d = 1, s = 1/2: C = 1. x = 0, 1 and y = 0, 2: k(x, x') = 1/2, k(y, y') = 1/5, cross 1, 1/5, 1/2, 1/2
    # unbiased .5 + .2 - 2 * 2.2 / 4 = -.4 ; biased (2 + 1)/4 + (2 + .4)/4 - 1.1 = .25
    x, y = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [2.0]])
    assert float(imq_mmd(x, y, (0.5,))) == pytest.approx(-0.4, abs=1e-6)
    assert float(imq_mmd(x, y, (0.5,), biased=True)) == pytest.approx(0.25, abs=1e-6)


def test_unbiased_mmd_is_0_on_average_under_equal_distributions():
    draws = jax.random.normal(jax.random.key(0), (4000, 2, 12, 2))
    unbiased = np.asarray(jax.jit(jax.vmap(imq_mmd))(draws[:, 0], draws[:, 1]))
    error = unbiased.std() / np.sqrt(len(unbiased))
    assert abs(unbiased.mean()) < 5 * error
    biased = jax.vmap(lambda x, y: imq_mmd(x, y, biased=True))(draws[:, 0], draws[:, 1])
    assert np.mean(biased) > 50 * error  # so that the bias would have been seen
    shifted = jax.vmap(imq_mmd)(draws[:, 0], draws[:, 1] + 1.0)
    assert np.mean(shifted) > 50 * error


@pytest.mark.heavy
def test_mmd_gradient():
    x, y = jax.random.normal(jax.random.key(1), (2, 6, 3))
    check_grads(
        lambda a, b: imq_mmd(jnp.asarray(a), jnp.asarray(b)),
        (x, y),
        order=1,
        modes=("rev", "fwd"),
        atol=5e-3,
        rtol=5e-3,
    )
    assert np.all(np.isfinite(jax.grad(imq_mmd)(jnp.zeros((4, 2)), jnp.zeros((4, 2)))))


@pytest.mark.parametrize("shapes", [((1, 2), (5, 2)), ((4, 2), (4, 3)), ((4,), (4,))])
def test_mmd_rejects(shapes):
    with pytest.raises(ValueError, match="shapes"):  # unwrapped: as it is outside of tests
        inspect.unwrap(imq_mmd)(jnp.zeros(shapes[0]), jnp.zeros(shapes[1]))


def gaussian_ot(mean_a, cov_a, mean_b, cov_b, blur):
    """Entropic OT of Gaussians (Janati et al. 2020, theorem 1), halved for the cost |x - y|^2 / 2.

    With cost |x - y|^2 and eps' = 2 s^2: |a - b|^2 + tr A + tr B - tr D + d s^2 (1 - log 2 s^2)
    + s^2 log det(D + s^2 I), D = (4 A^1/2 B A^1/2 + s^4 I)^1/2. Half the cost with eps = s^2 is half of it.
    """
    d, s2 = len(mean_a), blur**2
    root = linalg.sqrtm(cov_a).real
    inner = linalg.sqrtm(4 * root @ cov_b @ root + s2**2 * np.eye(d)).real
    value = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - inner)
    value += d * s2 * (1 - np.log(2 * s2)) + s2 * np.linalg.slogdet(inner + s2 * np.eye(d))[1]
    return 0.5 * value


def gaussian_divergence(mean_a, cov_a, mean_b, cov_b, blur):
    cross = gaussian_ot(mean_a, cov_a, mean_b, cov_b, blur)
    own = [gaussian_ot(m, c, m, c, blur) for m, c in ((mean_a, cov_a), (mean_b, cov_b))]
    return cross - 0.5 * sum(own)


def matched_normal(rng, n, d):
    """n draws of N(0, I_d), then moved and scaled so that their mean is 0 and their covariance I exactly.

    The first variation of entropic OT between Gaussians is quadratic in x, so the sampling error of order
    1/sqrt(n) is that of the mean and the covariance alone. Matching both leaves the order 1/n.
    """
    z = rng.normal(size=(n, d))
    z -= z.mean(0)
    return z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / n)).T


@pytest.mark.heavy
def test_sinkhorn_against_the_closed_form_of_gaussians():
    blur, n, rng = 0.8, 400, np.random.default_rng(2)
    mean_a, mean_b, cov_b = np.zeros(2), np.array([1.0, -0.5]), np.array([[0.5, 0.3], [0.3, 1.2]])
    cov_a = np.diag([1.0, 0.5])
    x = mean_a + matched_normal(rng, n, 2) @ np.linalg.cholesky(cov_a).T
    y = mean_b + matched_normal(rng, n, 2) @ np.linalg.cholesky(cov_b).T
    # What is left is a degenerate V-statistic, mean and deviation both of order 1/n. Over 20 draws at n = 400
    # they were .0050 and .0018 (.0027 and .0007 at n = 800): .0050 + 5 * .0018 = .0140
    bound = 0.014
    value = float(jax.jit(sinkhorn)(x, y, blur))
    exact = gaussian_divergence(mean_a, cov_a, mean_b, cov_b, blur)
    assert abs(value - exact) < bound < exact / 40
    plain = float(jax.jit(lambda a, b: sinkhorn(a, b, blur, debiased=False))(x, y))
    entropic = gaussian_ot(mean_a, cov_a, mean_b, cov_b, blur)
    assert abs(plain - entropic) < bound
    assert entropic - exact > 10 * bound  # so the two are told apart


@pytest.mark.heavy
def test_sinkhorn_of_a_shift_is_half_its_square_at_any_blur():
    # S depends on the means through |a - b|^2 / 2 alone, and W_2^2 of a shift c is |c|^2: exact, no sampling
    x = jax.random.normal(jax.random.key(3), (64, 2))
    shift = jnp.array([0.3, -0.4])
    compiled = jax.jit(sinkhorn)  # blur is traced: one compilation
    for blur in (1.0, 0.2, 0.02):
        assert float(compiled(x, x + shift, blur)) == pytest.approx(0.125, abs=2e-3)
        assert float(compiled(x, x, blur)) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.heavy
def test_sinkhorn_with_a_tiny_blur_is_the_optimal_assignment():
    x, y = np.random.default_rng(4).normal(size=(2, 24, 2))
    cost = ((x[:, None] - y[None]) ** 2).sum(-1) / 2
    rows, columns = linear_sum_assignment(cost)
    value = jax.jit(sinkhorn)(x, y, 0.03)
    # the entropy is at most eps log n = .0009 * 3.2 = .003; the rest is the marginal error
    assert float(value) == pytest.approx(cost[rows, columns].mean(), abs=0.003 + 0.01)


@pytest.mark.heavy
def test_sinkhorn_gradient():
    x = jax.random.normal(jax.random.key(5), (40, 2))
    y = 0.5 * jax.random.normal(jax.random.key(6), (40, 2)) + 1.0
    direction = jax.random.normal(jax.random.key(7), (40, 2))
    compiled = jax.jit(sinkhorn)
    slope = float(jnp.vdot(jax.jit(jax.grad(sinkhorn))(x, y, 0.7), direction))
    step = 0.02
    numeric = float(compiled(x + step * direction, y, 0.7) - compiled(x - step * direction, y, 0.7)) / (
        2 * step
    )
    assert slope == pytest.approx(numeric, rel=0.02, abs=2e-3)


@pytest.mark.heavy
@pytest.mark.slow
def test_sinkhorn_under_vmap():
    x, y = jax.random.normal(jax.random.key(11), (2, 3, 20, 2))
    batched = jax.jit(jax.vmap(sinkhorn, (0, 0, None)))(x, y, 0.5)
    np.testing.assert_allclose(batched, [float(sinkhorn(x[i], y[i], 0.5)) for i in range(3)], rtol=1e-3)


def test_sinkhorn_without_ott_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ott.geometry", None)
    with pytest.raises(UserError, match=r"mmbc-jax\[ot\]"):
        sinkhorn(jnp.zeros((2, 1)), jnp.zeros((2, 1)), 0.1)


def test_gaussian_kl_against_integration():
    cases = [(0.3, -0.5, -0.2, 0.4), (1.0, 1.2, 0.0, 0.0), (0.0, -3.0, 0.5, -1.0)]
    expected = []
    for mean_q, logvar_q, mean_p, logvar_p in cases:
        q, p = norm(mean_q, np.exp(logvar_q / 2)), norm(mean_p, np.exp(logvar_p / 2))
        expected.append(
            integrate.quad(
                lambda x, q=q, p=p: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), *q.interval(1 - 1e-14)
            )[0]
        )
    columns = jnp.asarray(cases, jnp.float32).T
    np.testing.assert_allclose(gaussian_kl(*columns[:, :, None]), expected, rtol=1e-5)
    assert float(gaussian_kl(*columns)) == pytest.approx(sum(expected), rel=1e-5)  # summed over the last axis
    assert float(gaussian_kl(columns[0], columns[1], columns[0], columns[1])) == 0.0


def test_joint_points_weigh_the_state():
    obs, z = jax.random.normal(jax.random.key(8), (2, 5, 3))
    points = joint_points(obs, z[:, :2], 16.0)
    assert points.shape == (5, 5)
    apart = np.sum((points[0] - points[1]) ** 2)
    by_hand = 16 * np.sum((obs[0] - obs[1]) ** 2) + np.sum((z[0, :2] - z[1, :2]) ** 2)
    assert float(apart) == pytest.approx(float(by_hand), rel=1e-5)


def test_joint_points_see_what_the_aggregate_does_not():
    # z is +-1 with the state against z drawn apart from it: equal aggregates, different conditionals
    sign = jnp.sign(jax.random.normal(jax.random.key(9), (3, 200, 1)))
    obs = sign[0]
    aggregate = imq_mmd(sign[0], sign[1])
    joint = imq_mmd(joint_points(obs, sign[0], 16.0), joint_points(sign[2], sign[1], 16.0))
    assert float(joint) > 0.05 > 2 * abs(float(aggregate))


def costs(x0, x1):
    x0, x1 = (np.asarray(v, np.float64).reshape(len(v), -1) for v in (x0, x1))
    return ((x0[:, None] - x1[None]) ** 2).sum(-1)


def excess(x0, x1):
    """The pairing's cost over the optimum, less 1; checks that it is a permutation."""
    permutation = np.asarray(pairing(x0, x1))
    np.testing.assert_array_equal(np.sort(permutation), np.arange(len(x0)))
    cost = costs(x0, x1)
    return cost[np.arange(len(x0)), permutation].sum() / cost[linear_sum_assignment(cost)].sum() - 1


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_pairing_is_within_the_gap_of_the_optimum(seed):
    data = np.clip(np.sign(noise(seed + 50, 64, 1)) * 0.7 + 0.1 * noise(seed + 90, 64, 16), -1, 1)
    x0 = noise(seed, 64, 16)
    assert 0 <= excess(x0, data) < 0.02
    # what there was to gain: the identity costs far more
    cost = costs(x0, data)
    assert np.trace(cost) > 1.15 * cost[linear_sum_assignment(cost)].sum()


@pytest.mark.parametrize(
    "data",
    [
        noise(1, 64, 4, 2),
        np.repeat(noise(2, 4, 4, 2), 16, 0),  # four points, sixteen times each
        0.01 * noise(3, 64, 4, 2) + 1000.0,  # far away
        1e-4 * noise(4, 64, 4, 2),
        50.0 * noise(5, 64, 4, 2),
    ],
    ids=["normal", "duplicates", "far", "tiny", "wide"],
)
def test_pairing_of_chunks(data):
    assert -1e-6 <= excess(noise(0, 64, 4, 2), data) < 0.02


def test_pairing_of_the_same_points_shuffled_finds_them():
    x0, order = noise(6, 64, 5), np.random.default_rng(0).permutation(64)
    np.testing.assert_array_equal(x0[order][np.asarray(pairing(x0, x0[order]))], x0)


def test_a_smaller_gap_is_kept():
    x0, x1 = noise(7, 64, 2), noise(8, 64, 2)
    cost = costs(x0, x1)
    exact = cost[linear_sum_assignment(cost)].sum()
    permutation = jax.jit(lambda a, b: minibatch_ot_pairing(a, b, gap=1e-3))(x0, x1)
    assert cost[np.arange(64), permutation].sum() <= 1.001 * exact


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_pairing_is_a_permutation_whatever_comes(value):
    permutation = np.asarray(pairing(noise(9, 64, 5), np.full((64, 5), value, np.float32)))
    np.testing.assert_array_equal(np.sort(permutation), np.arange(64))
    assert np.asarray(pairing(jnp.ones((1, 3)), jnp.zeros((1, 3)))).tolist() == [0]


def test_an_unfinished_auction_is_completed():
    cost = jnp.asarray(costs(noise(10, 40, 3), noise(11, 40, 3)), jnp.float32)
    end = divergences._phase(cost, jnp.zeros(40), jnp.asarray(0.1), max_rounds=2)
    assert 0 < np.sum(np.asarray(end.column) < 0) < 40
    owned = np.asarray(end.column)
    whole = np.asarray(divergences._complete(end))
    np.testing.assert_array_equal(np.sort(whole), np.arange(40))
    np.testing.assert_array_equal(whole[owned >= 0], owned[owned >= 0])


@pytest.mark.heavy
@pytest.mark.slow
def test_pairing_under_vmap_and_grad():
    x0, x1 = jnp.asarray(noise(12, 3, 32, 6)), jnp.asarray(noise(13, 3, 32, 6))
    batched = np.asarray(jax.jit(jax.vmap(minibatch_ot_pairing))(x0, x1))
    for i in range(3):
        np.testing.assert_array_equal(batched[i], pairing(x0[i], x1[i]))

    def loss(scale):
        return jnp.sum((x0[0] - scale * x1[0][minibatch_ot_pairing(x0[0], scale * x1[0])]) ** 2)

    paired = x1[0][batched[0]]
    expected = 2 * np.sum(paired * (paired - x0[0]))
    assert float(jax.grad(loss)(1.0)) == pytest.approx(float(expected), rel=1e-4)
