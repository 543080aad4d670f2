"""What PPO's actor pays besides the surrogate, for an actor that makes each term a number that is known."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.learners._ppo_update import Update
from tests.learners import _probed

ROWS = 6
VALID = jnp.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])


class Priced:
    """The ratio is 1; entropy is a, divergence (a - 1)^2 and imitation a obs."""

    def log_ratio(self, params, reference, obs, z, info):
        return jnp.zeros((ROWS, 1))

    def entropy(self, params, reference, obs, z):
        return jnp.full(ROWS, params)

    def divergence(self, params, reference, obs, z, info):
        return jnp.full(ROWS, jnp.square(params - 1.0))

    def imitation(self, params, reference, key, obs, z):
        return params * obs * jax.random.normal(key, ())


@pytest.mark.parametrize("imitates", [False, True])
@pytest.mark.parametrize("anchored", [False, True])
def test_every_term_has_its_weight(anchored, imitates):
    """At a = 3: -.01 x 3, and .5 x 4, and .25 x 3 x mean(0, 1, 3, 4) x eps, over the decisions that count."""
    update = Update(1, 1, Priced(), None, None, anchored, imitates)
    obs = jnp.arange(float(ROWS))
    batch = {"obs": obs, "z": jnp.zeros(ROWS), "info": {}, "advantage": jnp.zeros(ROWS), "valid": VALID}
    weights = {"clip": 0.2, "entropy_coef": 0.01, "reference_coef": 0.5, "imitation_coef": 0.25}
    state = SimpleNamespace(
        stats={"reference": None},
        hparams={f"learner.{name}": jnp.asarray(value) for name, value in weights.items()},
    )
    key = jax.random.key(3)
    total, metrics = update._actor_loss(jnp.asarray(3.0), batch, state, key)
    eps = float(jax.random.normal(jax.random.clone(key), ()))
    expected = -0.03 + (2.0 if anchored else 0.0) + (0.25 * 3.0 * 2.0 * eps if imitates else 0.0)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert ("ppo/imitation" in metrics) is imitates
    assert ("ppo/reference_kl" in metrics) is anchored


def test_an_actor_that_trains_nothing_of_the_reference_cannot_imitate():
    learner = plugin("learner", "ppo", num_envs=4, decisions=2, minibatches=1, imitates=True)
    with pytest.raises(ConfigError) as info:
        _probed.build(learner, plugin("actor", "steer", hidden=(4,)), None)
    assert info.value.field == "learner.imitates"
