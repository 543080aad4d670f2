"""Orders of convergence and exactness of the deterministic samplers; transitions of the stochastic ones."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.ops.ancestral import ancestral_coefficients
from mmbc_jax.samplers._grid import crowded_grid, run_steps, uniform_grid, visit_steps
from mmbc_jax.samplers.dpm_solver import extrapolation

from ._fields import GaussianField

X0 = jnp.array([[-1.3, 0.2], [0.9, 1.7]])


def integrate(name, field, path=None, **fields):
    return registry.build("sampler", plugin("sampler", name, **fields)).integrate(field, X0, path)


class Exponential:
    """dx/dt = k x, so x(1) = x0 e^k; as a field on the linear path."""

    rate = 0.8

    def velocity(self, x, t):
        return self.rate * x

    def denoise(self, x, t):
        return x + (1.0 - t) * self.velocity(x, t), x - t * self.velocity(x, t)

    def path(self, t):
        return t, 1.0 - t


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2)])
def test_order_on_a_linear_ode(name, order):
    exact = X0 * np.exp(Exponential.rate)
    error = [np.abs(integrate(name, Exponential(), steps=n) - exact).max() for n in (4, 8, 16)]
    slopes = np.log2(np.array(error[:-1]) / np.array(error[1:]))
    np.testing.assert_allclose(slopes, order, atol=0.2)


def test_euler_golden():
    # (1 + k/3)^3 with k = .8: 1.2666667^3 = 2.0322963
    np.testing.assert_allclose(integrate("euler", Exponential(), steps=3), X0 * 2.0322963, rtol=1e-6)


def test_trace_golden():
    # Euler, (1 + k/3)^i with k = .8: 1, 1.2666667, 1.6044444, 2.0322963
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=3))
    points = sampler.trace(Exponential(), X0, None)
    expected = np.array([1.0, 1.2666667, 1.6044444, 2.0322963])[:, None, None] * X0
    np.testing.assert_allclose(points, expected, rtol=1e-6)
    # DPM-Solver: the points x(1/3) = 1.2666667, x(2/3) = 1.64 and 2.0773333 that are worked out below
    sampler = registry.build("sampler", plugin("sampler", "dpm_solver", steps=3))
    expected = np.array([1.0, 1.2666667, 1.64, 2.0773333])[:, None, None] * X0
    np.testing.assert_allclose(sampler.trace(Exponential(), X0, None), expected, rtol=1e-6)


def test_heun_golden():
    # one step multiplies by 1 + hk + (hk)^2 / 2, trapezoid and midpoint alike: hk = .4, 1.48^2 = 2.1904
    np.testing.assert_allclose(integrate("heun", Exponential(), steps=2), X0 * 2.1904, rtol=1e-6)


@dataclasses.dataclass(frozen=True)
class InnerField(GaussianField):
    """Between two levels of noise, so that no step touches an end where alpha or sigma is 0."""

    def path(self, t):
        return 0.1 + 0.8 * t, 0.9 - 0.8 * t

    def solution(self, x0):
        (a0, s0), (a1, s1) = self.path(0.0), self.path(1.0)
        spread = np.sqrt(((a1 * self.std) ** 2 + s1**2) / ((a0 * self.std) ** 2 + s0**2))
        return a1 * self.mean + spread * (x0 - a0 * self.mean)


def test_dpm_solver_has_second_order_away_from_the_ends():
    field = InnerField(std=0.1)  # with .4 the two leading terms of the error nearly cancel
    runs = [integrate("dpm_solver", field, steps=n) for n in (32, 64, 128)]
    error = [np.abs(run - field.solution(X0)).max() for run in runs]
    slopes = np.log2(np.array(error[:-1]) / np.array(error[1:]))
    np.testing.assert_allclose(slopes, 2.0, atol=0.2)


def test_dpm_solver_has_at_least_second_order_with_both_ends():
    exact = X0 * np.exp(Exponential.rate)
    error = [np.abs(integrate("dpm_solver", Exponential(), steps=n) - exact).max() for n in (4, 8, 16)]
    assert np.log2(np.array(error[:-1]) / np.array(error[1:])).min() > 1.8


def test_dpm_solver_two_and_three_steps_by_hand():
    # dx/dt = k x with k = .8 on the linear path: D(x, t) = x (1 + (1 - t) k), x_s = keep x + (s - t keep) D
    # with keep = (1 - s) / (1 - t). Two steps: both c = 0, D_0 = 1.8, x = .5 + .5 * 1.8 = 1.4, x = D = 1.4^2
    np.testing.assert_allclose(integrate("dpm_solver", Exponential(), steps=2), X0 * 1.96, rtol=1e-6)
    # three: x(1/3) = 2/3 + 1.8/3 = 1.2666667, D_1 = x (1 + 1.6/3) = 1.9422222, c = 1/2 on an even grid,
    # D = 1.5 D_1 - .9 = 2.0133333, x(2/3) = x/2 + D/2 = 1.64, result D_2 = 1.64 (1 + .8/3) = 2.0773333
    np.testing.assert_allclose(integrate("dpm_solver", Exponential(), steps=3), X0 * 2.0773333, rtol=1e-6)


def test_dpm_solver_extrapolates_as_in_the_logarithm_on_short_steps():
    alpha, sigma = InnerField().path(np.linspace(0.4, 0.45, 5))
    length = np.diff(np.log(alpha / sigma))
    np.testing.assert_allclose(extrapolation(alpha, sigma)[1:], length[1:] / (2 * length[:-1]), rtol=0.02)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("name", ["ddim", "dpm_solver"])
def test_data_prediction_is_exact_for_a_point_mass(name, steps, kind):
    field = GaussianField(kind, mean=0.3, std=0.0)
    np.testing.assert_allclose(integrate(name, field, steps=steps), jnp.full_like(X0, 0.3), atol=1e-6)


def test_ddim_is_euler_on_the_linear_path():
    field = GaussianField("linear")
    np.testing.assert_allclose(
        integrate("ddim", field, steps=6), integrate("euler", field, steps=6), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_ddim_with_eta_one_is_ddpm(kind):
    field, noise = GaussianField(kind), jax.random.normal(jax.random.key(0), (5, 2, 2))
    np.testing.assert_allclose(
        integrate("ddim", field, noise, steps=5, eta=1.0), integrate("ddpm", field, noise, steps=5), atol=1e-5
    )


def test_ddim_two_steps_by_hand():
    # cosine path, data N(m, s^2). t=0: alpha 0, sigma 1, so data = m, noise = x0; t=1/2: alpha = sigma = c,
    # x = c m + c x0, V = c^2 (s^2 + 1), data = m + c s^2 (x - c m) / V = m + s^2 x0 / (1 + s^2)
    field = GaussianField("cosine")
    expected = field.mean + field.std**2 * X0 / (1 + field.std**2)
    np.testing.assert_allclose(integrate("ddim", field, steps=2), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_ancestral_coefficients_against_bayes(kind):
    # precision-weighted product of N(x_s; alpha_s x1, sigma_s^2) and N(x_t; a x_s, r^2)
    field = GaussianField(kind)
    (at, st), (as_, ss) = field.path(0.3), field.path(0.45)
    at, st, as_, ss = (float(v) for v in (at, st, as_, ss))
    a = at / as_
    r2 = st**2 - a**2 * ss**2
    precision = 1 / ss**2 + a**2 / r2
    keep, pull, std = ancestral_coefficients(*jax.tree.map(jnp.asarray, ((at, st), (as_, ss))))
    np.testing.assert_allclose(std, precision**-0.5, rtol=1e-5)
    np.testing.assert_allclose(keep, a / r2 / precision, rtol=1e-5)
    np.testing.assert_allclose(pull, as_ / ss**2 / precision, rtol=1e-5)


def test_ddpm_keeps_the_marginal_of_a_point_mass_at_every_time():
    # from x_t ~ N(alpha_t x1, sigma_t^2) a step must lead to N(alpha_s x1, sigma_s^2)
    field = GaussianField("cosine", mean=0.3, std=0.0)
    t = uniform_grid(8)
    for now, after in zip(t[:-1], t[1:], strict=True):
        (at, st), (as_, ss) = field.path(now), field.path(after)
        keep, pull, std = ancestral_coefficients(*jax.tree.map(jnp.asarray, ((at, st), (as_, ss))))
        np.testing.assert_allclose(keep * at + pull, as_, atol=1e-5)
        np.testing.assert_allclose(keep**2 * st**2 + std**2, ss**2, atol=1e-5)


def test_ddpm_floor_reaches_the_last_step():
    field = GaussianField("linear", mean=0.3, std=0.0)
    noise = jnp.zeros((4, 2, 2)).at[-1].set(1.0)
    np.testing.assert_allclose(integrate("ddpm", field, noise, steps=4), 0.3 * jnp.ones((2, 2)), atol=1e-6)
    floored = integrate("ddpm", field, noise, steps=4, min_std=0.1)
    np.testing.assert_allclose(floored, 0.4 * jnp.ones((2, 2)), atol=1e-6)


def test_sde_by_hand():
    # linear path, two steps of h = 1/2, eta = .5: at t=0 sigma = 1 and x0^ = x, so
    # x = .5 m + (.5 - .25) x0 + sqrt(2 * .5 * 1 * .5) e = .5 m + .25 x0 + sqrt(.5) e; then the estimate of the
    # data at t=1/2, m + .5 s^2 (x - .5 m) / V with V = .25 (s^2 + 1)
    field, noise = GaussianField("linear"), jax.random.normal(jax.random.key(0), (2, 2, 2))
    spread = 0.25 * X0 + np.sqrt(0.5) * noise[0]
    expected = field.mean + 0.5 * field.std**2 * spread / (0.25 * (field.std**2 + 1))
    result = integrate("sde", field, noise, steps=2, noise=0.5)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_sde_with_vanishing_noise_is_ddim(kind):
    field, noise = GaussianField(kind), jnp.ones((5, 2, 2))
    np.testing.assert_allclose(
        integrate("sde", field, noise, steps=5, noise=1e-12), integrate("ddim", field, steps=5), atol=1e-5
    )


def test_grid_and_loop():
    np.testing.assert_allclose(uniform_grid(4), [0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_array_equal(crowded_grid(4, 1.0), uniform_grid(4))
    np.testing.assert_allclose(crowded_grid(4, 2.0), [0, 7 / 16, 3 / 4, 15 / 16, 1.0])
    # ((2*1+1)*1+2)... : x <- x * b + a over (a, b) = (1, 2), (2, 1), (3, 3): 1 -> 3 -> 5 -> 18
    args = lambda x, ab: x * ab[1] + ab[0], jnp.ones(()), (jnp.array([1.0, 2, 3]), jnp.array([2.0, 1, 3])), 3
    assert run_steps(*args) == 18.0
    assert visit_steps(*args).tolist() == [1.0, 3.0, 5.0, 18.0]


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("ddim", "eta", 1.5), ("ddim", "eta", -0.1), ("ddpm", "min_std", -1.0), ("sde", "noise", 0.0)],
)
def test_impossible_values_are_refused(name, field, value):
    with pytest.raises(ConfigError, match=f"sampler.{field}"):
        integrate(name, Exponential(), **{field: value})
