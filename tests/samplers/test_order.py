"""Orders of convergence and exactness of the deterministic samplers; transitions of the stochastic ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.samplers._grid import ancestral_coefficients, run_steps, uniform_grid

from ._fields import GaussianField

X0 = jnp.array([[-1.3, 0.2], [0.9, 1.7]])


def integrate(name, field, noise=None, **fields):
    return registry.build("sampler", plugin("sampler", name, **fields)).integrate(field, X0, noise)


class Exponential:
    """dx/dt = k x, so x(1) = x0 e^k."""

    rate = 0.8

    def velocity(self, x, t):
        return self.rate * x


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2)])
def test_order_on_a_linear_ode(name, order):
    exact = X0 * np.exp(Exponential.rate)
    error = [np.abs(integrate(name, Exponential(), steps=n) - exact).max() for n in (4, 8, 16)]
    slopes = np.log2(np.array(error[:-1]) / np.array(error[1:]))
    np.testing.assert_allclose(slopes, order, atol=0.2)


def test_euler_golden():
    # (1 + k/3)^3 with k = .8: 1.2666667^3 = 2.0322963
    np.testing.assert_allclose(integrate("euler", Exponential(), steps=3), X0 * 2.0322963, rtol=1e-6)


def test_heun_golden():
    # one step multiplies by 1 + hk + (hk)^2 / 2, trapezoid and midpoint alike: hk = .4, 1.48^2 = 2.1904
    np.testing.assert_allclose(integrate("heun", Exponential(), steps=2), X0 * 2.1904, rtol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_ddim_is_exact_for_a_point_mass(steps, kind):
    field = GaussianField(kind, mean=0.3, std=0.0)
    np.testing.assert_allclose(integrate("ddim", field, steps=steps), jnp.full_like(X0, 0.3), atol=1e-6)


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
    keep, pull, std = ancestral_coefficients((at, st), (as_, ss))
    np.testing.assert_allclose(std, precision**-0.5, rtol=1e-5)
    np.testing.assert_allclose(keep, a / r2 / precision, rtol=1e-5)
    np.testing.assert_allclose(pull, as_ / ss**2 / precision, rtol=1e-5)


def test_ddpm_keeps_the_marginal_of_a_point_mass_at_every_time():
    # from x_t ~ N(alpha_t x1, sigma_t^2) a step must lead to N(alpha_s x1, sigma_s^2)
    field = GaussianField("cosine", mean=0.3, std=0.0)
    t = uniform_grid(8)
    for now, after in zip(t[:-1], t[1:], strict=True):
        (at, st), (as_, ss) = field.path(now), field.path(after)
        keep, pull, std = ancestral_coefficients((at, st), (as_, ss))
        np.testing.assert_allclose(keep * at + pull, as_, atol=1e-5)
        np.testing.assert_allclose(keep**2 * st**2 + std**2, ss**2, atol=1e-5)


def test_ddpm_floor_reaches_the_last_step():
    field = GaussianField("linear", mean=0.3, std=0.0)
    noise = jnp.zeros((4, 2, 2)).at[-1].set(1.0)
    np.testing.assert_allclose(integrate("ddpm", field, noise, steps=4), 0.3 * jnp.ones((2, 2)), atol=1e-6)
    floored = integrate("ddpm", field, noise, steps=4, min_std=0.1)
    np.testing.assert_allclose(floored, 0.4 * jnp.ones((2, 2)), atol=1e-6)


def test_grid_and_loop():
    np.testing.assert_allclose(uniform_grid(4), [0, 0.25, 0.5, 0.75, 1.0])
    # ((2*1+1)*1+2)... : x <- x * b + a over (a, b) = (1, 2), (2, 1), (3, 3): 1 -> 3 -> 5 -> 18
    result = run_steps(
        lambda x, ab: x * ab[1] + ab[0], jnp.ones(()), (jnp.array([1.0, 2, 3]), jnp.array([2.0, 1, 3])), 3
    )
    assert result == 18.0


@pytest.mark.parametrize(
    ("name", "field", "value"), [("ddim", "eta", 1.5), ("ddim", "eta", -0.1), ("ddpm", "min_std", -1.0)]
)
def test_impossible_values_are_refused(name, field, value):
    with pytest.raises(ConfigError, match=f"sampler.{field}"):
        integrate(name, Exponential(), **{field: value})
