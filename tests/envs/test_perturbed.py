"""Noise and delay around any environment, on one whose state is the sum of what was played."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.core.types import EnvSpec, State
from mmbc_jax.envs import wrappers

STEPS = 400


class Sum:
    """Observed are the sum of actions, from which the next one is computed, and an angle."""

    spec = EnvSpec(
        "sum", 3, 2, STEPS, 0, (-1.0,) * 2, (1.0,) * 2, obs=ObsSpec.of({
            "angle": ObsEntry((1,), angles=(0,)), "sum": ObsEntry((2,)),
        }),
    )  # fmt: skip

    def default_params(self):
        return {"gain": jnp.asarray(1.0)}

    def reset(self, key, params=None):
        obs = {"angle": jnp.ones(1), "sum": jax.random.normal(key, (2,))}
        info = {"mode": jnp.array(-1, jnp.int32), "params": params, "played": jnp.zeros(2)}
        return State((), obs, jnp.zeros(()), jnp.zeros(()), {"success": jnp.zeros(())}, info)

    def step(self, state, action):
        total = state.obs["sum"] + state.info["params"]["gain"] * action
        return state.replace(
            obs={"angle": state.obs["angle"], "sum": total}, info=state.info | {"played": action}
        )


ACTIONS = jnp.asarray(np.random.default_rng(0).uniform(-0.4, 0.4, (STEPS, 2)), jnp.float32)


@jax.jit
def play(params):
    env = wrappers.Perturbed(Sum(), most=3)
    state = env.reset(jax.random.key(5), {**env.default_params(), **params})
    out = jax.lax.scan(lambda s, a: (n := env.step(s, a), (n.obs, n.info["played"])), state, ACTIONS)[1]
    return state.obs, *out


def given(**params):
    kinds = {"action_delay": jnp.int32}
    return jax.device_get(
        play({
            name: jnp.asarray(params.get(name, 0), kinds.get(name, jnp.float32))
            for name in ("obs_noise", "action_noise", "action_delay")
        })
    )  # fmt: skip


def test_without_a_perturbation_it_is_the_environment():
    def bare():
        state = Sum().reset(jax.random.key(5), Sum().default_params())
        return state.obs, jax.lax.scan(lambda s, a: (n := Sum().step(s, a), n.obs), state, ACTIONS)[1]

    first, obs, played = given()
    expected = jax.device_get(jax.jit(bare)())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), (first, obs), expected)
    np.testing.assert_array_equal(played, ACTIONS)


@pytest.mark.parametrize(("delay", "late"), [(1, 1), (3, 3), (9, 3)])
def test_actions_come_late(delay, late):
    """The first of them are 0; beyond the largest delay they come as late as that."""
    played = given(action_delay=delay)[2]
    np.testing.assert_array_equal(played[:late], 0.0)
    np.testing.assert_array_equal(played[late:], ACTIONS[:-late])


def test_noise_has_its_size_and_stays_out_of_the_state():
    """Of 800 draws the mean is within 4 / sqrt(800) = .14 deviations, the deviation within 4 / sqrt(1600) = 10 %."""
    first, obs, played = given(obs_noise=0.5)
    clean = given()
    noise = (obs["sum"] - clean[1]["sum"]) / 0.5
    assert abs(noise.mean()) < 0.14
    assert abs(noise.std() - 1) < 0.1
    assert abs(np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]) < 0.14  # new at every step
    assert (first["sum"] != clean[0]["sum"]).all()
    np.testing.assert_array_equal(obs["angle"], 1.0)
    np.testing.assert_array_equal(played, ACTIONS)
    shaken = given(action_noise=0.2)[2]
    noise = (shaken - ACTIONS) / 0.2  # 1 lies 3 deviations or more away
    assert abs(noise.mean()) < 0.14
    assert abs(noise.std() - 1) < 0.1
    assert np.abs(given(action_noise=50.0)[2]).max() == 1.0


def test_what_an_environment_has_itself_is_not_added():
    class Own(Sum):
        def default_params(self):
            return {"action_noise": jnp.asarray(0.3), "gain": jnp.asarray(1.0)}

    env = wrappers.Perturbed(Own(), most=0)
    assert env.added == ("obs_noise", "action_delay")
    assert float(env.default_params()["action_noise"]) == pytest.approx(0.3)
    state = env.step(env.reset(jax.random.key(0)), jnp.array([0.5, 0.25]))
    np.testing.assert_array_equal(state.info["played"], [0.5, 0.25])


def test_it_goes_below_the_wrappers_of_an_evaluation():
    env = wrappers.make(wrappers.Perturbed(Sum(), 2), exec_len=2, autoreset=None, observe=2, path=True)
    state = env.reset(jax.random.split(jax.random.key(0), 3))
    stepped = jax.jit(env.step)(state, jnp.ones((3, 2, 2)))
    assert jax.tree.structure(stepped) == jax.tree.structure(state)
    assert stepped.obs["sum"].shape == (3, 4)
