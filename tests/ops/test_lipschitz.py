"""Spectral norms against numpy's SVD and known derivatives; secants below them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.ops.lipschitz import local_lipschitz, secants, spectral_norm


def two_layers(seed=0, size=6):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(8, size)), rng.normal(size=(4, 8))
    return lambda x: jnp.asarray(second, jnp.float32) @ jnp.tanh(jnp.asarray(first, jnp.float32) @ x)


@pytest.mark.parametrize("shape", [(5, 5), (3, 9), (9, 3), (1, 4)])
def test_linear_map_against_the_svd(shape):
    matrix = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    estimate = jax.jit(lambda x, key: spectral_norm(lambda v: matrix @ v, x, key, 60))(
        jnp.zeros(shape[1]), jax.random.key(0)
    )
    assert float(estimate) == pytest.approx(values[0], rel=1e-4)
    assert float(estimate) <= values[0] * (1 + 1e-5)


def test_error_falls_with_the_iterations():
    # singular values 1 and .9: the error of |J v| is about tan^2(angle) / 2 * (1 - .81), the tangent starts at
    # v_2 / v_1 and falls by .81 per iteration
    start = jax.random.normal(jax.random.key(3), (2,))
    for iterations in (0, 3, 12):
        estimate = spectral_norm(
            lambda v: jnp.array([1.0, 0.9]) * v, jnp.zeros(2), jax.random.key(3), iterations
        )
        tangent = float(start[1] / start[0]) * 0.81**iterations
        expected = np.sqrt((1 + 0.81 * tangent**2) / (1 + tangent**2))
        assert float(estimate) == pytest.approx(expected, rel=1e-5)


def test_tanh_with_a_known_derivative():
    x = jnp.linspace(-2, 2, 11)[:, None]
    slopes = local_lipschitz(lambda v: jnp.tanh(3 * v), x, jax.random.key(1), 2)
    # |d tanh(3x) / dx| = 3 (1 - tanh^2(3x))
    np.testing.assert_allclose(slopes, 3 * (1 - np.tanh(3 * np.asarray(x[:, 0])) ** 2), rtol=1e-4, atol=1e-6)


@pytest.mark.heavy
def test_nonlinear_map_against_its_jacobian():
    f = two_layers()
    x = jax.random.normal(jax.random.key(2), (40, 6))
    true = np.linalg.norm(np.asarray(jax.vmap(jax.jacobian(f))(x), np.float64), 2, axis=(1, 2))
    few = jax.jit(lambda p, key: local_lipschitz(f, p, key, 2))(x, jax.random.key(3))
    many = jax.jit(lambda p, key: local_lipschitz(f, p, key, 100))(x, jax.random.key(3))
    assert few.shape == many.shape == (40,)
    assert np.all(few <= true * (1 + 1e-5))  # a lower bound, converged or not
    assert np.all(many <= true * (1 + 1e-5))
    np.testing.assert_allclose(many, true, rtol=2e-3)
    assert np.all(np.asarray(few) > 0.2 * true)
    assert np.any(np.asarray(few) < 0.999 * true)


def test_pytrees_with_codes():
    def f(w):
        return {"out": w["scale"] * w["noise"] + w["code"].astype(jnp.float32), "shift": w["noise"][0]}

    w = {"noise": jnp.ones((3, 2)), "scale": jnp.full((3, 2), 2.0), "code": jnp.arange(3)}
    # per dimension d out = noise d scale + scale d noise: rows of norm sqrt(1 + 4), the first noise also has the
    # row (1, 0): J^T J of dimension 0 is [[4 + 1, 2], [2, 1]], its largest eigenvalue 3 + 2 sqrt 2
    estimate = local_lipschitz(f, w, jax.random.key(4), 60)
    np.testing.assert_allclose(estimate, np.sqrt(3 + 2 * np.sqrt(2)), rtol=1e-4)
    with pytest.raises(ValueError, match="floating"):
        spectral_norm(lambda c: c, jnp.arange(3), jax.random.key(0))


def test_a_constant_map_and_gradients():
    assert float(spectral_norm(lambda v: 0.0 * v, jnp.ones(3), jax.random.key(0))) == 0.0
    # d/dx of |d tanh / dx| = -2 tanh (1 - tanh^2)
    slope = jax.grad(lambda x: spectral_norm(jnp.tanh, x, jax.random.key(5), 3))(jnp.array([0.5]))
    t = np.tanh(0.5)
    assert float(slope[0]) == pytest.approx(-2 * t * (1 - t**2), rel=1e-4)


@pytest.mark.heavy
def test_secants():
    f = two_layers(7)
    x = jax.random.normal(jax.random.key(6), (50, 6))
    step = jax.random.normal(jax.random.key(7), (50, 6))
    # along the segment the slope is at most the mean of |J|, so at most its maximum there
    slopes = jax.jit(lambda a, b: secants(f, a, b))(x, x + step)
    points = x[:, None] + jnp.linspace(0, 1, 41)[None, :, None] * step[:, None]
    jacobians = jax.vmap(jax.vmap(jax.jacobian(f)))(points)
    norms = np.linalg.norm(np.asarray(jacobians), 2, axis=(2, 3))
    by_hand = np.linalg.norm(np.asarray(jax.vmap(f)(x + step) - jax.vmap(f)(x)), axis=1) / np.linalg.norm(
        np.asarray(step), axis=1
    )
    np.testing.assert_allclose(slopes, by_hand, rtol=1e-4)
    assert np.all(np.asarray(slopes) <= norms.max(1) * 1.001)
    # a short secant is the directional derivative J v / |v|
    short = secants(f, x, x + 1e-2 * step)
    along = jax.vmap(lambda p, v: jnp.linalg.norm(jax.jvp(f, (p,), (v,))[1]) / jnp.linalg.norm(v))(x, step)
    np.testing.assert_allclose(short, along, rtol=0.1)
    assert float(secants(f, x[:1], x[:1])[0]) == 0.0
