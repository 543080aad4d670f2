"""Trained policies in environments that are not ours: returns against a loop by hand, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.errors import UserError
from mmbc_jax.core.learning import Subject
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.evaluation.gymnasium_host import HostPlayer, made
from mmbc_jax.ops.normalisation import Normalizer

gymnasium = pytest.importorskip("gymnasium")


class Walk(gymnasium.Env):
    """x moves by the action; ends after 3 + (seed mod 3) steps, or beyond 1, which is success of mode 1."""

    def __init__(self, told=True):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-0.5, 0.5, (1,), np.float32)
        self.told = told

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t, self.limit = 0.0, 0, 3 + (seed or 0) % 3
        return np.array([self.x, self.t], np.float32), {}

    def step(self, action):
        assert action in self.action_space
        self.x, self.t = self.x + float(action[0]), self.t + 1
        info = {"is_success": self.x > 1, "mode": int(self.x > 1)} if self.told else {}
        return np.array([self.x, self.t], np.float32), self.x, self.x > 1, self.t >= self.limit, info


def normalizer(size, low=-0.5, high=0.5):
    one = jnp.ones(size)
    return Normalizer(-2 * one, 2 * one, jnp.full(1, low), jnp.full(1, high))


def subject(size):
    return Subject(jax.random.key(0), None, normalizer(size), {}, {})


def constant(subject, key, obs, z):
    """Chunks of 4: +1 where z is 1, else +1/2, in units of the normaliser; 0.5 and 0.25 in physical ones."""
    level = jnp.where(z == 1, 1.0, 0.5)[:, None, None]
    return jnp.broadcast_to(level, (len(z), 4, 1))


def walks(count=3, mode="SameStep", **fields):
    mode = gymnasium.vector.AutoresetMode(mode)
    return gymnasium.vector.SyncVectorEnv([lambda: Walk(**fields)] * count, autoreset_mode=mode)


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_against_a_loop_by_hand(mode):
    player = HostPlayer(walks(mode=mode), constant, ObsSpec.vector(2), 1, 1, 2, num_modes=2)
    found = player.play(subject(2), jax.random.key(1), episodes=5, seed=7)
    for i in range(5):
        move, x, total, steps = (0.5 if i % 2 else 0.25), 0.0, 0.0, 0
        while True:
            x, steps = x + move, steps + 1
            total += x
            if x > 1 or steps >= 3 + (7 + i) % 3:
                break
        assert (found["return"][i], found["steps"][i], found["z"][i]) == (total, steps, i % 2)
        assert (found["success"][i], found["mode"][i]) == (x > 1, x > 1)


def test_one_command_and_environments_that_tell_nothing():
    player = HostPlayer(walks(told=False), constant, ObsSpec.vector(2), 1, 1, 4, num_modes=2, command=1)
    found = player.play(subject(2), jax.random.key(1), episodes=3, seed=0)
    assert found["success"] is None
    assert found["mode"] is None
    np.testing.assert_array_equal(found["z"], 1)


def test_the_history_is_the_last_observations():
    """T = 3: the first observation stands in before the start; the second decision sees steps 0, 1 and 2."""
    seen = []

    def act(subject, key, obs, z):
        jax.debug.callback(
            lambda rows: seen.append(np.asarray(rows)), subject.normalizer.denormalize_obs(obs)
        )
        return constant(subject, key, obs, z)

    player = HostPlayer(walks(), act, ObsSpec.vector(2), 1, 3, 2)
    player.play(subject(6), jax.random.key(1), episodes=3, seed=0)
    jax.effects_barrier()
    np.testing.assert_allclose(seen[0], np.zeros((3, 6)), atol=1e-6)
    np.testing.assert_allclose(seen[1][2], [0, 0, 0.25, 1, 0.5, 2], atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action_dim": 2}, r"its actions are Box\(-0.5, 0.5, \(1,\), float32\), must be a Box of 2 numbers"),
        ({"obs": ObsSpec.vector(3)}, r"its observations are Box.* must have .* as a Box of \[3\]"),
    ],
)
def test_spaces_that_do_not_fit(fields, message):
    player = HostPlayer(walks(), constant, ObsSpec.vector(2), 1, 1, 2)
    with pytest.raises(UserError, match=message):
        dataclasses.replace(player, **fields)
    with pytest.raises(UserError, match=r"its actions are Discrete\(2\), must be a Box of 1 numbers"):
        HostPlayer(made("CartPole-v1", 1), constant, ObsSpec.vector(4), 1, 1, 2)


def test_pendulum():
    """An environment of Gymnasium itself: 200 steps, cut by its limit, and a return that a loop gives, too."""
    torque = 2.0
    subject_ = Subject(jax.random.key(0), None, normalizer(3, -2.0, 2.0), {}, {})
    player = HostPlayer(made("Pendulum-v1", 2), constant, ObsSpec.vector(3), 1, 1, 4, num_modes=2, command=1)
    found = player.play(subject_, jax.random.key(1), episodes=2, seed=3)
    np.testing.assert_array_equal(found["steps"], 200)
    for i in range(2):
        env = gymnasium.make("Pendulum-v1")
        env.reset(seed=3 + i)
        total = sum(env.step(np.full(1, torque, np.float32))[1] for _ in range(200))
        np.testing.assert_allclose(found["return"][i], total, rtol=1e-9)
    assert found["success"] is None


def test_commands_that_merging_took_away_are_not_played():
    player = HostPlayer(walks(), constant, ObsSpec.vector(2), 1, 1, 2, num_modes=5)
    left = subject(2).replace(reward={"alive": jnp.array([0.0, 1.0, 0.0, 0.0, 1.0])})
    found = player.play(left, jax.random.key(1), episodes=5, seed=7)
    np.testing.assert_array_equal(found["z"], [1, 4, 1, 4, 1])
