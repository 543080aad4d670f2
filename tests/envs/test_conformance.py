"""Every environment of the package keeps the contract; a new file in `envs/` is tested as it is."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.core.protocols import Env, HasDraw, HasExpert
from mmbc_jax.envs import wrappers

ARGUMENT = {"brax": "brax:fast"}  # plug-ins that are nothing without an argument
NAMES = [ARGUMENT.get(name, name) for name in registry.available("env")]
B, H = 3, 4


@functools.cache
def build(name):
    return registry.build("env", config.plugin("env", name))


@functools.cache
def rollout(name, length):
    """Random actions for 3 episodes of at most `length` steps, automatic resets in between."""
    env = wrappers.make(build(name), exec_len=H, gamma=0.99, autoreset="full", length=length)

    @jax.jit
    def run(key):
        reset_key, scan_key = jax.random.split(key)
        state = env.reset(jax.random.split(reset_key, B))

        def body(state, key):
            action_key, reset_key = jax.random.split(key)
            chunk = jax.random.uniform(action_key, (B, H, env.spec.action_dim), minval=-2.0, maxval=2.0)
            state = env.step(state, chunk, reset_key)
            return state, state.replace(data=())

        return state, jax.lax.scan(body, state, jax.random.split(scan_key, 3 * length // H))

    return run


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_spec(name):
    env, spec = build(name), build(name).spec
    assert isinstance(env, Env)
    assert spec.name == name
    state = jax.eval_shape(env.reset, jax.random.key(0))
    assert state.obs.shape == (spec.obs_dim,)
    assert len(spec.action_low) == len(spec.action_high) == spec.action_dim
    assert all(low < high for low, high in zip(spec.action_low, spec.action_high, strict=True))
    assert len(spec.mode_names) == len(set(spec.mode_names)) == spec.num_modes
    assert all(0 <= i < spec.obs_dim for i in spec.position)
    assert spec.episode_length > 0


def test_scan_stable_and_finite(name):
    first, (last, trace) = rollout(name, 40)(jax.random.key(0))
    assert jax.tree.structure(first) == jax.tree.structure(last)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(last), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    for leaf in jax.tree.leaves((last, trace)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            assert bool(jnp.isfinite(leaf).all())


def test_bare_step_keeps_the_tree(name):
    env = build(name)
    state = jax.eval_shape(env.reset, jax.random.key(0))
    action = jax.ShapeDtypeStruct((env.spec.action_dim,), jnp.float32)
    stepped = jax.eval_shape(env.step, state, action)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
        lambda x: (x.shape, x.dtype), stepped
    )
    assert "success" in state.metrics
    assert set(state.info) >= {"mode", "params"}


def test_episodes_end_and_say_how(name):
    _, (_, trace) = rollout(name, 40)(jax.random.key(0))
    done, truncation = np.asarray(trace.done), np.asarray(trace.info["truncation"])
    assert done.any()
    assert ((done == 0) | (done == 1)).all()
    assert (truncation <= done).all()
    at_limit = np.asarray(trace.info["final_steps"]) == 40
    assert (at_limit[truncation == 1]).all()
    assert (done[at_limit] == 1).all()
    assert (np.asarray(trace.info["steps"])[done == 1] == 0).all()


def test_mode_and_success_in_range(name):
    _, (_, trace) = rollout(name, 40)(jax.random.key(0))
    mode, success = np.asarray(trace.info["final_mode"]), np.asarray(trace.metrics["success"])
    assert mode.dtype == np.int32
    assert ((mode >= -1) & (mode < max(build(name).spec.num_modes, 0))).all()
    assert (mode[success == 0] == -1).all()
    assert np.isin(success, (0, 1)).all()


def test_determined_by_the_key(name):
    run = rollout(name, 40)
    one, two, other = (run(jax.random.key(seed))[1][1].obs for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert bool((one != other).any())


def test_expert_and_drawing(name):
    env = build(name)
    if isinstance(env, HasExpert):
        modes = jnp.arange(env.spec.num_modes)
        state = jax.jit(env.reset)(jax.random.key(0))
        actions = jax.vmap(env.expert, (None, 0, 0))(
            state, modes, jax.random.split(jax.random.key(1), len(modes))
        )
        assert actions.shape == (env.spec.num_modes, env.spec.action_dim)
        assert bool((jnp.abs(actions) <= 1).all())
    if isinstance(env, HasDraw):
        from matplotlib.figure import Figure

        ax = Figure().add_subplot()
        env.draw(ax)
        assert ax.has_data() or ax.patches
        assert ax.get_aspect() == 1.0


def test_unknown_field_is_refused(name):
    section = config.plugin("env", name)
    assert section.name == name
    with pytest.raises(registry.ConfigError):
        config.plugin("env", name, no_such_field=1)
