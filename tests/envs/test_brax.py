from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.envs.fast import Fast

from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.envs import wrappers
from mmbc_jax.envs.adapters.brax import BraxEnv


def build(name, **fields):
    return registry.build("env", config.plugin("env", name, **fields))


def test_small_environment_end_to_end():
    env = build("brax:fast", episode_length=7)
    assert (env.spec.name, env.spec.obs_dim, env.spec.action_dim) == ("brax:fast", 2, 1)
    assert (env.spec.num_modes, env.spec.episode_length, env.spec.has_success) == (0, 7, False)
    stack = wrappers.make(env, exec_len=7, autoreset="full")
    state = stack.reset(jax.random.split(jax.random.key(0), 2))
    state = jax.jit(stack.step)(state, jnp.ones((2, 7, 1)), jax.random.key(1))
    np.testing.assert_array_equal(state.info["truncation"], [1, 1])
    np.testing.assert_array_equal(state.metrics["success"], [0, 0])
    # its reward is the position of a point that gains 0.02 per step of 0.02: 0.0004 * (1 + 3 + 6 + ... + 28)
    np.testing.assert_allclose(state.metrics["reward"], 0.0004 * 84, rtol=1e-5)


@pytest.mark.parametrize(("name", "hint"), [("brax:reecher", "reacher"), ("brax:", "ant"), ("brax", "ant")])
def test_unknown_names_list_the_nearest(name, hint):
    with pytest.raises(ConfigError, match=hint):
        build(name)


@pytest.mark.parametrize("fields", [{"backend": "bullet"}, {"episode_length": 0}])
def test_bad_config_is_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        build("brax:fast", **fields)


def seen(mode, **fields):
    return BraxEnv("brax:fast", Fast(obs_mode=mode, **fields), 7)


def test_dicts_of_vectors_are_described():
    env = seen("dict_latent_state", asymmetric_obs=True)
    sizes = {name: entry.shape for name, entry in env.spec.obs.entries}
    assert sizes == {
        "latent_pixels/view_0": (12,), "latent_pixels/view_1": (12,), "privileged_state": (4,), "state": (2,)
    }  # fmt: skip
    assert env.spec.obs_dim == 30
    stack = wrappers.make(env, exec_len=3, autoreset="cached", observe=2)
    state = stack.reset(jax.random.split(jax.random.key(0), 2))
    last = jax.jit(
        lambda s: jax.lax.scan(lambda s, _: (stack.step(s, jnp.ones((2, 3, 1))), 0), s, None, 2)[0]
    )(state)
    assert jax.tree.structure(last) == jax.tree.structure(state)
    # 6 of 7 steps: the point has moved by 0.0004 (1 + ... + t) after t steps, 0.0004 * 15 after 5 and * 21 after 6
    np.testing.assert_allclose(last.obs["state"][:, ::2], np.tile([0.006, 0.0084], (2, 1)), rtol=1e-5)


def test_images_are_refused():
    with pytest.raises(
        ConfigError, match=r"vectors, this one gives pixels/view_0 \(4, 4, 3\), pixels/view_1"
    ):
        seen("dict_pixels")


def test_parts_of_the_reward_add_up():
    class Parts(Fast):
        def reset(self, rng):
            return super().reset(rng).replace(metrics={"reward_run": jnp.zeros(()), "height": jnp.zeros(())})

        def step(self, state, action):
            moved = super().step(state, action)
            return moved.replace(metrics={"reward_run": jnp.ones(()), "height": jnp.ones(())})

    env = BraxEnv("brax:parts", Parts(), 7)
    assert env.spec.summed == ("reward_run",)
    stack = wrappers.make(env, exec_len=3, autoreset=None)
    state = stack.step(stack.reset(jax.random.split(jax.random.key(0), 1)), jnp.zeros((1, 3, 1)))
    assert (float(state.metrics["reward_run"][0]), float(state.metrics["height"][0])) == (3.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["generalized", "spring"])
def test_reacher_matches_brax(backend):
    from brax import envs

    env, inner = build("brax:reacher", backend=backend), envs.get_environment("reacher", backend=backend)
    assert (env.spec.obs_dim, env.spec.action_dim) == (inner.observation_size, inner.action_size)
    assert env.spec.control_dt == pytest.approx(float(inner.dt))
    state, theirs = env.reset(jax.random.key(3)), inner.reset(jax.random.key_data(jax.random.key(3)))
    step, their_step = jax.jit(env.step), jax.jit(inner.step)
    for i in range(5):
        action = jnp.array([0.1 * i, -0.4])
        state, theirs = step(state, action), their_step(theirs, action)
        np.testing.assert_allclose(state.obs, theirs.obs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.reward, theirs.reward, rtol=1e-5)
    assert set(state.metrics) == set(theirs.metrics) | {"success"}
    stack = wrappers.make(env, exec_len=2, autoreset="cached", length=3)
    first = stack.reset(jax.random.split(jax.random.key(0), 2))
    keys = jax.random.split(jax.random.key(1), 4)
    last, _ = jax.jit(
        lambda s: jax.lax.scan(lambda s, k: (stack.step(s, jnp.ones((2, 2, 2)), k), s.obs), s, keys)
    )(first)
    assert jax.tree.structure(first) == jax.tree.structure(last)
    np.testing.assert_array_equal(
        last.obs, first.obs
    )  # 4 decisions of 2 steps are 2 episodes of 3, then a reset
