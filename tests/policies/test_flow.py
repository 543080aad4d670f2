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

SPEC = PolicySpec(obs_dim=3, action_dim=2, chunk_len=4)


def make(spec=SPEC, prior="normal", sampler="euler", sampler_fields=None, **fields):
    built = registry.build(
        "prior", plugin("prior", prior), event_shape=spec.chunk_shape, obs_dim=spec.obs_dim
    )
    integrator = registry.build("sampler", plugin("sampler", sampler, **(sampler_fields or {})))
    fields = {"hidden": (16, 16), **fields}
    return registry.build("policy", plugin("policy", "flow", **fields), spec, prior=built, sampler=integrator)


def init(policy, seed=0):
    return jax.jit(lambda key: policy.init(key, None))(jax.random.key(seed))


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


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("policy.times", {"times": "unifrom"}),
        ("policy.beta", {"beta": (0.0, 1.0)}),
        ("policy.beta", {"beta": (1.0,)}),
        ("policy.logit_normal", {"logit_normal": (0.0, 0.0)}),
        ("policy.hidden", {"hidden": ()}),
        ("policy.activation", {"activation": "swish"}),
        ("policy.time_dim", {"time_dim": 3}),
        ("policy.fourier_octaves", {"fourier_octaves": -1}),
        ("sampler.name", {"prior": "mixture", "sampler": "ddpm"}),
        ("sampler.name", {"prior": "mixture", "sampler": "ddim", "sampler_fields": {"eta": 0.5}}),
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
    prior = registry.build("prior", plugin("prior", "normal"), event_shape=(1, 1), obs_dim=1)
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
