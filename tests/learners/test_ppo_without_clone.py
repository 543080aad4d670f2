"""PPO of a Gaussian actor from nothing, on probes in units that only a learned normaliser makes fit.

Chunks hold two actions, both executed, with a probability ratio each (R = 2).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.config import plugin
from tests.learners import _probed
from tests.learners._probed import GAMMA
from tests.toys.probes import LENGTH, NEVER, Remote, probe

# Other probes and `test_start.py` ask the same of this learner; every `make test` runs without a clone once.
pytestmark = pytest.mark.slow

ITERATIONS = 150
PROBES = {
    "endless": probe(constant=1.0, steps=NEVER),
    "observed": probe(observed=1.0, steps=2.0),
    "aimed": probe(aimed=1.0, target=0.5, steps=NEVER),
    "sloped": probe(aimed=1.0, slope=0.5, steps=NEVER),
}
NAMES = list(PROBES)
LEARNER = _probed.build(
    plugin(
        "learner",
        "ppo",
        **{"num_envs": 64, "decisions": 4, "epochs": 4, "minibatches": 2, "gamma": GAMMA},
        **{"critic_hidden": (32,), "critic_octaves": 0},
    ),
    plugin("actor", "gaussian", hidden=(16,), ratio="step"),
    plugin("discriminator", "categorical", input="state", hidden=(4,)),
    env=Remote(),
    chunk=2,
    modes=1,
)


@pytest.fixture(autouse=True, scope="module")
def _without_key_checks():
    """JAX takes a scan over keys under vmap for a reuse; test_start.py checks single runs instead."""
    with jax.debug_key_reuse(False):
        yield


@pytest.fixture(scope="module")
def learned():
    """[R] the state of every probe after training."""
    quick = {"learning_rate": 5e-3, "critic_learning_rate": 1e-2, "target_kl": 1e9}
    hp = _probed.hparams("ppo", len(NAMES), {"iterations": ITERATIONS}, **quick)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *PROBES.values())

    def run(hp, probe):
        state = _probed.start(LEARNER, hp, probe, jax.random.key(0), None)
        return jax.lax.scan(lambda s, _: (LEARNER.train_step(s, ())[0], None), state, None, ITERATIONS)[0]

    return jax.jit(jax.vmap(run))(hp, stacked)


def actions(state, name, x):
    """[2] mean of both actions, clipped as played, over 500 chunks at the start of an episode."""
    run = jax.tree.map(lambda leaf: leaf[NAMES.index(name)], state)
    raw = jnp.broadcast_to(500.0 + 1000.0 * jnp.array([x, 0.0, 0.0]), (500, 3))
    obs = run.stats["normalizer"].normalize_obs(raw)
    chunk, info = LEARNER.actor.act(
        run.params["actor"], None, jax.random.key(9), obs, jnp.zeros(500, jnp.int32)
    )
    assert info["log_prob"].shape == (500, 2)
    return np.asarray(jnp.clip(chunk, -1, 1).mean((0, 2)))


@pytest.mark.parametrize("x", [-1.0, 1.0])
def test_both_actions_move_to_where_the_reward_is(learned, x):
    np.testing.assert_allclose(actions(learned, "aimed", x), 0.5, atol=0.15)
    np.testing.assert_allclose(actions(learned, "sloped", x), 0.5 * x, atol=0.15)


@pytest.mark.parametrize("x", [-1.0, 1.0])
def test_values_see_observations_in_their_units(learned, x):
    """Two steps of reward x: x (1 + gamma) in the one decision; reward 1 in all four: 1 + 1/2 + 1/4 + 1/8 = 1.875."""
    for name, expected in (("observed", x * (1 + GAMMA)), ("endless", 1.875)):
        run = jax.tree.map(lambda leaf, n=name: leaf[NAMES.index(n)], learned)
        obs = run.stats["normalizer"].normalize_obs(500.0 + 1000.0 * jnp.array([[x, 0.0, 0.0]]))
        value = LEARNER.critic.apply(run.params["critic"], obs, jnp.zeros(1, jnp.int32), jnp.zeros(1))
        np.testing.assert_allclose(value, expected, atol=0.15)


def test_the_scale_is_that_of_the_visits(learned):
    """x = -+1 in units of 1000 about 500: mean near 500, spread near 1000 (within 5 / sqrt(visits / 2))."""
    moments = learned.stats["moments"]["state"]
    visits = 64 * (16 + 4 * ITERATIONS)
    np.testing.assert_allclose(moments.rows, visits)
    error = 5 / np.sqrt(visits / (LENGTH / 2))  # x is drawn once per episode of 2 decisions
    np.testing.assert_allclose(np.asarray(moments.mean)[:, 0], 500.0, atol=1000 * error)
    np.testing.assert_allclose(np.sqrt(moments.variance)[:, 0], 1000.0, rtol=error)
