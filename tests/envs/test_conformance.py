"""Every environment of the package keeps the contract; a new file in `envs/` is tested as it is."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.core.compiling import jit
from mmbc_jax.core.picturing import HasDraw
from mmbc_jax.core.protocols import Env, HasExpert
from mmbc_jax.envs import wrappers
from tests.toys.products import spared

ARGUMENT = {"brax": "brax:fast"}  # plug-ins that are nothing without an argument
NAMES = [ARGUMENT.get(name, name) for name in registry.available("env")]


def seen(name):
    """What else than its default a task can have observed."""
    options = registry.find("env", name).options
    return [
        choice
        for field, rule in options.stated()
        if field.name == "observe"
        for choice in rule.choices
        if choice != field.default
    ]


CASES = [*((name, "") for name in NAMES), *((name, choice) for name in NAMES for choice in seen(name))]
B, H = 3, 4
LONG = {
    *(("lift", ""), ("reach", ""), ("avoiding_arm", ""), ("aligning", ""), ("block_push", "")),
    *(("push_t", "image"), ("push_t", "both"), ("push_t", "keypoints")),
    *(("pushing", "relative"), ("block_push", "relative")),
    *(
        (path, seen)
        for path in ("corridor", "conditional_circle", "sequential", "radial")
        for seen in ("image", "both")
    ),
}
"""Those that compile for long, and that others stand for. In the quick half `pushing` stands for the sliding
blocks, `circle` for the images of the planar paths, and the arms have tests of their own."""


@functools.cache
def build(case):
    name, observe = case
    return registry.build("env", config.plugin("env", name, **({"observe": observe} if observe else {})))


@functools.cache
def rollout(case, length):
    """Random actions for 3 episodes of at most `length` steps, automatic resets in between."""
    env = wrappers.make(build(case), exec_len=H, gamma=0.99, autoreset="full", length=length)

    def run(key):
        reset_key, scan_key = jax.random.split(key)
        state = env.reset(jax.random.split(reset_key, B))

        def body(state, key):
            action_key, reset_key = jax.random.split(key)
            chunk = jax.random.uniform(action_key, (B, H, env.spec.action_dim), minval=-2.0, maxval=2.0)
            state = env.step(state, chunk, reset_key)
            return state, state.replace(data=())

        return state, jax.lax.scan(body, state, jax.random.split(scan_key, 3 * length // H))

    return jit(run, env.spec)


@pytest.fixture(
    params=[
        pytest.param(case, id=" ".join(case).strip(), marks=[pytest.mark.slow] * (case in LONG))
        for case in CASES
    ]
)
def case(request):
    return request.param


def test_spec(case):
    env, spec = build(case), build(case).spec
    assert isinstance(env, Env)
    assert spec.name == case[0]
    state = jax.eval_shape(env.reset, jax.random.key(0))
    assert not spec.obs.mismatch(state.obs)
    dummy = jax.eval_shape(spec.obs.dummy)
    assert jax.tree.map(lambda x: x.dtype, dummy) == jax.tree.map(lambda x: x.dtype, state.obs)
    assert spec.obs.size == spec.obs_dim
    for _, entry in spec.obs.entries:
        assert len(entry.low) == len(entry.high) == (entry.shape[0] if entry.low else 0)
    assert set(spec.summed) <= set(state.metrics)
    assert len(spec.action_low) == len(spec.action_high) == spec.action_dim
    assert all(low < high for low, high in zip(spec.action_low, spec.action_high, strict=True))
    assert len(spec.mode_names) == len(set(spec.mode_names)) == spec.num_modes
    assert all(0 <= i < spec.obs_dim for i in spec.position)
    assert len(spec.displaced) in (0, spec.action_dim)
    assert all(0 <= i < spec.obs_dim for entries in spec.displaced for i in entries)
    assert not (spec.displaced and spec.obs.images)  # an image would contradict the moved numbers
    assert spec.episode_length > 0


@spared("pushing", "corridor", "circle both", "high_low", "conditional_circle")
def test_scan_stable_and_finite(case):
    first, (last, trace) = rollout(case, 40)(jax.random.key(0))
    assert jax.tree.structure(first) == jax.tree.structure(last)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(last), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    for leaf in jax.tree.leaves((last, trace)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            assert bool(jnp.isfinite(leaf).all())


def test_bare_step_keeps_the_tree(case):
    env = build(case)
    state = jax.eval_shape(env.reset, jax.random.key(0))
    action = jax.ShapeDtypeStruct((env.spec.action_dim,), jnp.float32)
    stepped = jax.eval_shape(env.step, state, action)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
        lambda x: (x.shape, x.dtype), stepped
    )
    assert "success" in state.metrics
    assert set(state.info) >= {"mode", "params"}


def test_episodes_end_and_say_how(case):
    _, (_, trace) = rollout(case, 40)(jax.random.key(0))
    done, truncation = np.asarray(trace.done), np.asarray(trace.info["truncation"])
    assert done.any()
    assert ((done == 0) | (done == 1)).all()
    assert (truncation <= done).all()
    at_limit = np.asarray(trace.info["final_steps"]) == 40
    assert (at_limit[truncation == 1]).all()
    assert (done[at_limit] == 1).all()
    assert (np.asarray(trace.info["steps"])[done == 1] == 0).all()


def test_mode_and_success_in_range(case):
    _, (_, trace) = rollout(case, 40)(jax.random.key(0))
    mode, success = np.asarray(trace.info["final_mode"]), np.asarray(trace.metrics["success"])
    assert mode.dtype == np.int32
    assert ((mode >= -1) & (mode < max(build(case).spec.num_modes, 0))).all()
    assert (mode[success == 0] == -1).all()
    assert np.isin(success, (0, 1)).all()


def test_determined_by_the_key(case):
    run = rollout(case, 40)
    one, two, other = (run(jax.random.key(seed))[1][1].obs for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert any(bool(x) for x in jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), one, other)))


@spared("push_t", "corridor")
def test_expert_and_drawing(case):
    env = build(case)
    if isinstance(env, HasExpert):
        modes = jnp.arange(env.spec.num_modes)
        state = jit(env.reset, env.spec)(jax.random.key(0))
        actions = jit(jax.vmap(env.expert, (None, 0, 0)), env.spec)(
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


def test_observations_keep_their_bounds(case):
    _, (_, trace) = rollout(case, 40)(jax.random.key(0))
    for name, entry in build(case).spec.obs.entries:
        seen = np.asarray(build(case).spec.obs.named(trace.obs)[name])
        if entry.low:
            assert (seen >= np.asarray(entry.low)).all()
            assert (seen <= np.asarray(entry.high)).all()


def test_what_is_plotted_is_a_point(case):
    env = wrappers.make(build(case), exec_len=2, autoreset=None, path=True)
    state = jax.eval_shape(env.reset, jax.random.split(jax.random.key(0), B))
    assert state.info["path"].shape == (B, 2, 2)


def test_history_of_two_steps(case):
    env = wrappers.History(build(case), 2)
    state = jax.eval_shape(env.reset, jax.random.key(0))
    assert not env.spec.obs.mismatch(state.obs)
    stepped = jax.eval_shape(env.step, state, jax.ShapeDtypeStruct((env.spec.action_dim,), jnp.float32))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
        lambda x: (x.shape, x.dtype), stepped
    )


def test_unknown_field_is_refused(case):
    section = config.plugin("env", case[0])
    assert section.name == case[0]
    with pytest.raises(registry.ConfigError):
        config.plugin("env", case[0], no_such_field=1)
