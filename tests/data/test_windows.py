import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.windows import make_windows, sample_batch, window_bytes
from mmbc_jax.ops import normalisation


def demos(lengths=(3, 1, 4), mode=(2, 0, 1)):
    rng = np.random.default_rng(0)
    n = sum(lengths)
    labels = None if mode is None else np.asarray(mode)
    return Episodes(rng.normal(size=(n, 3)), rng.normal(size=(n, 2)), np.cumsum(lengths), labels, "test", 3)


def windows_of(episodes, chunk_len):
    return make_windows(episodes, normalisation.fit(episodes.obs, episodes.action), chunk_len)


@pytest.mark.parametrize("chunk_len", [1, 3, 6])
def test_windows_agree_with_a_loop(chunk_len):
    episodes = demos()
    low, high = episodes.action.min(axis=0), episodes.action.max(axis=0)
    windows = windows_of(episodes, chunk_len)
    assert len(windows) == 8
    row = 0
    for i, length in enumerate([3, 1, 4]):
        action = episodes.action[episodes.episode(i)]
        for step in range(length):
            for h in range(chunk_len):
                inside = step + h < length
                wanted = action[step + h] if inside else action[-1]
                scaled = 2 * (wanted - low) / (high - low) - 1
                np.testing.assert_allclose(windows.chunk[row, h], scaled, atol=1e-6)
                assert windows.mask[row, h] == inside
            assert (windows.episode[row], windows.step[row]) == (i, step)
            assert windows.mode[row] == [2, 0, 1][i]
            row += 1


def test_golden_window():
    # Actions 0 .. 4 with bounds (0, 4) become -1, -.5, 0, .5, 1; episodes are rows 0-2 and 3-4.
    episodes = Episodes(np.arange(5)[:, None], np.arange(5)[:, None], np.asarray([3, 5]), None, "test")
    windows = windows_of(episodes, 3)
    np.testing.assert_allclose(
        windows.chunk[..., 0],
        [[-1, -0.5, 0], [-0.5, 0, 0], [0, 0, 0], [0.5, 1, 1], [1, 1, 1]],
    )
    np.testing.assert_array_equal(windows.mask, [[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(windows.obs[:, 0], [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_array_equal(windows.mode, [-1] * 5)


def test_chunk_of_one_has_no_padding():
    assert windows_of(demos(), 1).mask.min() == 1


def test_refuses_empty_input():
    episodes = demos()
    normalizer = normalisation.fit(episodes.obs, episodes.action)
    with pytest.raises(ValueError, match="chunk_len"):
        make_windows(episodes, normalizer, 0)
    with pytest.raises(ValueError, match="0 episodes"):
        make_windows(episodes.select(np.zeros(0, int)), normalizer, 2)


def test_bytes_are_exact():
    windows = windows_of(demos(), 6)
    assert window_bytes(demos(), 6) == sum(leaf.nbytes for leaf in jax.tree.leaves(windows))


def test_batch_rows_are_windows():
    windows = windows_of(demos(), 4)
    batch = jax.jit(sample_batch, static_argnums=2)(jax.random.key(0), windows, 50)
    assert batch.obs.shape == (50, 3)
    assert batch.chunk.shape == (50, 4, 2)
    # Each row, whole, is one window: same index for obs, chunk and mask.
    flat = np.concatenate(
        [np.asarray(windows.obs), np.asarray(windows.chunk).reshape(8, -1), windows.mask], 1
    )
    rows = np.concatenate([np.asarray(batch.obs), np.asarray(batch.chunk).reshape(50, -1), batch.mask], 1)
    assert (np.abs(rows[:, None] - flat[None]).max(axis=-1).min(axis=1) == 0).all()


def test_batches_are_pure_and_uniform():
    windows = windows_of(demos(), 2)
    first, again, other = (sample_batch(jax.random.key(k), windows, 8).obs for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # 16000 draws over 8 windows: each count is binomial with mean 2000 and deviation sqrt(2000 * 7/8) = 41.8.
    obs = sample_batch(jax.random.key(3), windows, 16000).obs
    counts = jnp.abs(obs[:, None] - windows.obs[None]).max(axis=-1).argmin(axis=1)
    counts = np.bincount(np.asarray(counts), minlength=8)
    assert np.abs(counts - 2000).max() < 5 * 41.8


def pictured(lengths=(3, 1, 4)):
    """As `demos`, with images whose every pixel is the number of their row."""
    episodes = demos(lengths)
    n = sum(lengths)
    image = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 4, 4, 3))
    return dataclasses.replace(episodes, obs={"state": episodes.obs, "image": image})


def windows_with(episodes, which="all", observe=1):
    return make_windows(episodes, normalisation.fit(episodes.obs, episodes.action), 4, which, observe)


def test_images_stay_bytes():
    windows = windows_with(pictured())
    assert windows.obs["image"].dtype == jnp.uint8
    assert windows.past is None
    batch = jax.jit(sample_batch, static_argnums=2)(jax.random.key(0), windows, 20)
    assert batch.obs["image"].dtype == jnp.uint8
    assert batch.obs["image"].shape == (20, 4, 4, 3)
    plain = windows_with(demos())  # the same windows but for the images, and the same ones are drawn
    for name in ("chunk", "mask", "mode", "episode", "step"):
        np.testing.assert_array_equal(getattr(windows, name), getattr(plain, name))
    np.testing.assert_array_equal(batch.obs["state"], sample_batch(jax.random.key(0), plain, 20).obs)
    row = batch.obs["image"][:, 0, 0, 0]
    np.testing.assert_array_equal(windows.obs["state"][row], batch.obs["state"])


@pytest.mark.parametrize("which", ["all", "first"])
@pytest.mark.parametrize("observe", [2, 3, 6])
def test_history_agrees_with_a_loop(observe, which):
    episodes = pictured()
    windows = windows_with(episodes, which, observe)
    single = windows_with(episodes)
    batch = jax.jit(lambda w: w.batch(jnp.arange(len(windows))))(windows)
    assert batch.obs["image"].shape == (len(windows), 4, 4, 3 * observe)
    assert batch.obs["image"].dtype == jnp.uint8
    for i in range(len(windows)):
        start = int(episodes.starts[int(windows.episode[i])])
        row = start + int(windows.step[i])
        wanted = [max(row - back, start) for back in reversed(range(observe))]
        np.testing.assert_array_equal(
            batch.obs["state"][i], np.concatenate([single.obs["state"][j] for j in wanted])
        )
        np.testing.assert_array_equal(batch.obs["image"][i, 1, 2], np.repeat(wanted, 3))
    assert len(windows.obs["image"]) == (8 if which == "all" else 3)  # every row once, whatever the history


def test_vectors_with_history_are_rows_and_their_numbers():
    windows = windows_with(demos(), observe=2)
    np.testing.assert_array_equal(windows.past[:5], [[0, 0], [0, 1], [1, 2], [3, 3], [4, 4]])
    np.testing.assert_array_equal(windows.obs, windows_with(demos()).obs)
    assert windows.batch(jnp.arange(2)).obs.shape == (2, 6)


@pytest.mark.parametrize("observe", [1, 3])
def test_taking_windows_takes_the_rows_they_need(observe):
    windows = windows_with(pictured(), observe=observe)
    index = np.asarray([6, 2, 2])
    few = windows.take(index)
    assert len(few) == 3
    whole, part = windows.batch(jnp.asarray(index)), few.batch(jnp.arange(3))
    jax.tree.map(np.testing.assert_array_equal, whole, part)
    np.testing.assert_array_equal(few.step, [2, 2, 2])
    assert len(few.obs["image"]) == (3 if observe == 1 else 6)  # rows 4 to 6 and 0 to 2


@pytest.mark.parametrize("which", ["all", "first"])
@pytest.mark.parametrize("observe", [1, 3])
def test_bytes_of_every_kind_are_exact(which, observe):
    for episodes in (demos(), pictured()):
        windows = windows_with(episodes, which, observe)
        held = sum(leaf.nbytes for leaf in jax.tree.leaves(windows))
        assert window_bytes(episodes, 4, which, observe) == held


def test_refuses_a_history_of_nothing():
    with pytest.raises(ValueError, match="observe >= 1"):
        windows_with(demos(), observe=0)
