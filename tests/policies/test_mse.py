from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.types import Batch, PolicySpec
from mmbc_jax.policies._common import masked_mse

from ._toys import zeros

SPEC = PolicySpec(obs_dim=2, action_dim=1, chunk_len=3)


def make(**fields):
    return registry.build("policy", plugin("policy", "mse", **{"hidden": (16,), **fields}), SPEC)


def test_masked_mse_golden():
    prediction = jnp.array([[[1.0, 0.0], [5.0, 5.0]], [[2.0, 2.0], [0.0, 1.0]], [[9.0, 9.0], [9.0, 9.0]]])
    mask = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    # (1 + 0) / (1*2) = .5;  (4 + 4 + 0 + 1) / (2*2) = 2.25;  nothing recorded: 0
    np.testing.assert_allclose(masked_mse(prediction, jnp.zeros((3, 2, 2)), mask), [0.5, 2.25, 0.0])


def test_base_is_empty():
    policy, obs = make(), jnp.zeros((4, 5, 2))
    v = policy.init(jax.random.key(0), zeros(policy.spec))
    base = policy.base_distribution(v, obs)
    w = base.sample(seed=jax.random.key(1))
    assert w.shape == (4, 5, 0)
    np.testing.assert_array_equal(base.log_prob(w), np.zeros((4, 5)))
    assert policy.transport(v, obs, w).shape == (4, 5, 3, 1)


def test_regression_goes_down_the_middle_of_two_modes():
    policy, obs = make(), jnp.zeros((8, 2))
    chunk = jnp.where(jnp.arange(8) < 2, -0.8, 0.4)[:, None, None] * jnp.ones((8, 3, 1))
    data, optimiser = Batch(obs, chunk, jnp.ones((8, 3))), optax.adam(1e-2)
    start = jax.jit(policy.init)(jax.random.key(0), data)

    def step(carry, _):
        params, state = carry
        gradient = jax.grad(
            lambda p: policy.loss(start.replace(params=p), jax.random.key(0), data, {}).total()
        )(params)
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, update), state), None

    train = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), None, length=500)[0][0])
    v = start.replace(params=train(start.params))
    # mean of two at -.8 and six at .4: (-1.6 + 2.4) / 8 = .1
    np.testing.assert_allclose(policy.transport(v, obs[0], jnp.zeros(0)), np.full((3, 1), 0.1), atol=1e-3)


def test_fourier_features_reach_the_network():
    for octaves in (0, 3):
        v = make(fourier_octaves=octaves).init(jax.random.key(0), zeros(SPEC))
        assert v.params["from_obs"]["kernel"].shape == (2 * (1 + 2 * octaves), 16)


@pytest.mark.parametrize(
    ("field", "value"), [("hidden", (0,)), ("activation", "gelo"), ("fourier_octaves", 99)]
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"policy.{field}"):
        make(**{field: value})
