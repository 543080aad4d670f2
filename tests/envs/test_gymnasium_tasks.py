"""The tasks as Gymnasium environments, against the wrappers that training uses and by Gymnasium's own checks."""

import jax
import numpy as np
import pytest

from mmbc_jax.core.errors import ConfigError, UserError
from mmbc_jax.core.keys import seeded
from mmbc_jax.envs import wrappers

gymnasium = pytest.importorskip("gymnasium")
tasks = pytest.importorskip("mmbc_jax.envs.gymnasium_tasks")
SIZE = 3


@pytest.fixture(scope="module")
def vector():
    return gymnasium.make_vec("mmbc_jax/landscape-v0", SIZE, vectorization_mode="vector_entry_point")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasium_finds_nothing_wrong():
    from gymnasium.utils.env_checker import check_env

    check_env(gymnasium.make("mmbc_jax/landscape-v0").unwrapped, skip_render_check=True)


def test_spaces_and_metadata(vector):
    env = tasks._Task("landscape", "physical", {}).env
    np.testing.assert_allclose(vector.single_action_space.high, env.spec.action_high, rtol=1e-6)
    assert vector.single_observation_space.shape == (env.spec.obs_dim,)
    assert vector.action_space.shape == (SIZE, env.spec.action_dim)
    assert vector.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.SAME_STEP
    obs, info = vector.reset(seed=0)
    assert obs in vector.observation_space
    assert obs.dtype == np.float32
    assert set(info) == {"mode", "success", "_mode", "_success"}


def played(env, seed, steps=20, actions=1):
    obs, _ = env.reset(seed=seed)
    rng = np.random.default_rng(actions)
    rows = [obs]
    low, high = env.single_action_space.low, env.single_action_space.high
    for _ in range(steps):
        rows.extend(env.step(rng.uniform(low, high, env.action_space.shape).astype(np.float32))[:4])
    return rows


def test_seeds(vector):
    for one, other in zip(played(vector, 3), played(vector, 3), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(played(vector, 3)[-4], played(vector, 4)[-4])
    vector.reset(seed=3)
    first = vector.reset()[0]  # goes on from the seed before
    assert not np.array_equal(first, vector.reset(seed=3)[0])


def test_steps_are_those_of_the_wrappers(vector):
    """The expert, in physical units here and in [-1, 1] there, up to and past the end of the first episode."""
    env = tasks._Task("landscape", "physical", {}).env
    length, spec = env.spec.episode_length, env.spec
    batched = wrappers.make(env)
    key, key_reset = jax.random.split(seeded(5))
    state = jax.jit(batched.reset)(jax.random.split(key_reset, SIZE))
    obs, _ = vector.reset(seed=5)
    np.testing.assert_array_equal(obs, state.obs)
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    modes = np.arange(SIZE) % spec.num_modes
    expert = jax.jit(jax.vmap(env.expert))
    step = jax.jit(lambda state, action, key: batched.step(state, action, key))
    for number in range(length + 1):
        key, key_step = jax.random.split(key)
        action = np.asarray(expert(state, modes, jax.random.split(seeded(number), SIZE)))
        state = step(state, action[:, None], key_step)
        obs, reward, terminated, truncated, info = vector.step(low + (action + 1) / 2 * (high - low))
        np.testing.assert_allclose(obs, state.obs, atol=1e-6)
        np.testing.assert_allclose(reward, state.reward, atol=1e-6)
        np.testing.assert_array_equal(terminated | truncated, np.asarray(state.done) > 0)
        if number == length - 1:
            assert (terminated | truncated).all()
            np.testing.assert_array_equal(info["final_info"]["mode"], modes)
            assert info["final_info"]["success"].all()
            assert info["_final_obs"].all()
            np.testing.assert_allclose(info["final_obs"], state.info["final_obs"], atol=1e-6)
            assert not info["success"].any()
            np.testing.assert_array_equal(info["mode"], -1)
        else:
            assert "final_obs" not in info


def test_units():
    physical, box = (gymnasium.make("mmbc_jax/landscape-v0", units=units) for units in tasks.UNITS)
    np.testing.assert_array_equal(box.action_space.high, 1.0)
    physical.reset(seed=1)
    box.reset(seed=1)
    half = np.full(2, 0.5, np.float32)
    there = physical.step(
        (half + 1) / 2 * (physical.action_space.high - physical.action_space.low) + physical.action_space.low
    )
    np.testing.assert_allclose(box.step(half)[0], there[0], atol=1e-6)


def test_images_are_entries():
    envs = tasks.TaskVectorEnv("radial", 2, observe="both")
    obs, _ = envs.reset(seed=0)
    assert obs in envs.observation_space
    assert obs["image"].dtype == np.uint8


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"task": "nowhere"}, ConfigError, "env.name = 'nowhere'"),
        (
            {"task": "landscape", "units": "inches"},
            UserError,
            "units = 'inches' must be one of physical, box",
        ),
        ({"task": "landscape", "num_envs": 0}, UserError, "num_envs = 0 must be at least 1"),
        ({"task": "landscape", "observes": "both"}, ConfigError, "observes"),
    ],
)
def test_what_cannot_work(arguments, error, message):
    with pytest.raises(error, match=message):
        tasks.TaskVectorEnv(**arguments)
    if "num_envs" not in arguments:
        with pytest.raises(gymnasium.error.ResetNeeded):
            gymnasium.make("mmbc_jax/landscape-v0", disable_env_checker=True).unwrapped.step(np.zeros(2))


def test_programs_are_compiled_as_the_environment_needs_it(monkeypatch):
    """All four go through `core.compiling.jit` with the task's spec: without its option an arm is thousands of times
    slower on a CPU."""
    asked = []

    def recorded(fn, spec, **options):
        asked.append(spec.name)
        return jax.jit(fn, **options)

    monkeypatch.setattr(tasks, "jit", recorded)
    tasks.TaskEnv("landscape")
    tasks.TaskVectorEnv("landscape", SIZE)
    assert asked == ["landscape"] * 4
