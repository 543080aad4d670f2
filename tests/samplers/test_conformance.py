"""Every sampler in the folder on both paths: convergence, marginals, shapes, gradients."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from tests.toys.products import spared

from ._fields import MEAN, STD, GaussianField

NAMES = sorted(registry.available("sampler"))
DETERMINISTIC = [n for n in NAMES if not registry.build("sampler", plugin("sampler", n)).stochastic]
STOCHASTIC = [n for n in NAMES if n not in DETERMINISTIC]
FIRST_ORDER_AT_LEAST = 1.8  # error ratio of twice the steps; 2 in the limit for order 1, 4 for order 2


def make(name: str, steps: int):
    return registry.build("sampler", plugin("sampler", name, steps=steps))


def path_for(sampler, batch=(), key=None):
    if not sampler.stochastic:
        assert sampler.noise_shape((3, 2)) == (0,)
        return None
    return jax.random.normal(
        jax.random.key(9) if key is None else key, (*batch, *sampler.noise_shape((3, 2)))
    )


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("name", DETERMINISTIC)
@spared("dpm_solver-linear")
def test_converges_to_the_known_flow(name, kind):
    field = GaussianField(kind)
    x0 = jax.random.normal(jax.random.key(0), (3, 2))
    error = [np.abs(make(name, n).integrate(field, x0, None) - field.solution(x0)).max() for n in (8, 16, 32)]
    assert error[0] / error[1] > FIRST_ORDER_AT_LEAST
    assert error[1] / error[2] > FIRST_ORDER_AT_LEAST


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("name", STOCHASTIC)
@spared("ddpm-linear", "sde-linear")
def test_marginal_of_a_gaussian_target(name, kind):
    # the chain is affine in (x0, noise): its mean is its value at zero, its variance the squared Jacobian
    field = GaussianField(kind)

    def moments(steps):
        sampler = make(name, steps)
        zero = jnp.zeros(sampler.noise_shape((1, 1)))
        chain = lambda x, e: sampler.integrate(field, x, e)[0, 0]  # noqa: E731
        by_x0, by_noise = jax.grad(chain, argnums=(0, 1))(jnp.zeros((1, 1)), zero)
        return chain(jnp.zeros((1, 1)), zero), (by_x0**2).sum() + (by_noise**2).sum()

    error = []
    for steps in (20, 40, 320):
        mean, variance = moments(steps)
        error.append((abs(mean - MEAN), abs(variance - STD**2)))
    assert error[1][1] < 0.7 * error[0][1]
    assert error[2][0] < 0.02 * MEAN
    assert error[2][1] < 0.05 * STD**2


@pytest.mark.parametrize("name", STOCHASTIC)
def test_samples_have_the_marginal(name):
    sampler, n = make(name, 320), 4000
    field = GaussianField("cosine")

    def one(key):
        key_x0, key_path = jax.random.split(key)
        x0 = jax.random.normal(key_x0, (1, 1))
        return sampler.integrate(field, x0, jax.random.normal(key_path, sampler.noise_shape((1, 1))))

    x = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), n))).ravel()
    # 5 sigma of the mean and of the variance of n normal samples, plus the discretisation bounded above
    assert abs(x.mean() - MEAN) < 5 * STD / np.sqrt(n) + 0.02 * MEAN
    assert abs(x.var() - STD**2) < 5 * STD**2 * np.sqrt(2 / n) + 0.05 * STD**2


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("name", NAMES)
@spared("*-2-*", "*-cosine")
def test_a_few_steps_are_finite_and_differentiable(name, steps, kind):
    sampler, field = make(name, steps), GaussianField(kind)
    x0 = jax.random.normal(jax.random.key(2), (3, 2))
    noise = path_for(sampler)
    chunk = sampler.integrate(field, x0, noise)
    assert chunk.shape == (3, 2)
    assert np.isfinite(chunk).all()
    gradient = jax.grad(lambda x: sampler.integrate(field, x, noise).sum())(x0)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", NAMES)
def test_leading_dimensions_and_jit(name):
    sampler, field = make(name, 3), GaussianField()
    x0 = jax.random.normal(jax.random.key(3), (2, 4, 3, 2))
    noise = path_for(sampler, (2, 4))
    chunk = jax.jit(lambda x, e: sampler.integrate(field, x, e))(x0, noise)
    assert chunk.shape == x0.shape
    single = sampler.integrate(field, x0[1, 2], None if noise is None else noise[1, 2])
    np.testing.assert_allclose(chunk[1, 2], single, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_no_field_is_asked_for_the_data_end(name):
    seen = []

    class Recorder(GaussianField):
        def denoise(self, x, t):
            jax.debug.callback(lambda value: seen.append(float(value)), t)
            return super().denoise(x, t)

    sampler = make(name, 4)
    jax.block_until_ready(sampler.integrate(Recorder(), jnp.ones((3, 2)), path_for(sampler)))
    jax.effects_barrier()
    assert len(seen) >= 4
    assert min(seen) == 0.0
    assert max(seen) < 1.0


class BentField(GaussianField):
    """Not linear in x, so that a compiler has something to rearrange."""

    def denoise(self, x, t):
        data, noise = super().denoise(x, t)
        return data + 0.3 * jnp.sin(3.0 * x + t), noise


@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize(("name", "fields"), [*((n, {}) for n in NAMES), ("ddim", {"eta": 0.7})])
@spared("*-cosine-*")
def test_trace_goes_from_the_noise_to_the_chunk(name, fields, kind, jitted):
    sampler, field = registry.build("sampler", plugin("sampler", name, steps=6, **fields)), BentField(kind)
    x0 = jax.random.normal(jax.random.key(4), (5, 3, 2))
    noise = path_for(sampler, (5,))
    do = jax.jit if jitted else lambda f: f
    points = do(lambda x, e: sampler.trace(field, x, e))(x0, noise)
    assert points.shape == (7, 5, 3, 2)
    np.testing.assert_array_equal(points[0], x0)
    np.testing.assert_array_equal(points[-1], do(lambda x, e: sampler.integrate(field, x, e))(x0, noise))
    assert (np.abs(np.diff(points, axis=0)).max((1, 2, 3)) > 1e-3).all()


@pytest.mark.parametrize("name", NAMES)
def test_trace_is_differentiable(name):
    sampler, field = make(name, 3), BentField()
    x0, noise = jax.random.normal(jax.random.key(5), (3, 2)), path_for(sampler)
    of_trace = jax.grad(lambda x: sampler.trace(field, x, noise)[-1].sum())(x0)
    of_chunk = jax.grad(lambda x: sampler.integrate(field, x, noise).sum())(x0)
    np.testing.assert_allclose(of_trace, of_chunk, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_the_configured_one(name):
    sampler = make(name, 2)
    assert sampler.name == name
    assert dataclasses.replace(sampler, options=sampler.options.replace(name="")).name == name
    assert dataclasses.replace(sampler, options=sampler.options.replace(name="a.b:c")).name == "a.b:c"


@pytest.mark.parametrize("name", NAMES)
def test_no_steps_are_refused(name):
    with pytest.raises(ConfigError, match="sampler.steps"):
        make(name, 0)


@pytest.mark.parametrize("name", NAMES)
def test_samplers_are_hashable_static_arguments(name):
    assert hash(make(name, 2)) == hash(make(name, 2))
    assert make(name, 2) != make(name, 3)
