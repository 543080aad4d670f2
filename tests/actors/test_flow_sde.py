"""The noisy flow against its own formulas in float64, and its SDE against the marginals of the flow."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.actors.flow_sde import factors
from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from tests.actors._chains import MEAN, STD, build, estimates, fresh, log_normal, moved, observations

LOW, HIGH = 0.08, 0.16  # the defaults of std_low and std_high


def drawn(actor, params, reference, obs, seed=1):
    return jax.jit(actor.act)(params, reference, jax.random.key(seed), obs, jnp.zeros(len(obs), jnp.int32))


def step_of(noise, params, obs, x, t, s, a=0.7):
    """(mean, std) of a step, as the module states it."""
    v, _, start = estimates(params, obs, x, t)
    if noise == "fixed":
        return x + (s - t) * v, HIGH
    g = a * math.sqrt((1 - t) / (t or s))
    return x + (s - t) * (v - 0.5 * g**2 * start / (1 - t)), g * math.sqrt(s - t)


@pytest.mark.parametrize("noise", ["fixed", "sde"])
@pytest.mark.parametrize("trained", [4, 2])
def test_likelihood_of_a_chain_by_the_formulas(noise, trained):
    actor, reference = build("flow_sde", chunk=(2, 2), noise=noise, trained=trained)
    obs = observations(50)
    params = moved(fresh(actor, reference))
    chunk, info = drawn(actor, params, reference, obs)
    points = np.asarray(info["points"], np.float64)
    assert points.shape == (50, trained + 1, 2, 2)
    np.testing.assert_array_equal(points[:, -1], np.asarray(chunk, np.float64))
    for i in range(trained):
        t = (i + 4 - trained) / 4
        mean, std = step_of(noise, params, obs, points[:, i], t, t + 0.25)
        expected = log_normal(points[:, i + 1], mean, std).sum((1, 2))
        np.testing.assert_allclose(info["log_prob"][:, i], expected, rtol=2e-4, atol=2e-3)
        scaled = (points[:, i + 1] - mean) / std
        assert abs(scaled.std() - 1) < 5 / math.sqrt(2 * scaled.size)


def marginals(a, steps):
    """[K + 1] (means, standard deviations) of the chain: its steps are affine, x' = A x + B + std e."""
    actor, reference = build("flow_sde", noise="sde", sde_scale=a, steps=steps, trained=steps)
    field = actor.tuned.policy.field(reference, jnp.zeros((2, 2)))
    x = jnp.array([0.0, 1.0]).reshape(2, 1, 1)

    def step(t, s):
        return actor.steps.transition.mean(field, x, t, s)[:, 0, 0], actor.steps.transition.std(
            {}, field, x, t, s
        )[1]

    times = jnp.linspace(0.0, 1.0, steps + 1)
    moments = jax.jit(jax.vmap(step))(times[:-1], times[1:])
    means, variances = [0.0], [1.0]
    for (b, ab), std in zip(*(np.asarray(m, np.float64) for m in moments), strict=True):
        means.append((ab - b) * means[-1] + b)
        variances.append((ab - b) ** 2 * variances[-1] + std**2)
    return np.array(means), np.sqrt(variances)


@pytest.mark.parametrize("a", [0.3, 0.7, 1.0])
def test_marginals_of_the_sde_are_those_of_the_flow(a):
    """x_t ~ N(t m, t^2 s^2 + (1 - t)^2) for every a, in the middle and at the end, as K grows.

    The means are exact at any K. Two errors are left to the deviation: of Euler's step, .6 / K here; and of the
    first step, whose noise stands for an infinite one: it has variance (1 - a^2 / 2)^2 + a^2 = 1 + a^4 / 4 in place
    of 1, of which the SDE forgets all but K^(-a^2).
    """
    for steps in (10, 40, 160, 640):
        means, stds = marginals(a, steps)
        for i in (steps // 2, steps):
            t = i / steps
            assert means[i] == pytest.approx(t * MEAN, abs=1e-5)
            left = 0.6 / steps + 0.25 * a**4 * i ** (-(a**2))
            assert abs(stds[i] - math.hypot(t * STD, 1 - t)) < left, (steps, t)


def test_learned_noise_stays_within_its_bounds_and_reaches_them():
    """Untrained the standard deviation is the geometric mean of both, sqrt(.08 x .16); then wherever it is driven."""
    actor, reference = build("flow_sde", chunk=(2, 2), noise="learned")
    obs = observations(30)
    own = fresh(actor, reference)["step"]

    @jax.jit
    def std(own, t):
        drawn, density = actor.steps.transition.std(own, None, obs, t, t + 0.25)
        return jnp.stack([drawn, density])

    np.testing.assert_allclose(std(own, jnp.asarray(0.5)), math.sqrt(LOW * HIGH), rtol=1e-5)
    for seed in range(3):
        wild = std(moved(own, seed, by=3.0), jnp.asarray(0.25))
        assert wild.shape == (2, 30, 2, 2)
        np.testing.assert_array_equal(wild[0], wild[1])
        assert LOW * (1 - 1e-5) <= wild.min() < wild.max() <= HIGH * (1 + 1e-5)
    last = own["params"]["Dense_2"]
    for way, bound in ((-1, LOW), (1, HIGH)):
        driven = {"params": {**own["params"], "Dense_2": {**last, "bias": last["bias"] + 20.0 * way}}}
        np.testing.assert_allclose(std(driven, jnp.asarray(0.0)), bound, rtol=1e-5)


def test_learned_noise_is_that_of_the_density():
    actor, reference = build("flow_sde", chunk=(2, 2), noise="learned")
    obs = observations(400)
    params = moved(fresh(actor, reference))
    info = drawn(actor, params, reference, obs)[1]
    points = np.asarray(info["points"], np.float64)
    for i in range(4):
        t = jnp.asarray(i / 4)
        std = np.asarray(actor.steps.transition.std(params["step"], None, obs, t, t + 0.25)[1], np.float64)
        mean = points[:, i] + 0.25 * estimates(params, obs, points[:, i], i / 4)[0]
        np.testing.assert_allclose(
            info["log_prob"][:, i], log_normal(points[:, i + 1], mean, std).sum((1, 2)), rtol=2e-4, atol=2e-3
        )
        scaled = (points[:, i + 1] - mean) / std
        assert abs(scaled.std() - 1) < 5 / math.sqrt(2 * scaled.size)


def test_published_ratios():
    """Two steps of 1 x 2 numbers, log densities 1, 2, 3, 6: ReinFlow's is 12 / ((2 + 1) 1 2) = 2, clamped to 1.

    Of a tenth of them it is .2. Flow-GRPO takes the mean of each step, 1.5 and 4.5; exact is the sum, 3 and 9.
    """
    each = jnp.array([[[[1.0, 2.0]], [[3.0, 6.0]]]])
    np.testing.assert_allclose(factors("reinflow")(each), [[1.0]])
    np.testing.assert_allclose(factors("reinflow")(-each), [[-1.0]])
    np.testing.assert_allclose(factors("reinflow")(0.1 * each), [[0.2]], rtol=1e-6)
    np.testing.assert_allclose(factors("flow_grpo")(each), [[1.5, 4.5]])
    np.testing.assert_allclose(factors("exact")(each), [[3.0, 9.0]])


@pytest.mark.parametrize(("semantics", "ratios"), [("exact", 4), ("reinflow", 1), ("flow_grpo", 4)])
def test_ratios_are_differences_of_those(semantics, ratios):
    actor, reference = build("flow_sde", chunk=(2, 2), noise="fixed", semantics=semantics)
    old, obs, z = fresh(actor, reference), observations(20), jnp.zeros(20, jnp.int32)
    info = drawn(actor, old, reference, obs)[1]
    new = moved(old)
    points = np.asarray(info["points"], np.float64)
    each = [
        np.stack(
            [
                log_normal(points[:, i + 1], *step_of("fixed", p, obs, points[:, i], i / 4, (i + 1) / 4))
                for i in range(4)
            ],
            1,
        )
        for p in (old, new)
    ]
    before, after = (np.asarray(factors(semantics)(jnp.asarray(e, jnp.float32))) for e in each)
    found = jax.jit(actor.log_ratio)(new, reference, obs, z, info)
    assert found.shape == (20, ratios)
    np.testing.assert_allclose(found, after - before, rtol=2e-3, atol=2e-3)
    assert np.abs(found).max() > 0.05


@pytest.mark.parametrize("noise", ["learned", "fixed", "sde"])
def test_played_it_is_eulers_method(noise):
    actor, reference = build("flow_sde", chunk=(2, 2), noise=noise)
    obs, z, key = observations(200), jnp.zeros(200, jnp.int32), jax.random.key(4)
    params = fresh(actor, reference)
    played = jax.jit(actor.play)(params, reference, key, obs, z)
    key_start = jax.random.split(jax.random.clone(key))[0]
    w, _ = actor.tuned.start.draw(params, reference, key_start, obs, z)
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=4))
    expected = sampler.integrate(actor.tuned.policy.field(reference, obs), w, None)
    np.testing.assert_allclose(played, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"trained": 5}, "trained"), ({"std_low": 0.2}, "std_low"), ({"noise": "x"}, "noise")],
)
def test_refuses_what_cannot_work(fields, field):
    with pytest.raises(ConfigError) as info:
        build("flow_sde", **fields)
    assert info.value.field == f"actor.{field}"
