"""The steering actor against scipy, closed forms and the base that it starts from."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Batch, PolicySpec
from tests.toys.noise_policy import NoisePolicy

SPEC = PolicySpec(obs_dim=2, action_dim=2, chunk_len=2)
SIZE = 4
BASE_SAMPLES = 4096  # with which the actor measures the base


def build(modes=3, policy=None, **fields):
    cfg = plugin("actor", "steer", **{"hidden": (8,), **fields})
    return registry.build("actor", cfg, spec=SPEC, policy=policy or NoisePolicy(SPEC), num_modes=modes)


@functools.cache
def make(modes=3, policy=None):
    """(actor, reference variables, fresh parameters)."""
    actor = build(modes, policy)
    batch = Batch(jnp.zeros((2, 2)), jnp.zeros((2, 2, 2)), jnp.ones((2, 2)))

    @jax.jit
    def init(key):
        key_policy, key_actor = jax.random.split(key)
        reference = actor.policy.init(key_policy, batch)
        return reference, actor.init(key_actor, reference)

    return actor, *init(jax.random.key(0))


@functools.cache
def acting(modes=3, policy=None):
    """Compiled `act`."""
    return jax.jit(make(modes, policy)[0].act)


def moved(params, seed=0):
    """Parameters for which the mean can be written down: the network's last kernel stays 0, its bias not."""
    rng = np.random.default_rng(seed)
    last = params["network"]["params"]["Dense_1"]
    assert not np.any(last["kernel"])
    bias = jnp.asarray(rng.normal(size=SIZE), jnp.float32)
    network = {"params": {**params["network"]["params"], "Dense_1": {**last, "bias": bias}}}
    log_std = params["log_std"] + 0.2 * rng.standard_normal(params["log_std"].shape, np.float32)
    return {**params, "network": network, "log_std": log_std}


def expected_moments(params, obs, z):
    """Mean and standard deviation of w by the formulas of the module's docstring, in float64."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    angle = np.asarray(obs, np.float64) @ p["frequency"]
    psi = np.concatenate([np.sin(angle), np.cos(angle)], -1) / math.sqrt(angle.shape[-1])
    np.testing.assert_allclose(np.square(psi).sum(-1), 1.0, rtol=1e-6)
    mu = np.einsum("bf,bfw->bw", psi, p["mix"][z]) + p["network"]["params"]["Dense_1"]["bias"]
    return p["base_mean"] + p["base_std"] * mu, p["base_std"] * np.exp(p["log_std"][z])


def observations(rows, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.uniform(-1, 1, (rows, 2)), jnp.float32), jnp.asarray(rng.integers(0, 3, rows))


def test_log_ratio_is_exactly_zero_where_nothing_changed():
    actor, reference, params = make()
    params = moved(params)
    obs, z = observations(64)

    @jax.jit
    def both(key):
        _, info = actor.act(params, reference, key, obs, z)
        return actor.log_ratio(params, reference, obs, z, info), info["log_prob"]

    ratio, log_prob = both(jax.random.key(2))
    assert log_prob.std() > 0
    np.testing.assert_array_equal(ratio, np.zeros((64, 1)))


def test_log_prob_and_log_ratio_match_scipy():
    actor, reference, params = make()
    old, new = moved(params, 0), moved(params, 1)
    obs, z = observations(50)
    _, info = acting()(old, reference, jax.random.key(3), obs, z)

    def density(p):
        mean, std = expected_moments(p, obs, np.asarray(z))
        return stats.norm.logpdf(np.asarray(info["x0"], np.float64), mean, std).sum(-1)

    np.testing.assert_allclose(info["log_prob"], density(old), rtol=1e-4, atol=1e-4)
    found = jax.jit(actor.log_ratio)(new, reference, obs, z, info)
    np.testing.assert_allclose(found[:, 0], density(new) - density(old), rtol=1e-3, atol=1e-3)
    assert np.abs(np.asarray(found)).max() > 0.5


def test_entropy_matches_the_closed_form():
    actor, reference, params = make()
    params = moved(params)
    obs, z = observations(20)
    _, std = expected_moments(params, obs, np.asarray(z))
    expected = stats.norm.entropy(scale=std).sum(-1)
    np.testing.assert_allclose(jax.jit(actor.entropy)(params, reference, obs, z), expected, rtol=1e-5)


@pytest.mark.parametrize("prior", ["normal", pytest.param("mixture", marks=pytest.mark.slow)])
def test_mixture_over_modes_has_the_moments_of_the_base(prior):
    """At the start, over the draw of the mode, w has the base's mean and variance at any one observation.

    The mean over Z modes of C_z psi has variance (1 - s^2) / Z and its square 2 (1 - s^2)^2 / Z, in units of
    the base; on top come the base's own 4096 samples. Bounds are 5 standard errors.
    """
    modes, draws, std = 1000, 4, 0.3  # std: the default of init_std
    policy = NoisePolicy(SPEC, prior)
    actor, reference, params = make(modes, policy)
    obs = jnp.broadcast_to(jnp.array([0.3, -0.7]), (modes * draws, 2))
    z = jnp.arange(modes).repeat(draws)
    _, info = acting(modes, policy)(params, reference, jax.random.key(4), obs, z)
    sample = jax.jit(lambda key: policy.base_distribution(reference, jnp.zeros((50_000, 2))).sample(seed=key))
    base = np.asarray(sample(jax.random.key(5))).reshape(-1, SIZE)
    scaled = (np.asarray(info["x0"]) - base.mean(0)) / base.std(0)
    kurtosis = stats.kurtosis(base, axis=0, fisher=False).max()
    own = 1 / BASE_SAMPLES
    mean_error = math.sqrt((1 - std**2) / modes + std**2 / (modes * draws) + own)
    square_error = math.sqrt(2 / modes + (kurtosis - 1) * own)
    assert np.abs(scaled.mean(0)).max() < 5 * mean_error
    assert np.abs(scaled.var(0) - 1.0).max() < 5 * square_error
    # and the modes differ: most of that variance lies between them
    between = scaled.reshape(modes, draws, SIZE).mean(1).var(0)
    assert (between > 0.5).all()


def test_one_mode_is_the_base():
    """Mean and scale are measured on 4096 samples of N(0, 1): 5 standard errors are 5/64 and 5/90."""
    actor, reference, params = make(modes=1)
    obs, z = jnp.zeros((20_000, 2)), jnp.zeros((20_000,), jnp.int32)
    _, info = acting(1)(params, reference, jax.random.key(6), obs, z)
    x0 = np.asarray(info["x0"])
    np.testing.assert_array_equal(params["mix"], 0.0)
    assert np.abs(x0.mean(0)).max() < 5 / 64 + 5 / math.sqrt(20_000)
    assert np.abs(x0.std(0) - 1).max() < 5 / math.sqrt(2 * BASE_SAMPLES) + 5 / math.sqrt(40_000)
    assert np.abs(np.corrcoef(x0.T) - np.eye(SIZE)).max() < 5 / math.sqrt(20_000)


@pytest.mark.parametrize("steps", [0, 2])
def test_steers_the_initial_noise_and_leaves_the_rest_to_the_base(steps):
    """The noise path of a stochastic sampler stays N(0, I) and independent of x0 (5 sigma)."""
    rows = 4000
    policy = NoisePolicy(SPEC, path=steps)
    actor, reference, params = make(policy=policy)
    params = {**params, "base_mean": params["base_mean"] + 3.0}
    obs, z = jnp.zeros((rows, 2)), jnp.zeros((rows,), jnp.int32)

    @jax.jit
    def act(key):
        chunk, info = actor.act(params, reference, key, obs, z)
        return chunk, info, policy.seen.pop()

    chunk, info, w = act(jax.random.key(7))
    x0 = np.asarray(w["x0"] if steps else w)
    np.testing.assert_array_equal(x0.reshape(rows, SIZE), info["x0"])
    if not steps:
        np.testing.assert_array_equal(chunk, x0)
        return
    noise = np.asarray(w["path"])
    np.testing.assert_allclose(chunk, x0 + noise.sum(1), rtol=1e-5, atol=1e-5)
    noise, x0 = noise.reshape(rows, -1), x0.reshape(rows, SIZE)
    assert noise.shape == (rows, steps * SIZE)
    assert np.abs(noise.mean(0)).max() < 5 / math.sqrt(rows)
    assert np.abs(noise.var(0) - 1).max() < 5 * math.sqrt(2 / rows)
    cross = np.corrcoef(noise.T, x0.T)[: noise.shape[1], noise.shape[1] :]
    assert np.abs(cross).max() < 5 / math.sqrt(rows)


def test_surrogate_climbs_a_bandit_in_closed_form():
    """Reward x^2 of the first noise entry, w ~ N(m, s^2): dE/dm = 2m, dE/dlog s = 2s^2.

    The gradients of the surrogate at unchanged parameters estimate both (5 standard errors of the score
    function estimator).
    """
    rows = 20_000
    actor, reference, params = make(modes=1)
    params = moved(params)
    obs, z = jnp.zeros((rows, 2)), jnp.zeros((rows,), jnp.int32)
    _, info = acting(1)(params, reference, jax.random.key(8), obs, z)
    reward = jnp.square(info["x0"][:, 0])

    def objective(p):
        return (jnp.exp(actor.log_ratio(p, reference, obs, z, info)[:, 0]) * (reward - reward.mean())).mean()

    gradient = jax.jit(jax.grad(objective))(params)
    mean, std = (m[0, 0] for m in expected_moments(params, obs[:1], np.array([0])))
    x = np.asarray(info["x0"], np.float64)[:, 0]
    centred = np.asarray(reward - reward.mean(), np.float64)
    base_std = float(params["base_std"][0])  # the bias moves the mean in units of the base
    bias = gradient["network"]["params"]["Dense_1"]["bias"][0]
    per_sample = centred * (x - mean) / std**2 * base_std
    np.testing.assert_allclose(bias, per_sample.mean(), rtol=1e-3)
    assert abs(bias - 2 * mean * base_std) < 5 * per_sample.std() / math.sqrt(rows)
    per_sample = centred * (((x - mean) / std) ** 2 - 1)
    np.testing.assert_allclose(gradient["log_std"][0, 0], per_sample.mean(), rtol=1e-3)
    assert abs(gradient["log_std"][0, 0] - 2 * std**2) < 5 * per_sample.std() / math.sqrt(rows)


def test_the_reference_and_the_base_receive_no_gradient():
    actor, reference, params = make()
    obs, z = observations(50)
    _, info = acting()(params, reference, jax.random.key(9), obs, z)

    def objective(p):
        return actor.log_ratio(p, reference, obs, z, info).sum() + actor.entropy(p, reference, obs, z).sum()

    gradient = jax.jit(jax.grad(objective))(params)
    for name in ("base_mean", "base_std", "frequency"):
        np.testing.assert_array_equal(gradient[name], 0.0)
    assert np.abs(gradient["mix"]).max() > 0


def test_refuses_a_policy_without_noise():
    with pytest.raises(ConfigError, match="continuous noise of a chunk's shape") as info:
        build(policy=registry.build("policy", plugin("policy", "mse"), SPEC))
    assert info.value.field == "actor.name"
    assert info.value.value == "steer"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation", "tan"),
        ("fourier_octaves", -1),
        ("init_std", 0.0),
        ("init_std", 1.5),
        ("init_features", 0),
        ("init_frequency", -1.0),
        ("box", -1.0),
    ],
)
def test_refuses_what_cannot_work(field, value):
    with pytest.raises(ConfigError) as info:
        build(**{field: value})
    assert info.value.field == f"actor.{field}"
    assert info.value.value == value


def test_a_box_keeps_the_noise_inside_and_starts_near_the_base():
    """One mode: w = c tanh(w' / c) of the base's own draws w'; moments by quadrature, 5 standard errors."""
    rows, box = 20_000, 1.5
    actor = build(1, box=box)
    _, reference, params = make(modes=1)
    obs, z = jnp.zeros((rows, 2)), jnp.zeros((rows,), jnp.int32)
    action, log_prob = jax.jit(actor.sample)(params, reference, jax.random.key(14), obs, z)
    mean, std = (np.asarray(params[name], np.float64) for name in ("base_mean", "base_std"))
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights /= weights.sum()
    squashed = box * np.tanh((mean[:, None] + std[:, None] * nodes) / box)
    first, second = squashed @ weights, squashed**2 @ weights
    found = np.asarray(action, np.float64)
    assert np.abs(found).max() < box
    assert (np.abs(found.mean(0) - first) < 5 * found.std(0) / math.sqrt(rows)).all()
    assert (np.abs((found**2).mean(0) - second) < 5 * (found**2).std(0) / math.sqrt(rows)).all()
    # and its density by the change of variables, in float64 where the wall is not too near
    inner = (np.abs(found) < 0.99 * box).all(1)
    x = box * np.arctanh(found[inner] / box)
    expected = stats.norm.logpdf(x, mean, std).sum(1) - np.log(1 - (found[inner] / box) ** 2).sum(1)
    np.testing.assert_allclose(np.asarray(log_prob)[inner], expected, rtol=1e-3, atol=2e-3)


def test_refuses_to_steer_nothing():
    with pytest.raises(ConfigError, match="nothing to steer") as info:
        registry.build("actor", plugin("actor", "steer"), spec=SPEC, policy=None, num_modes=2)
    assert info.value.field == "actor.name"


def test_divergence_is_that_of_gaussians_by_quadrature():
    """KL(pi_W || base) number by number: the integral of p (log p - log base), against the closed form."""
    actor, reference, params = make()
    params = moved(params)
    obs, z = observations(5)
    found = jax.jit(actor.divergence)(params, reference, obs, z, {})
    mean, std = expected_moments(params, obs, np.asarray(z))
    base = [np.asarray(params[name], np.float64) for name in ("base_mean", "base_std")]

    def kl(m, s, m0, s0):
        def inside(x):
            return stats.norm.pdf(x, m, s) * (stats.norm.logpdf(x, m, s) - stats.norm.logpdf(x, m0, s0))

        return integrate.quad(inside, m - 12 * s, m + 12 * s)[0]

    expected = [sum(kl(*entry) for entry in zip(mean[i], std[i], *base, strict=True)) for i in range(5)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.min(expected) > 0.5


def test_the_frozen_ddim_chunk_is_a_function_of_the_noise():
    """The same w gives the same chunk whatever the key, another w another chunk; no gradient is needed for that."""
    sampler = registry.build("sampler", plugin("sampler", "ddim", steps=3))

    def prior(shape):
        return registry.build("prior", plugin("prior", "normal"), shape, spec=SPEC)

    cfg = plugin("policy", "diffusion", hidden=(8,))
    policy = registry.build("policy", cfg, SPEC, prior=prior, sampler=sampler)
    actor = build(policy=policy)
    batch = Batch(jnp.zeros((2, 2)), jnp.zeros((2, 2, 2)), jnp.ones((2, 2)))
    reference = jax.jit(policy.init)(jax.random.key(0), batch)
    obs, _ = observations(20)
    w = jnp.asarray(np.random.default_rng(5).standard_normal((20, SIZE)), jnp.float32)
    chunk = jax.jit(actor.chunk)
    first = chunk(reference, jax.random.key(1), obs, w)
    np.testing.assert_array_equal(first, chunk(reference, jax.random.key(2), obs, w))
    np.testing.assert_array_equal(first[::-1], chunk(reference, jax.random.key(3), obs[::-1], w[::-1]))
    assert np.abs(first - chunk(reference, jax.random.key(4), obs, w + 0.5)).max() > 0.05
    np.testing.assert_allclose(first, policy.transport(reference, obs, w.reshape(20, 2, 2)), atol=1e-6)
