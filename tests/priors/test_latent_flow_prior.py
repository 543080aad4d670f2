from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.priors.latent_flow_prior import euler, flow_log_prob, velocity_and_divergence

MATRIX = jnp.array([[0.4, -0.8], [0.5, 0.1]])


def make(event_shape=(2,), **fields):
    cfg = plugin("prior", "latent_flow", **{"hidden": (32, 32), "fourier_octaves": 0, **fields})
    return registry.build("prior", cfg, event_shape, spec=PolicySpec(1, 2, 4))


def test_starts_at_the_standard_normal():
    prior = make((3, 2))
    x = np.random.default_rng(0).standard_normal((5, 3, 2)).astype(np.float32)
    base = prior.distribution(prior.init(jax.random.key(0)), jnp.ones((5, 1)))
    np.testing.assert_allclose(base.log_prob(x), stats.norm.logpdf(x).sum((1, 2)), rtol=1e-5)


def test_euler_golden():
    # two steps of dz/dt = z + t from 1: 1 + (1 + 0)/2 = 1.5, 1.5 + (1.5 + .5)/2 = 2.5
    np.testing.assert_allclose(euler(lambda z, t: z + t, jnp.ones((1,)), 2), [2.5])


def test_divergence_is_the_trace_of_the_jacobian():
    def field(z, t):
        return jnp.stack([z[..., 0] ** 2 * z[..., 1], t * jnp.sin(z[..., 1])], -1)

    z, t = jnp.array([[0.5, -1.0], [2.0, 0.3]]), jnp.asarray(0.7)
    v, divergence = velocity_and_divergence(field, z, t)
    # d/dx (x^2 y) + d/dy (t sin y) = 2 x y + t cos y
    np.testing.assert_allclose(v, field(z, t))
    np.testing.assert_allclose(divergence, 2 * z[:, 0] * z[:, 1] + 0.7 * np.cos(z[:, 1]), rtol=1e-5)


def test_more_entries_than_are_traced_at_once():
    z = jnp.linspace(-1, 1, 3 * 70).reshape(3, 70)
    _, divergence = velocity_and_divergence(lambda x, t: x**3, z, jnp.zeros(()))
    np.testing.assert_allclose(divergence, 3 * np.square(z).sum(-1), rtol=1e-5)


def test_linear_flow_has_the_closed_form_density():
    # dz/dt = A z + b moves N(0, I) to N(m, F F') with F = exp(A), m = int_0^1 exp(A s) ds b = A^-1 (F - I) b
    shift = jnp.array([0.7, -0.2])
    flow = np.asarray(jax.scipy.linalg.expm(MATRIX), np.float64)
    mean = np.linalg.solve(np.asarray(MATRIX, np.float64), (flow - np.eye(2)) @ np.asarray(shift))
    z = np.random.default_rng(1).standard_normal((20, 2)).astype(np.float32)
    expected = stats.multivariate_normal(mean, flow @ flow.T).logpdf(z)
    log_prob = jax.jit(functools.partial(flow_log_prob, lambda x, t: x @ MATRIX.T + shift, steps=10))(z)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4, atol=1e-4)


def test_density_converges_with_order_four():
    # dz/dt = t cos(z) z has no closed form here; a fine solution stands in for it. In float64, where the
    # errors of both step counts are far above rounding, halving the step divides the error by 16
    with jax.enable_x64(True):
        field = lambda z, t: t * jnp.cos(3.0 * z) * z  # noqa: E731
        z = jnp.asarray([[0.9], [-1.4]], jnp.float64)
        exact, *coarse = (np.asarray(flow_log_prob(field, z, steps)) for steps in (256, 8, 16))
    ratio = np.abs(coarse[0] - exact) / np.abs(coarse[1] - exact)
    assert (ratio > 10).all()
    assert (ratio < 26).all()


def test_loss_is_the_error_of_the_velocity():
    # an untrained velocity is 0, so the loss is |z - eps|^2 / n, of mean |z|^2 / n + 1 and, for n = 2 entries,
    # variance (2 + 4 |z|^2 / n) / n; its mean over N has that over N
    prior, z, count = make(), jnp.array([1.0, -2.0]), 2_000
    obs = jnp.zeros((count, 1))
    params = prior.init(jax.random.key(0))
    target = jnp.broadcast_to(z, (count, 2))
    loss = jax.jit(lambda key: prior.loss(params, key, obs, target))(jax.random.key(1))
    assert loss.shape == (count,)
    assert abs(loss.mean() - 3.5) < 5 * np.sqrt((2 + 4 * 2.5) / 2 / count)


@pytest.mark.slow
def test_learns_two_clusters():
    prior, n = make((1,), steps=20), 256
    key_sign, key_noise, key_train, key_draw = jax.random.split(jax.random.key(3), 4)
    sign = jnp.where(jax.random.bernoulli(key_sign, 0.5, (n, 1)), 1.0, -1.0)
    z, obs = sign + 0.2 * jax.random.normal(key_noise, (n, 1)), jnp.zeros((n, 1))
    optimiser = optax.adam(optax.cosine_decay_schedule(1e-2, 600))

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(lambda p: prior.loss(p, key, obs, z).mean())(params)
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, update), state), None

    start = jax.jit(prior.init)(jax.random.key(0))
    train = jax.jit(
        lambda p, keys: jax.lax.scan(step, (p, optimiser.init(p)), keys)[0][0],
    )
    params = train(start, jax.random.split(key_train, 600))
    draw = jax.jit(lambda p: prior.distribution(p, jnp.zeros((2000, 1))).sample(seed=key_draw))(params)
    assert np.mean(np.abs(np.abs(draw) - 1.0) < 0.6) > 0.9
    assert 0.35 < np.mean(draw > 0) < 0.65


@pytest.mark.parametrize(
    ("field", "value"), [("steps", 0), ("times", (1.0,)), ("times", (0.0, 1.0)), ("hidden", ())]
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"prior.{field}"):
        make(**{field: value})
