"""Path tasks observed as images, as numbers and as both: the same episode, whatever is seen of it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.data.collect import record
from mmbc_jax.envs import wrappers
from mmbc_jax.envs.synthetic import _render
from tests.toys.products import spared, sparing

TASKS = ("circle", "conditional_circle", "corridor", "radial", "sequential")
B, H, DECISIONS = 2, 3, 45  # 135 control steps: two resets
draw_ground, draw = jax.jit(_render.ground), jax.jit(_render.render)


@functools.cache
def build(name, observe):
    return registry.build("env", config.plugin("env", name, observe=observe))


@functools.cache
def played(name, observe, mode="full", history=1):
    """States after each of 45 random decisions with automatic resets, in one jitted scan."""
    env = wrappers.make(build(name, observe), H, autoreset=mode, observe=history, path=True)

    @jax.jit
    def run(key):
        reset_key, scan_key = jax.random.split(key)

        def body(state, key):
            action_key, key = jax.random.split(key)
            state = env.step(state, jax.random.uniform(action_key, (B, H, 2), minval=-1.0), key)
            return state, state

        state = env.reset(jax.random.split(reset_key, B))
        return jax.lax.scan(body, state, jax.random.split(scan_key, DECISIONS))[1]

    return run(jax.random.key(0))


def frames(name, position, context):
    """[..., 64, 64, 3] images of positions [..., 2] at the default parameters."""
    env = build(name, "state")
    centres, halves = env.boxes(env.default_params())
    goals = [None]
    if name == "conditional_circle":
        goals = [(centre, env.default_params()["radius"]) for centre in centres]
    grounds = jnp.stack([draw_ground(centres, halves, goal) for goal in goals])
    return np.asarray(draw(position, grounds[context]))


@pytest.mark.parametrize(
    "name", sparing(TASKS, slow=("circle", "conditional_circle", "corridor", "sequential"))
)
def test_frames_are_drawn_at_the_position(name):
    states = played(name, "both")
    position = states.data["position"]
    context = states.data.get("context", jnp.zeros(position.shape[:-1], jnp.int32))
    image = states.obs["image"]
    assert image.dtype == jnp.uint8
    # compilers may round a pixel's half differently
    np.testing.assert_allclose(image.astype(int), frames(name, position, context).astype(int), atol=1)
    assert len(np.unique(np.asarray(image).reshape(-1, 64 * 64 * 3), axis=0)) > DECISIONS
    # nor need they compute the position once for both: a product and a sum are rounded once or twice
    np.testing.assert_array_max_ulp(states.obs["state"][..., :2], position, 1)


@pytest.mark.parametrize(
    "name", sparing(TASKS, slow=("circle", "conditional_circle", "corridor", "sequential"))
)
def test_what_is_seen_changes_nothing_else(name):
    state, image, both = (played(name, observe) for observe in ("state", "image", "both"))
    assert list(image.obs) == ["image"]
    np.testing.assert_array_equal(image.obs["image"], both.obs["image"])
    np.testing.assert_array_equal(both.obs["state"], state.obs)
    assert "ground" not in state.data
    for seen in (image, both):
        pairs = (
            (state.data, {key: x for key, x in seen.data.items() if key != "ground"}),
            (state.metrics, seen.metrics),
            ({**state.info, "final_obs": 0}, {**seen.info, "final_obs": 0}),
            ((state.reward, state.done), (seen.reward, seen.done)),
        )
        for a, b in pairs:
            jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), a, b)


@pytest.mark.parametrize("mode", ["full", "cached"])
@spared("cached")
def test_images_with_history_go_through_resets(mode):
    states = played("radial", "both", mode, 2)
    done, obs, final = np.asarray(states.done), states.obs, states.info["final_obs"]
    assert done.sum() == 2 * B
    assert obs["image"].shape == (DECISIONS, B, 64, 64, 6)
    assert obs["image"].dtype == final["image"].dtype == jnp.uint8
    image, last = np.asarray(obs["image"]), np.asarray(final["image"])
    np.testing.assert_array_equal(image[done == 1][..., :3], image[done == 1][..., 3:])  # a new episode
    assert (last[done == 1][..., :3] != last[done == 1][..., 3:]).any((1, 2, 3)).all()  # the end of the old
    np.testing.assert_array_equal(image[done == 0], last[done == 0])
    position = states.data["position"]
    context = jnp.zeros(position.shape[:-1], jnp.int32)
    np.testing.assert_allclose(
        image[..., 3:].astype(int), frames("radial", position, context).astype(int), atol=1
    )


def test_one_frame_is_drawn_per_control_step(monkeypatch):
    """A scan over h = 3 control steps traces one frame for all of them, and a reset one more."""
    calls, original = [], _render.render
    monkeypatch.setattr(_render, "render", lambda *args: (calls.append(1), original(*args))[1])
    env = wrappers.make(build("radial", "image"), H, autoreset=None)
    state = jax.eval_shape(env.reset, jax.random.split(jax.random.key(0), B))
    assert len(calls) == 1
    jax.eval_shape(env.step, state, jnp.zeros((B, H, 2)))
    assert len(calls) == 2


def test_figures_need_no_numbers():
    env, states = build("radial", "image"), played("radial", "image")
    assert (env.spec.obs_dim, env.spec.position) == (0, ())
    inside = np.asarray(states.done) == 0
    np.testing.assert_array_equal(
        np.asarray(states.info["path"])[inside][:, -1], np.asarray(states.data["position"])[inside]
    )


@pytest.mark.slow
def test_recorded_images(monkeypatch):
    """The same demonstrations as of the numbers, each step once, in bytes, whatever the size of a batch."""
    name = "conditional_circle"
    state, image, both = (
        record(build(name, seen), jax.random.key(3), 12, 0.2) for seen in ("state", "image", "both")
    )
    np.testing.assert_array_equal(both.obs["state"], state.obs)
    np.testing.assert_array_equal(both.action, state.action)
    np.testing.assert_array_equal(both.ends, image.ends)
    np.testing.assert_array_equal(image.obs["image"], both.obs["image"])
    assert image.obs["image"].dtype == np.uint8
    context = (
        np.argmax(state.obs[:, 2:], 1) if name == "conditional_circle" else np.zeros(len(state.obs), int)
    )
    wanted = frames(name, jnp.asarray(state.obs[:, :2]), context)
    np.testing.assert_allclose(both.obs["image"].astype(int), wanted.astype(int), atol=1)
    monkeypatch.setattr("mmbc_jax.data.collect.MAX_BYTES", 5 * 60 * 64 * 64 * 3)  # five episodes at once
    few = record(build(name, "image"), jax.random.key(3), 12, 0.2)
    np.testing.assert_array_equal(few.mode, image.mode)
    assert few.obs["image"].shape == image.obs["image"].shape


def test_other_names_are_refused():
    with pytest.raises(ConfigError, match="env.observe = 'pixels'"):
        build("radial", "pixels")
