from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from scipy.optimize import linear_sum_assignment

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Batch, PolicySpec
from mmbc_jax.policies._common import gaussian_answer
from mmbc_jax.policies.flow import pair_noise

from ._toys import zeros

SPEC = PolicySpec(obs_dim=3, action_dim=2, chunk_len=4)


def make(spec=SPEC, prior="normal", sampler="euler", sampler_fields=None, **fields):
    built = functools.partial(registry.build, "prior", plugin("prior", prior), spec=spec)
    integrator = registry.build("sampler", plugin("sampler", sampler, **(sampler_fields or {})))
    fields = {"hidden": (16, 16), **fields}
    return registry.build("policy", plugin("policy", "flow", **fields), spec, prior=built, sampler=integrator)


def init(policy, seed=0):
    return jax.jit(lambda key: policy.init(key, zeros(policy.spec)))(jax.random.key(seed))


def moved(policy, seed=0):
    v = init(policy, seed)
    return v.replace(params=jax.tree.map(lambda p: p + 0.05, v.params))


def test_loss_against_numpy_with_the_same_draws():
    policy = make()
    v = moved(policy)
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (5, 3)).astype(np.float32)
    x1 = rng.uniform(-1, 1, (5, 4, 2)).astype(np.float32)
    mask = np.ones((5, 4), np.float32)
    mask[0, 1:] = 0
    mask[3, 2:] = 0
    loss = jax.jit(lambda v, key: policy.loss(v, key, Batch(obs, x1, mask), {}))(v, jax.random.key(1))

    key_noise, key_time = jax.random.split(jax.random.key(1))
    x0 = np.asarray(policy.prior.distribution({}, jnp.asarray(obs)).sample(seed=key_noise))
    t = np.asarray(jax.random.uniform(key_time, (5,)))
    x = t[:, None, None] * x1 + (1 - t)[:, None, None] * x0
    velocity = np.asarray(policy.network.apply({"params": v.params}, x, t, obs))
    expected = []
    for b in range(5):
        rows = mask[b] == 1
        expected.append(np.mean((velocity[b][rows] - (x1 - x0)[b][rows]) ** 2))
    np.testing.assert_allclose(loss.per_example, expected, rtol=1e-5)
    np.testing.assert_allclose(loss.metrics["bc/flow_mse"], np.mean(expected), rtol=1e-5)
    assert loss.batch == 0


@pytest.mark.parametrize(
    ("times", "law"),
    [("uniform", stats.uniform()), ("beta", stats.beta(1.5, 1.0)), ("logit_normal", None)],
)
def test_density_of_training_times(times, law):
    # Kolmogorov-Smirnov: P(sqrt(n) D > 2.65) = 1.6e-6
    n = 4000
    t = np.asarray(jax.jit(lambda key: make(times=times).draw_times(key, (n,)))(jax.random.key(2)))
    assert t.min() >= 0
    assert t.max() <= 1
    if law is None:
        t, law = np.log(t / (1 - t)), stats.norm(0, 1)
    assert stats.kstest(t, law.cdf).statistic < 2.65 / np.sqrt(n)


def test_field_is_consistent():
    policy = make()
    v, obs, x = moved(policy), jnp.zeros((2, 3)), jnp.ones((2, 4, 2))
    field = policy.field(v, obs)
    t = jnp.array(0.3)
    (data, noise), (alpha, sigma) = field.denoise(x, t), field.path(t)
    np.testing.assert_allclose(alpha + sigma, 1.0)
    np.testing.assert_allclose(alpha * data + sigma * noise, x, rtol=1e-5)
    np.testing.assert_allclose(data - noise, field.velocity(x, t), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        field.velocity(x, t), policy.network.apply({"params": v.params}, x, t, obs), rtol=1e-5
    )


def test_untrained_transport_is_the_identity():
    policy = make()
    w = jax.random.normal(jax.random.key(0), (5, 4, 2))
    v = init(policy, 1)
    np.testing.assert_array_equal(policy.transport(v, jnp.zeros((5, 3)), w), w)


def test_stochastic_sampler_puts_its_path_into_the_base():
    policy = make(sampler="ddpm", sampler_fields={"steps": 3})
    v, obs = moved(policy), jnp.zeros((2, 5, 3))

    @jax.jit
    def draw(key):
        base = policy.base_distribution(v, obs)
        w = base.sample(seed=key)
        return w, base.log_prob(w), policy.transport(v, obs, w)

    w, log_prob, chunk = draw(jax.random.key(0))
    assert {k: x.shape for k, x in w.items()} == {"x0": (2, 5, 4, 2), "path": (2, 5, 3, 4, 2)}
    total = stats.norm.logpdf(w["x0"]).sum((-2, -1)) + stats.norm.logpdf(w["path"]).sum((-3, -2, -1))
    np.testing.assert_allclose(log_prob, total, rtol=1e-5)
    assert chunk.shape == (2, 5, 4, 2)
    transport = jax.jit(policy.transport)
    assert not np.allclose(transport(v, obs, {**w, "path": -w["path"]}), chunk)
    np.testing.assert_allclose(transport(v, obs, w), chunk, atol=1e-5)


def test_ot_coupling_pairs_as_scipy_does():
    rng = np.random.default_rng(3)
    x0 = jnp.asarray(rng.standard_normal((24, 4, 2)), jnp.float32)
    x1 = jnp.asarray(rng.uniform(-1, 1, (24, 4, 2)), jnp.float32)
    obs = jnp.asarray(rng.uniform(-1, 1, (24, 3)), jnp.float32)
    for weight in (0.0, 4.0):
        paired = np.asarray(jax.jit(pair_noise)(x0, x1, obs, weight))
        noise, data = (np.asarray(x).reshape(24, -1) for x in (x0, x1))
        cost = np.square(data[:, None] - noise).sum(-1)
        cost += weight * np.square(np.asarray(obs)[:, None] - np.asarray(obs)).sum(-1)
        # which noise each example got: every one once
        index = np.argmin(np.square(paired.reshape(24, 1, -1) - noise).sum(-1), -1)
        np.testing.assert_array_equal(np.sort(index), np.arange(24))
        best = cost[linear_sum_assignment(cost)].sum()
        assert best <= cost[np.arange(24), index].sum() * (1 + 1e-6) < 1.02 * best * (1 + 1e-6)


def test_a_large_weight_leaves_distinct_observations_their_noise():
    rng = np.random.default_rng(4)
    x0, x1 = (jnp.asarray(rng.standard_normal((16, 4, 2)), jnp.float32) for _ in range(2))
    obs = jnp.linspace(-1, 1, 16)[:, None]
    np.testing.assert_array_equal(pair_noise(x0, x1, obs, 1e4), x0)
    assert not np.array_equal(pair_noise(x0, x1, obs, 0.0), x0)


@pytest.mark.slow
def test_ot_loss_is_that_of_the_paired_noise():
    policy = make(coupling="ot")
    v, rng = moved(policy), np.random.default_rng(5)
    obs, x1 = rng.uniform(-1, 1, (8, 3)).astype(np.float32), rng.uniform(-1, 1, (8, 4, 2)).astype(np.float32)
    data, hp = Batch(jnp.asarray(obs), jnp.asarray(x1), jnp.ones((8, 4))), {"ot_obs_weight": jnp.asarray(1.0)}
    loss = jax.jit(lambda v, key: policy.loss(v, key, data, hp))(v, jax.random.key(1))
    key_noise, key_time = jax.random.split(jax.random.key(1))
    drawn = policy.prior.distribution({}, data.obs).sample(seed=key_noise)
    x0 = np.asarray(pair_noise(drawn, data.chunk, data.obs, 1.0))
    t = np.asarray(jax.random.uniform(key_time, (8,)))
    x = t[:, None, None] * x1 + (1 - t)[:, None, None] * x0
    velocity = np.asarray(policy.network.apply({"params": v.params}, x, t, obs))
    np.testing.assert_allclose(loss.per_example, np.square(velocity - (x1 - x0)).mean((1, 2)), rtol=1e-4)


def test_the_weight_removes_the_bias_of_the_unconditional_coupling():
    # The sign of the observation decides the sign of the chunk. Unconditional pairing hands the positive half
    # of the noise to the positive observation, whereas sampling draws from all of it; the weight hands
    # either observation all noise, of mean 0. 5 sigma of 128 draws each are .44
    sign = jnp.where(jnp.arange(256) % 2 == 0, -1.0, 1.0)
    x0 = jax.random.normal(jax.random.key(6), (256, 1, 1))
    means = {}
    for weight in (0.0, 100.0):
        paired = jax.jit(pair_noise)(x0, 0.8 * sign[:, None, None], sign[:, None], weight)
        means[weight] = float(paired.ravel()[sign > 0].mean())
    # E[z | z > 0] = sqrt(2 / pi) = .80
    assert abs(means[0.0] - np.sqrt(2 / np.pi)) < 0.44
    assert abs(means[100.0]) < 0.44


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("policy.times", {"times": "unifrom"}),
        ("policy.beta", {"beta": (0.0, 1.0)}),
        ("policy.beta", {"beta": (1.0,)}),
        ("policy.logit_normal", {"logit_normal": (0.0, 0.0)}),
        ("policy.coupling", {"coupling": "optimal"}),
        ("policy.ot_obs_weight", {"ot_obs_weight": -1.0}),
        ("policy.hidden", {"hidden": ()}),
        ("policy.activation", {"activation": "swish"}),
        ("policy.time_dim", {"time_dim": 3}),
        ("policy.fourier_octaves", {"fourier_octaves": -1}),
        ("prior.name = 'vamp'", {"prior": "vamp"}),
        ("prior.name = 'categorical'", {"prior": "categorical"}),
        ("sampler.name = 'ddpm'", {"prior": "mixture", "sampler": "ddpm"}),
        ("sampler.name = 'ddim'", {"prior": "mixture", "sampler": "ddim", "sampler_fields": {"eta": 0.5}}),
    ],
)
def test_impossible_values_are_refused(field, fields):
    with pytest.raises(ConfigError, match=field):
        make(**fields)


def test_deterministic_sampler_accepts_any_prior():
    assert make(prior="mixture", sampler="ddim").prior.gaussian is False


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_two_points_give_two_modes(name):
    spec, n = PolicySpec(1, 1, 1), 2000
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=spec)
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=50))
    policy = registry.build(
        "policy", plugin("policy", name, hidden=(64, 64)), spec, prior=prior, sampler=sampler
    )
    obs = jnp.zeros((256, 1))
    chunk = jnp.where(jnp.arange(256) < 64, -0.8, 0.8)[:, None, None]  # a quarter and three quarters
    data, steps = Batch(obs, chunk, jnp.ones((256, 1))), 2000
    start, optimiser = (
        policy.init(jax.random.key(0), data),
        optax.adam(optax.cosine_decay_schedule(3e-3, steps)),
    )

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(lambda p: policy.loss(start.replace(params=p), key, data, {}).total())(params)
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, update), state), None

    keys = jax.random.split(jax.random.key(1), steps)
    params = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), keys)[0][0])(start.params)
    v, many = start.replace(params=params), jnp.zeros((n, 1))
    w = policy.base_distribution(v, many).sample(seed=jax.random.key(2))
    x = np.asarray(jax.jit(policy.transport)(v, many, w)).ravel()
    near = np.minimum(abs(x - 0.8), abs(x + 0.8)) < 0.15
    assert near.mean() > 0.9
    # share of the small mode: 5 sigma of n draws plus .04 for what 2000 steps leave to learn
    assert abs((x < 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / n) + 0.04


@pytest.mark.parametrize(
    ("alpha", "sigma", "a", "b"), [(0.3, 0.7, 1.0, -1.0), (0.8, 0.6, 0.6, -0.8), (0.0, 1.0, 0.0, 1.0)]
)
def test_gaussian_answer_is_the_conditional_mean(alpha, sigma, a, b):
    # regress a x1 + b x0 on x over 400,000 samples: slope and intercept to 5 sigma, about 5 / sqrt(n) = .008
    rng = np.random.default_rng(0)
    x1, x0 = 0.5 + 0.2 * rng.standard_normal(400_000), rng.standard_normal(400_000)
    x, target = alpha * x1 + sigma * x0, a * x1 + b * x0
    slope, intercept = np.polyfit(x, target, 1)
    for point in (-1.0, 0.4):
        answer = gaussian_answer(jnp.asarray(point), 0.5, 0.2, alpha, sigma, a, b)
        assert float(answer) == pytest.approx(slope * point + intercept, abs=0.02)


@pytest.mark.parametrize("name", ["flow", "diffusion"])
def test_with_the_skip_gaussian_data_need_no_training(name):
    spec = PolicySpec(1, 1, 2)
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=spec)
    sampler = registry.build("sampler", plugin("sampler", "heun", steps=30))
    cfg = plugin("policy", name, hidden=(4,), skip=True)
    policy = registry.build("policy", cfg, spec, prior=prior, sampler=sampler)
    rng = np.random.default_rng(1)
    chunk = np.array([[0.3], [-0.2]]) + np.array([[0.1], [0.2]]) * rng.standard_normal((4000, 2, 1))
    data = Batch(jnp.zeros((4000, 1)), jnp.asarray(chunk, jnp.float32), jnp.ones((4000, 2)))
    v = jax.jit(policy.init)(jax.random.key(0), data)
    w = policy.base_distribution(v, data.obs).sample(seed=jax.random.key(1))
    drawn = np.asarray(jax.jit(policy.transport)(v, data.obs, w))
    # 5 sigma of mean and standard deviation of 4000 samples, and 3 % for 30 steps
    np.testing.assert_allclose(drawn.mean(0)[:, 0], [0.3, -0.2], atol=5 * 0.2 / np.sqrt(4000) + 0.01)
    np.testing.assert_allclose(drawn.std(0)[:, 0], [0.1, 0.2], rtol=5 / np.sqrt(8000) + 0.03)
