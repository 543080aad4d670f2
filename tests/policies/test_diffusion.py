from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Batch, PolicySpec
from mmbc_jax.policies.diffusion import PREDICTIONS, cosine_path, from_output, to_target
from tests.toys.products import spared

from ._toys import zeros

SPEC = PolicySpec(obs_dim=3, action_dim=2, chunk_len=4)


def make(sampler="ddim", steps=2, **fields):
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=SPEC)
    integrator = registry.build("sampler", plugin("sampler", sampler, steps=steps))
    cfg = plugin("policy", "diffusion", **{"hidden": (32, 32), **fields})
    return registry.build("policy", cfg, SPEC, prior=prior, sampler=integrator)


def moved(policy):
    v = jax.jit(lambda key: policy.init(key, zeros(policy.spec)))(jax.random.key(0))
    return v.replace(params=jax.tree.map(lambda p: p + 0.05, v.params))


def test_path_preserves_variance_and_ends_where_it_should():
    t = jnp.linspace(0, 1, 50)
    alpha, sigma = cosine_path(t, 0.02)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, atol=1e-6)
    assert (np.diff(alpha) > 0).all()
    np.testing.assert_allclose(alpha[0], 0.02, atol=1e-6)
    assert alpha[-1] == 1.0
    assert sigma[-1] == 0.0


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("t", [0.0, 0.3, 0.9])
def test_conversions_invert_each_other(prediction, t):
    rng = np.random.default_rng(0)
    x1, x0 = rng.uniform(-1, 1, (4, 2)), rng.standard_normal((4, 2))
    alpha, sigma = cosine_path(jnp.array(t), 0.02)
    target = to_target(prediction, x1, x0, alpha, sigma)
    data, noise = from_output(prediction, target, alpha * x1 + sigma * x0, alpha, sigma)
    np.testing.assert_allclose(data, x1, atol=1e-4)
    np.testing.assert_allclose(noise, x0, atol=1e-4)


@pytest.mark.parametrize(("prediction", "clip"), [("noise", 0.0), ("data", 0.0), ("v", 0.0), ("v", 0.5)])
@spared("noise-0.0")
def test_field_is_consistent(prediction, clip):
    policy = make(prediction=prediction, clip=clip)
    v = moved(policy)
    x = jax.random.normal(jax.random.key(1), (6, 4, 2))
    t = jnp.array(0.4)

    @jax.jit
    def evaluate(t):
        field = policy.field(v, jnp.zeros((6, 3)))
        return field.denoise(x, t), field.path(t), field.velocity(x, t), jax.jacfwd(field.path)(t)

    (data, noise), (alpha, sigma), velocity, (rate_alpha, rate_sigma) = evaluate(t)
    np.testing.assert_allclose(alpha * data + sigma * noise, x, atol=1e-5)
    if clip:
        assert np.abs(data).max() <= clip
    # dx/dt along x_t = alpha(t) data + sigma(t) noise, by autodiff of the path
    np.testing.assert_allclose(velocity, rate_alpha * data + rate_sigma * noise, atol=1e-5)


@pytest.mark.parametrize(("prediction", "train_steps"), [("noise", 5), ("data", 0), ("v", 5)])
@spared("v-5")
def test_loss_against_numpy_with_the_same_draws(prediction, train_steps):
    policy = make(prediction=prediction, train_steps=train_steps)
    v = moved(policy)
    rng = np.random.default_rng(1)
    obs = rng.uniform(-1, 1, (5, 3)).astype(np.float32)
    x1 = rng.uniform(-1, 1, (5, 4, 2)).astype(np.float32)
    mask = np.ones((5, 4), np.float32)
    mask[2, 1:] = 0
    loss = jax.jit(lambda v, key: policy.loss(v, key, Batch(obs, x1, mask), {}))(v, jax.random.key(2))

    key_noise, key_time = jax.random.split(jax.random.key(2))
    x0 = np.asarray(policy.prior.distribution({}, jnp.asarray(obs)).sample(seed=key_noise))
    if train_steps:
        t = np.asarray(jax.random.randint(key_time, (5,), 0, train_steps)) / np.float32(train_steps)
    else:
        t = np.asarray(jax.random.uniform(key_time, (5,)))
    angle = (1 - t) * np.arccos(0.02)
    alpha, sigma = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    output = np.asarray(policy.network.apply({"params": v.params}, alpha * x1 + sigma * x0, t, obs))
    target = {"noise": x0, "data": x1, "v": sigma * x1 - alpha * x0}[prediction]
    expected = [np.mean((output[b] - target[b])[mask[b] == 1] ** 2) for b in range(5)]
    np.testing.assert_allclose(loss.per_example, expected, rtol=2e-4)


def test_discrete_levels_are_the_documented_ones():
    t = make(train_steps=4).draw_times(jax.random.key(0), (1000,))
    np.testing.assert_array_equal(np.unique(t), [0.0, 0.25, 0.5, 0.75])
    continuous = make(train_steps=0).draw_times(jax.random.key(0), (1000,))
    assert len(np.unique(continuous)) > 900


@pytest.mark.parametrize(
    "prediction",
    ["v", pytest.param("data", marks=pytest.mark.slow), pytest.param("noise", marks=pytest.mark.slow)],
)
def test_two_step_ddim_samples_what_was_learned(prediction):
    # one target per sign of the first observation; twenty levels in training, two steps in sampling
    policy, steps = make(prediction=prediction, train_steps=20), 600
    key_obs, key_init, key_train, key_w = jax.random.split(jax.random.key(3), 4)
    obs = jax.random.uniform(key_obs, (128, 3), minval=-1, maxval=1)
    obs = obs.at[:, 0].set(jnp.sign(obs[:, 0]))
    chunk = 0.7 * obs[:, :1, None] * jnp.ones((128, 4, 2))
    data = Batch(obs, chunk, jnp.ones((128, 4)))
    start, optimiser = (
        jax.jit(policy.init)(key_init, data),
        optax.adam(optax.cosine_decay_schedule(5e-3, steps)),
    )

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(lambda p: policy.loss(start.replace(params=p), key, data, {}).total())(params)
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, update), state), None

    keys = jax.random.split(key_train, steps)
    params = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), keys)[0][0])(start.params)
    v = start.replace(params=params)
    w = policy.base_distribution(v, obs).sample(seed=key_w)
    result = jax.jit(policy.transport)(v, obs, w)
    assert (jnp.sign(result.mean((-2, -1))) == obs[:, 0]).all()
    # from the predicted noise the first step's data estimate is 1 / min_alpha = 50 times less accurate, and
    # only `clip` bounds it: the right target must come out, but not as precisely
    if prediction != "noise":
        assert np.sqrt(np.mean((result - chunk) ** 2)) < 0.15


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("policy.prediction", {"prediction": "velocity"}),
        ("policy.train_steps", {"train_steps": -1}),
        ("policy.clip", {"clip": -1.0}),
        ("policy.min_alpha", {"min_alpha": 0.9}),
        ("policy.min_alpha", {"min_alpha": 0.0, "prediction": "noise"}),
    ],
)
def test_impossible_values_are_refused(field, fields):
    with pytest.raises(ConfigError, match=field):
        make(**fields)
