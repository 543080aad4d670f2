"""Moved windows lead back to the recorded path, and what is not moved stays bit for bit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.core.types import EnvSpec
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.jitter import Jitter
from mmbc_jax.data.windows import make_windows, sample_batch
from mmbc_jax.ops import normalisation
from mmbc_jax.runs import setup as setup_lib
from mmbc_jax.runs.demonstrations import StageData
from tests.toys.landscape import toy_config
from tests.toys.products import spared

H, STD = 5, 0.3
PLAIN = EnvSpec("toy", 5, 2, 10, 0, (-2.0, -1.0), (2.0, 3.0), displaced=((0, 3), (1,)))


def spec_of(images):
    if not images:
        return PLAIN
    entries = {"a": ObsEntry((3,)), "b": ObsEntry((2,)), "image": ObsEntry((4, 4, 3), "image")}
    return EnvSpec(
        "toy", 5, 2, 10, 0, (-2.0, -1.0), (2.0, 3.0), displaced=((0, 3), (1,)), obs=ObsSpec.of(entries)
    )


def demos(images=False):
    rng = np.random.default_rng(0)
    obs = (rng.normal(size=(40, 5)) * [1, 2, 3, 4, 0] + 7).astype(np.float32)  # the last entry is constant
    action = rng.uniform(-1, 2, size=(40, 2))
    if images:
        obs = {"a": obs[:, :3], "b": obs[:, 3:], "image": rng.integers(0, 256, (40, 4, 4, 3), np.uint8)}
    return Episodes(obs, action, [25, 40], None, "test")


def made(images=False, observe=1, std=STD):
    """(spec of the environment, normaliser of what is observed, windows, jittered windows)."""
    episodes, spec = demos(images), spec_of(images)
    single = normalisation.fit(episodes.obs, episodes.action, spec.action_low, spec.action_high, spec.obs)
    windows = make_windows(episodes, single, H, observe=observe)
    moved = windows.replace(jitter=Jitter.of(spec, single, std, H, observe))
    return spec, single.with_history(observe), windows, moved


def vectors(obs, normalizer, observe):
    """[B, T, D] of observations in physical units."""
    obs = normalizer.denormalize_obs(obs)
    parts = [obs[name] for name in "ab"] if isinstance(obs, dict) else [obs]
    return np.concatenate([np.asarray(x).reshape(len(x), observe, -1) for x in parts], -1)


@pytest.mark.parametrize(
    ("images", "observe"),
    [
        (False, 1),
        (True, 3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((False, 3), (True, 1))),
    ],
)
@spared("False-1")
def test_the_moved_chunk_ends_where_the_recorded_one_did(images, observe):
    spec, normalizer, windows, moved = made(images, observe)
    plain = windows.batch(np.arange(40))
    batch = jax.jit(lambda key: moved.jitter.apply(key, plain))(jax.random.key(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), batch) == jax.tree.map(
        lambda x: (x.shape, x.dtype), plain
    )
    np.testing.assert_array_equal(batch.mask, plain.mask)
    if images:
        np.testing.assert_array_equal(batch.obs["image"], plain.obs["image"])
    shift = vectors(batch.obs, normalizer, observe) - vectors(plain.obs, normalizer, observe)
    np.testing.assert_allclose(
        shift, np.broadcast_to(shift[:, :1], shift.shape), atol=1e-5
    )  # a parallel path
    np.testing.assert_allclose(shift[..., [2, 4]], 0.0, atol=1e-6)  # not displaced, and constant
    np.testing.assert_allclose(shift[..., 0], shift[..., 3], atol=1e-5)
    actions, recorded = (np.asarray(normalizer.denormalize_action(x.chunk)) for x in (batch, plain))
    ends, wanted = actions.sum(1) + shift[:, 0, [0, 1]], recorded.sum(1)
    np.testing.assert_allclose(ends, wanted, atol=2e-5)
    difference = actions - recorded
    np.testing.assert_allclose(difference, np.broadcast_to(difference[:, :1], difference.shape), atol=1e-6)
    assert np.abs(shift[:, 0, [0, 1]]).max() > STD
    assert len(spec.displaced) == 2


def test_the_draws_have_the_stated_deviation_and_are_independent():
    _, normalizer, windows, moved = made()
    plain = windows.batch(np.zeros(20000, int))
    batch = moved.jitter.apply(jax.random.key(1), plain)
    shift = (vectors(batch.obs, normalizer, 1) - vectors(plain.obs, normalizer, 1))[:, 0, :2]
    # The standard error of a deviation is s / sqrt(2 n), that of a correlation 1 / sqrt(n).
    np.testing.assert_allclose(shift.std(0), STD, atol=5 * STD / np.sqrt(40000))
    assert abs(np.corrcoef(shift.T)[0, 1]) < 5 / np.sqrt(20000)
    np.testing.assert_allclose(shift.mean(0), 0.0, atol=5 * STD / np.sqrt(20000))


def test_without_jitter_batches_are_the_recorded_rows_at_the_drawn_indices():
    _, _, windows, _ = made()
    batch = sample_batch(jax.random.key(4), windows, 16)
    index = jax.random.randint(jax.random.key(4), (16,), 0, len(windows))
    jax.tree.map(np.testing.assert_array_equal, batch, windows.batch(index))


def test_jittered_batches_are_pure_and_fresh():
    *_, moved = made()
    sample = jax.jit(sample_batch, static_argnums=2)
    first, again, other = (sample(jax.random.key(k), moved, 8) for k in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first.obs, other.obs)
    taken = moved.take(np.asarray([3, 5]))
    np.testing.assert_array_equal(taken.jitter.chunk, moved.jitter.chunk)


def test_an_environment_that_does_not_say_what_its_actions_displace():
    episodes, silent = demos(), EnvSpec("silent", 5, 2, 10, 0, (-2.0, -1.0), (2.0, 3.0))
    with pytest.raises(ConfigError, match=r"data.jitter = 0.1 .*silent does not say"):
        Jitter.of(silent, normalisation.fit(episodes.obs, episodes.action), 0.1, H)


@pytest.mark.parametrize("name", ["avoiding", "landscape"])
def test_what_environments_declare_is_how_they_move(name):
    """A moved start and the same actions give the moved path, by as much as the actions' own units say."""
    env = registry.build("env", config.plugin("env", name))
    spec, rng = env.spec, np.random.default_rng(0)
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    start = np.asarray(env.reset(jax.random.key(0)).obs)
    moved = start.copy()
    for entries, by in zip(spec.displaced, (0.02, -0.03), strict=True):
        moved[list(entries)] += by * high[0] / 0.15
    step = jax.jit(env.step)

    def begin(obs):
        if name == "avoiding":
            return env.reset_to(jnp.asarray(obs), jax.random.key(1))
        state = env.reset(jax.random.key(1))
        return state.replace(data=state.data | {"position": jnp.asarray(obs)}, obs=jnp.asarray(obs))

    here, there = begin(start), begin(moved)
    total = np.zeros(spec.action_dim)
    for _ in range(6):
        action = rng.uniform(-0.5, 0.5, spec.action_dim)
        total += low + (action + 1) / 2 * (high - low)
        here, there = step(here, jnp.asarray(action)), step(there, jnp.asarray(action))
        np.testing.assert_allclose(np.asarray(there.obs) - np.asarray(here.obs), moved - start, atol=1e-6)
    for entries, by in zip(spec.displaced, total, strict=True):
        np.testing.assert_allclose(here.obs[entries[0]] - start[entries[0]], by, atol=1e-6)


@pytest.mark.parametrize("stream", [0.0, 0.01])
def test_training_windows_are_jittered_and_held_out_ones_are_not(tmp_path, stream):
    def prepared(**fields):
        setup = setup_lib.build(toy_config(data__stream=stream, **fields))
        return StageData.prepare(setup, tmp_path, keep=False)

    data, plain = prepared(data__jitter=0.05), prepared()
    assert plain.train_windows.jitter is None
    assert data.held_out.jitter is None
    # Landscape: 0.05 of its units over four actions of at most 0.15.
    np.testing.assert_allclose(data.train_windows.jitter.chunk, [0.05 / 4 / 0.15] * 2, rtol=1e-5)
    assert (len(data.train_windows) < data.count) == bool(stream)
    np.testing.assert_array_equal(data.train_windows.obs, plain.train_windows.obs)
