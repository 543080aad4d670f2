"""Exponentials of logarithms: values and gradients are finite at inputs that are extreme, but finite."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.actors._density import normal_log_prob, squashed_entropy
from mmbc_jax.ops import soft_policy as sac
from mmbc_jax.ops.capped import MOST, capped
from mmbc_jax.ops.divergences import gaussian_kl
from mmbc_jax.ops.mi_reward import information
from mmbc_jax.ops.policy_gradient import clipped_surrogate
from mmbc_jax.policies.bet import focal_loss
from mmbc_jax.policies.ibc import info_nce
from mmbc_jax.policies.mdn import balance_kl
from tests.toys.products import spared

FAR = (-1e6, -200.0, 0.0, 200.0, 1e6)


def test_values_below_the_cap_are_untouched_and_slopes_everywhere():
    x = jnp.array([-1e30, -3.0, MOST, 200.0, 1e30])
    np.testing.assert_array_equal(capped(x), np.float32([-1e30, -3.0, MOST, MOST, MOST]))
    np.testing.assert_array_equal(jax.vmap(jax.grad(capped))(x), np.ones(5))
    inside = jnp.linspace(-80.0, MOST, 1000)
    np.testing.assert_array_equal(jnp.exp(capped(inside)), jnp.exp(inside))


@pytest.mark.parametrize(
    ("advantage", "slope"),
    [
        (1.0, 0.0),  # good and far likelier already: held at 1.2
        (0.0, 0.0),
        (-1.0, float(np.exp(np.float32(MOST)))),  # bad and far likelier: pushed back as hard as it is counted
    ],
)
def test_surrogate_of_a_ratio_that_overflows(advantage, slope):
    def loss(x):
        return clipped_surrogate(x, jnp.array([advantage]), 0.2)[0].sum()

    np.testing.assert_allclose(jax.grad(loss)(jnp.array([[200.0]])), [[slope]], rtol=1e-6)
    found, clipped, kl = clipped_surrogate(jnp.array([[200.0]]), jnp.array([advantage]), 0.2)
    assert clipped == 1.0
    assert jnp.isfinite(found).all()
    assert 1e8 < kl < jnp.inf


LOSSES = {
    "surrogate": lambda x: clipped_surrogate(x[:, None], jnp.ones(5) * jnp.array([1, -1, 0, 1, -1.0]), 0.2)[
        0
    ],
    "kl of the surrogate": lambda x: clipped_surrogate(x[:, None], jnp.ones(5), 0.2)[2],
    "density, of sigma": lambda x: normal_log_prob(jnp.ones(5), jnp.zeros(5), x),
    "density, of the mean": lambda x: normal_log_prob(jnp.ones(5), x, jnp.zeros(5)),
    "squashed entropy, of sigma": lambda x: squashed_entropy(jnp.ones(5), x, 1.5),
    "squashed entropy, of the mean": lambda x: squashed_entropy(x, jnp.zeros(5), 1.5),
    "soft sample, of sigma": lambda x: sac.sample(jax.random.key(0), jnp.ones(5), x, 1.5)[1],
    "soft sample without box": lambda x: sac.sample(jax.random.key(0), jnp.ones(5), x)[1],
    "soft sample, of the mean": lambda x: sac.sample(jax.random.key(0), x, jnp.zeros(5), 1.5)[1],
    "soft density, of w": lambda x: sac.log_prob(x, jnp.zeros(5), jnp.zeros(5), 1.5),
    "soft density, of sigma": lambda x: sac.log_prob(jnp.ones(5), jnp.zeros(5), x, 1.5),
    "temperature": lambda x: sac.temperature_loss(x, jnp.full(5, 1e6), 3.0),
    "gaussian kl, of q": lambda x: gaussian_kl(jnp.ones(5), x, jnp.zeros(5), jnp.zeros(5)),
    "gaussian kl, of p": lambda x: gaussian_kl(jnp.ones(5), jnp.zeros(5), jnp.zeros(5), x),
    "information": lambda x: information(jax.nn.log_softmax(x), 5),
    "focal loss": lambda x: focal_loss(x, jnp.int32(1), 2.0),
    "focal loss at p = 1": lambda x: focal_loss(x, jnp.int32(4), 0.5),
    "info nce": info_nce,
    "load balance": lambda x: balance_kl(jax.nn.softmax(x)[None]),
}


@pytest.mark.parametrize("name", LOSSES)
@spared("load balance", "squashed entropy, of sigma", "soft sample, of sigma")
def test_gradients_of_what_is_extreme_but_finite(name):
    found, gradient = jax.value_and_grad(lambda x: LOSSES[name](x).sum())(jnp.array(FAR))
    assert jnp.isfinite(found)
    assert jnp.isfinite(gradient).all()


def test_the_norm_of_such_a_gradient_is_finite_too():
    """Else the optimiser would skip it: 10,000 parameters that all feel the full slope."""
    slope = jax.grad(lambda x: clipped_surrogate(x[:, None], -jnp.ones(10_000), 0.2)[0].sum())
    assert jnp.isfinite(jnp.linalg.norm(slope(jnp.full(10_000, 1e6))))
