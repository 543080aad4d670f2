from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Batch, PolicySpec
from mmbc_jax.policies._mixture_base import least_squares

SPEC = PolicySpec(obs_dim=3, action_dim=2, chunk_len=4)
SMALL = {"hidden": (16, 16), "base_hidden": (16,), "num_components": 6, "rank": 2, "embed_dim": 4}


def make(spec=SPEC, sampler="heun", **fields):
    integrator = registry.build("sampler", plugin("sampler", sampler, steps=4))
    cfg = plugin("policy", "mixture_flow", **{**SMALL, **fields})
    return registry.build("policy", cfg, spec, prior=None, sampler=integrator)


def batch(size=8, seed=0):
    rng = np.random.default_rng(seed)
    obs = rng.uniform(-1, 1, (size, 3)).astype(np.float32)
    chunk = rng.uniform(-0.5, 0.5, (size, 4, 2)).astype(np.float32)
    mask = np.ones((size, 4), np.float32)
    mask[0, 2:] = 0.0
    return Batch(jnp.asarray(obs), jnp.asarray(chunk), jnp.asarray(mask))


def moved(policy, data, seed=0):
    v = jax.jit(policy.init)(jax.random.key(seed), data)
    rng = np.random.default_rng(seed)
    return v.replace(
        params=jax.tree.map(lambda p: p + 0.1 * rng.standard_normal(p.shape, np.float32), v.params)
    )


def test_likelihood_agrees_with_scipy():
    policy, data = make(), batch()
    v = moved(policy, data)
    mixture = {k: np.asarray(x) for k, x in policy._mixture(v, data.obs).items()}
    y = np.asarray(data.chunk).reshape(8, -1) / np.asarray(v.stats["scale"])
    means = np.einsum("br,rcs->bcs", mixture["features"], mixture["bases"])
    weight = np.repeat(np.asarray(data.mask), 2, axis=1)
    each = stats.norm.logpdf(y[:, None], means, np.exp(mixture["log_std"]))
    expected = (each * weight[:, None]).sum(-1)
    found = policy._log_prob(policy._mixture(v, data.obs), jnp.asarray(y), data.mask)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_surplus_components_are_found_on_every_separated_mode():
    # 6 components, 3 modes 40 spreads apart: k-means++ misses one with probability below 1e-2
    modes = np.array([-0.8, 0.0, 0.8])
    rng = np.random.default_rng(1)
    chunk = modes[np.arange(300) % 3][:, None, None] + 0.005 * rng.standard_normal((300, 4, 2))
    data = Batch(jnp.zeros((300, 3)), jnp.asarray(chunk, jnp.float32), jnp.ones((300, 4)))
    v = jax.jit(make().init)(jax.random.key(0), data)
    ends = np.asarray(v.params["base"]["centres"])[:, -1] * np.asarray(v.stats["scale"])
    assert set(np.argmin(np.abs(ends[:, None] - modes), axis=1)) == {0, 1, 2}
    assert np.abs(ends[:, None] - modes).min(axis=1).max() < 0.03


def test_an_untrained_residual_flow_places_the_noise_at_its_component():
    policy, data = make(), batch()
    v = jax.jit(policy.init)(jax.random.key(0), data)
    x0 = jax.random.normal(jax.random.key(1), (4, 2))
    chunk = policy.transport(v, data.obs[0], {"component": jnp.array(3), "x0": x0})
    # Heun's steps of the velocity that moves N(0, I) onto itself multiply the noise by a factor near 1
    t, factor = np.linspace(0, 1, 5), 1.0
    rate = lambda s: (2 * s - 1) / (s**2 + (1 - s) ** 2)  # noqa: E731
    for i, c in enumerate((1, 1, 1, 0.5)):
        first = rate(t[i])
        second = rate(t[i] + c / 4) * (1 + c / 4 * first)
        factor *= 1 + ((1 - 0.5 / c) * first + 0.5 / c * second) / 4
    assert abs(factor - 1) < 0.05
    base = v.params["base"]
    y = base["centres"][3] + data.obs[0] @ base["linear"] + factor * jnp.exp(base["log_std"]) * x0.reshape(-1)
    y = np.asarray(y * v.stats["scale"]).reshape(4, 2)
    np.testing.assert_allclose(chunk, y, rtol=1e-4, atol=1e-5)


def test_transport_is_smooth_within_a_component_and_free_between():
    policy, data = make(), batch()
    v = moved(policy, data)
    base = policy.base_distribution(v, data.obs[0])
    w = base.sample(seed=jax.random.key(2))
    assert w["component"].dtype == jnp.int32
    slope = jax.jacobian(lambda x: policy.transport(v, data.obs[0], {**w, "x0": x}))(w["x0"])
    assert np.isfinite(slope).all()
    others = [policy.transport(v, data.obs[0], {**w, "component": jnp.array(k)}) for k in range(6)]
    assert np.unique(np.round(np.stack(others), 4), axis=0).shape[0] == 6


def test_temperature_scales_the_noise_alone():
    data = batch()
    v = moved(make(), data)
    draws = [
        make(temperature=t).base_distribution(v, data.obs).sample(seed=jax.random.key(5)) for t in (1.0, 0.5)
    ]
    np.testing.assert_array_equal(draws[0]["component"], draws[1]["component"])
    np.testing.assert_allclose(0.5 * draws[0]["x0"], draws[1]["x0"], rtol=1e-6)


def test_the_linear_map_is_theleast_squares_one_within_clusters():
    rng = np.random.default_rng(3)
    owner = np.arange(60) % 3
    obs, truth = rng.standard_normal((60, 2)), rng.standard_normal((2, 4))
    y = np.array([-50.0, 0.0, 50.0])[owner][:, None] + obs @ truth
    means = np.stack([y[owner == k].mean(0) for k in range(3)])
    centres, linear = least_squares(
        *(jnp.asarray(x, jnp.float32) for x in (obs, y, means)), jnp.asarray(owner)
    )
    np.testing.assert_allclose(linear, truth, atol=1e-3)
    np.testing.assert_allclose(centres[:, 0], [-50.0, 0.0, 50.0], atol=1e-2)


@pytest.mark.slow
def test_two_modes_are_learned_without_a_bridge():
    spec = PolicySpec(1, 1, 2)
    policy = make(spec, num_components=5)
    rng = np.random.default_rng(0)
    side = np.where(np.arange(512) % 2, 0.4, -0.4)[:, None, None]
    chunk = jnp.asarray(side + 0.01 * rng.standard_normal((512, 2, 1)), jnp.float32)
    data = Batch(jnp.zeros((512, 1)), chunk, jnp.ones((512, 2)))
    v = jax.jit(policy.init)(jax.random.key(0), data)
    optimiser = optax.adam(3e-3)

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(lambda p: policy.loss(v.replace(params=p), key, data, {}).total())(params)
        update, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, update), state), None

    keys = jax.random.split(jax.random.key(1), 300)
    start = (v.params, optimiser.init(v.params))
    (params, _), _ = jax.jit(lambda c, k: jax.lax.scan(step, c, k))(start, keys)
    v, obs = v.replace(params=params), jnp.zeros((1000, 1))
    w = policy.base_distribution(v, obs).sample(seed=jax.random.key(2))
    drawn = np.asarray(jax.jit(policy.transport)(v, obs, w))[..., 0]
    assert (np.abs(np.abs(drawn) - 0.4) < 0.08).all()
    assert abs((drawn[:, 0] > 0).mean() - 0.5) < 5 * np.sqrt(0.25 / 1000) + 0.02


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_components", 0),
        ("rank", -1),
        ("embed_dim", 0),
        ("base_weight", 0.0),
        ("temperature", 0.0),
        ("obs_noise", -1.0),
        ("base_hidden", (0,)),
    ],
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"policy.{field}"):
        make(**{field: value})


def test_a_stochastic_sampler_is_refused():
    with pytest.raises(ConfigError, match="config.sampler.name = 'ddpm'"):
        make(sampler="ddpm")
