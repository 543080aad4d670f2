"""The evaluator against episodes whose end is known: three starts, one that walks right until it leaves."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.learning import Subject
from mmbc_jax.core.types import EnvSpec, State, Variables
from mmbc_jax.envs import wrappers
from mmbc_jax.evaluation.evaluator import Evaluator, act_with_actor, act_with_policy
from mmbc_jax.evaluation.playing import Playing
from mmbc_jax.ops.normalisation import Normalizer

LENGTH = 10


class Walk:
    """One number that actions add to. Ends at |x| >= 1 and pays 1 a step; the mode is the side."""

    spec = EnvSpec("walk", 2, 1, LENGTH, 2, (-1.0,), (1.0,), position=(0, 1))

    def default_params(self):
        return {}

    def reset(self, key, params=None):
        noise = jax.random.uniform(key)
        return State(
            jnp.zeros(()), jnp.stack([jnp.zeros(()), noise]), jnp.zeros(()), jnp.zeros(()),
            {"success": jnp.zeros(())}, {"mode": jnp.array(-1, jnp.int32), "params": {}},
        )  # fmt: skip

    def step(self, state, action):
        x = state.data + 0.25 * action[0]
        done = (jnp.abs(x) >= 1.0).astype(jnp.float32)
        mode = jnp.where(done > 0, (x > 0).astype(jnp.int32), -1)
        return state.replace(
            data=x, obs=jnp.stack([x, state.obs[1]]), reward=jnp.ones(()), done=done,
            metrics={"success": done}, info=state.info | {"mode": mode},
        )  # fmt: skip


class Side:
    """q(z | path) from the last position alone: log q = z x, not normalised."""

    num_modes = 3

    @property
    def discriminator(self):
        return self

    def init_memory(self, obs):
        return obs

    def remember(self, memory, obs):
        return obs

    def features(self, memory):
        return memory

    def log_prob(self, params, key, features):
        return features[..., :1] * jnp.arange(3.0)


SPEEDS = jnp.array([1.0, 0.5, 0.0])  # z=0 ends after 4 steps, z=1 after 8, z=2 never


def steer(subject, key, obs, z):
    """Chunks of 3 actions of size SPEEDS[z]; to the right where the noise in obs is above 0.5."""
    sign = jnp.where(obs[:, 1] > 0.5, 1.0, -1.0)
    return jnp.broadcast_to((sign * SPEEDS[z])[:, None, None], (obs.shape[0], 3, 1))


def subject(seed=0):
    normalizer = Normalizer(-jnp.ones(2), jnp.ones(2), -jnp.ones(1), jnp.ones(1))
    return Subject(jax.random.key(seed), Variables({}), normalizer, {}, {})


def evaluator(**changes):
    base = Evaluator(
        env=wrappers.make(Walk(), exec_len=3, gamma=1.0, autoreset=None, path=True),
        act=steer,
        reward=Side(),
        num_modes=3,
        episodes=8,
        paths=5,
        exec_len=3,
        length=LENGTH,
    )
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def rollouts():
    return jax.device_get(jax.jit(lambda s: evaluator().run(s, None))(subject()))


def test_every_z_gets_its_share(rollouts):
    assert rollouts.z.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_steps_success_mode_and_reward(rollouts):
    steps = np.array([4, 8, 10])[rollouts.z]
    np.testing.assert_array_equal(rollouts.steps, steps)
    np.testing.assert_array_equal(rollouts.success, rollouts.z < 2)
    np.testing.assert_array_equal(rollouts.reward, steps)  # 1 a step, none once it is over
    right = rollouts.path[:, 0, 1] > 0.5
    np.testing.assert_array_equal(rollouts.mode[:5], np.where(rollouts.z[:5] < 2, right, -1))


def test_nothing_moves_after_the_end(rollouts):
    """4 decisions of 3 steps give 13 positions; the mask covers the start and every step taken."""
    assert rollouts.path.shape == (5, 13, 2)
    np.testing.assert_array_equal(rollouts.path_mask.sum(1), rollouts.steps[:5] + 1)
    for i in range(5):
        speed = 0.25 * float(SPEEDS[rollouts.z[i]])
        walked = speed * np.minimum(np.arange(13), rollouts.steps[i])
        np.testing.assert_allclose(np.abs(rollouts.path[i, :, 0]), walked, atol=1e-6)


def test_log_q_is_that_of_the_whole_path(rollouts):
    """z=1 walks 1/8 a step: after its 3 decisions |x| = 3/8, 6/8 and 1, where log q = x ends.

    z=0 has log q = 0, and z=2 does not move.
    """
    one = rollouts.z == 1
    np.testing.assert_allclose(np.abs(rollouts.log_q[one]), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(rollouts.log_q[~one], 0.0)


def test_a_command_replaces_the_spread():
    found = evaluator(playing=Playing(command=1), episodes=3, paths=3).run(subject(), None)
    assert found.z.tolist() == [1, 1, 1]
    assert found.steps.tolist() == [8, 8, 8]


def test_without_q_there_is_no_log_q():
    found = evaluator(reward=None, num_modes=1, episodes=3, paths=3).run(subject(), None)
    assert np.isnan(found.log_q).all()
    assert found.z.tolist() == [0, 0, 0]


def test_runs_together_are_the_runs_alone():
    """The same numbers; equal to rounding, as a batch may be summed in another order."""
    run = evaluator().run
    keys = jax.random.split(jax.random.key(9), 3)
    with jax.debug_key_reuse(False):  # takes the keys of a vmapped scan for used ones
        together = jax.jit(jax.vmap(lambda key: run(subject().replace(key=key), None)))(keys)
    for i in range(3):
        alone = jax.jit(lambda s: run(s, None))(subject().replace(key=jax.random.clone(keys[i])))
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a, b[i], rtol=1e-6), alone, together)


def test_the_key_decides():
    run = jax.jit(lambda s: evaluator().run(s, None))
    first, again, other = run(subject(1)), run(subject(1)), run(subject(2))
    np.testing.assert_array_equal(first.path, again.path)
    assert not np.array_equal(first.path, other.path)


def test_who_acts():
    """The policy draws w from its base and transports it; the actor is asked with z."""

    class Policy:
        def base_distribution(self, variables, obs):
            class Base:
                def sample(self, seed):
                    return jax.random.normal(seed, (obs.shape[0], 3, 1))

            return Base()

        def transport(self, variables, obs, w):
            return w + variables.params["shift"]

    class Actor:
        def act(self, params, reference, key, obs, z):
            return params["gain"] * z[:, None, None] + jnp.zeros((obs.shape[0], 3, 1)), {"info": z}

    one = subject().replace(reference=Variables({"shift": 2.0}), actor={"gain": 3.0})
    obs, z = jnp.zeros((4, 2)), jnp.arange(4)
    drawn = jax.random.normal(jax.random.key(7), (4, 3, 1))
    np.testing.assert_allclose(act_with_policy(Policy())(one, jax.random.key(7), obs, z), drawn + 2.0)
    chunk = act_with_actor(Actor())(one, jax.random.key(7), obs, z)
    np.testing.assert_allclose(chunk[:, 0, 0], [0.0, 3.0, 6.0, 9.0])


def test_chunks_of_a_policy_with_another_scale_reach_the_environment_in_its_own(rollouts):
    """-1 and 1 of the policy are a quarter of the box: four times as much is the same action."""
    quarter = jnp.full(1, 0.25)
    scaled = subject().replace(
        normalizer=subject().normalizer._replace(
            action_low=-quarter, action_high=quarter, box=(-jnp.ones(1), jnp.ones(1))
        )
    )
    four = evaluator(act=lambda *given: 4.0 * steer(*given))
    found = jax.device_get(jax.jit(lambda s: four.run(s, None))(scaled))
    jax.tree.map(np.testing.assert_array_equal, found, rollouts)
