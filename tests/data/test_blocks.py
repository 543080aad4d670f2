from __future__ import annotations

import threading

import jax
import numpy as np
import pytest

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.data.blocks import BUFFERS, Blocks
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.windows import make_windows, sample_batch, window_bytes
from mmbc_jax.ops import normalisation
from tests.toys.products import spared

H = 4
LENGTHS = (30, 1, 200, 75, 64, 3, 2, 1, 9, 115)  # 500 windows


def demos(images):
    rng = np.random.default_rng(0)
    n = sum(LENGTHS)
    obs = rng.normal(size=(n, 3)).astype(np.float32)
    if images:
        obs = {"state": obs, "image": rng.integers(0, 256, (n, 4, 4, 3), np.uint8)}
    labels = np.arange(len(LENGTHS)) % 3
    return Episodes(obs, rng.normal(size=(n, 2)), np.cumsum(LENGTHS), labels, "test", 3)


def fitted(episodes):
    return normalisation.fit(episodes.obs, episodes.action)


def make(episodes, observe=1, which="all", share=0.2, seed=0):
    """Blocks of about `share` of all windows."""
    megabytes = share * BUFFERS * window_bytes(episodes, H, which, observe) / 2**20
    return Blocks(episodes, fitted(episodes), H, megabytes, seed, which, observe)


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("observe", [1, 3])
@pytest.mark.parametrize("which", ["all", "first"])
@spared("all-3-*", "first-1-*")
def test_every_window_comes_once_per_pass_as_it_is_in_memory(images, observe, which):
    episodes = demos(images)
    whole = make_windows(episodes, fitted(episodes), H, which, observe)
    blocks = make(episodes, observe, which, 0.37)
    assert blocks.total == len(whole)
    place = {pair: i for i, pair in enumerate(zip(whole.episode.tolist(), whole.step.tolist(), strict=True))}
    seen, shapes = [], set()
    for epoch in range(-(-3 * blocks.total // blocks.size)):
        block = blocks.block(epoch)
        shapes.add(tuple((x.shape, x.dtype) for x in jax.tree.leaves(block)))
        index = [place[pair] for pair in zip(block.episode.tolist(), block.step.tolist(), strict=True)]
        seen += index
        jax.tree.map(
            np.testing.assert_array_equal, whole.batch(np.asarray(index)), block.batch(np.arange(blocks.size))
        )
        np.testing.assert_array_equal(block.mode, whole.mode[np.asarray(index)])
        if images:
            assert block.obs["image"].dtype == np.uint8
    assert len(shapes) == 1  # one program for all blocks
    for first in range(0, 3 * blocks.total, blocks.total):
        assert sorted(seen[first : first + blocks.total]) == list(range(blocks.total))


@pytest.mark.parametrize("observe", [1, 5])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_all_blocks_that_exist_fit_into_the_memory_asked_for(observe, share):
    """And no fewer windows than fit: half of what is paid for at the least, the rest are spare rows."""
    episodes = demos(images=True)
    budget = share * BUFFERS * window_bytes(episodes, H, observe=observe)
    blocks = make(episodes, observe, share=share)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(blocks.block(0)))
    assert BUFFERS * held <= budget
    assert held > 0.5 * budget / BUFFERS
    assert blocks.size <= blocks.total


def test_a_block_is_a_function_of_the_seed_and_its_number():
    episodes = demos(images=True)
    one, again, other = (make(episodes, 2, seed=seed) for seed in (7, 7, 8))
    in_order = [one.block(epoch) for epoch in range(9)]
    resumed = again.block(8)  # 9 blocks of a fifth are almost two passes
    jax.tree.map(np.testing.assert_array_equal, in_order[8], resumed)
    assert not np.array_equal(in_order[0].step, other.block(0).step)
    first, second = one.rows(0), np.concatenate([one.rows(i) for i in range(12)])[one.total :][: one.size]
    assert not np.array_equal(first, second)  # another order in the next pass


def test_passes_are_mixed():
    """A block of a fifth of all windows holds runs of several episodes, not the first fifth."""
    blocks = make(demos(images=False))
    assert all(len(set(blocks.block(epoch).episode.tolist())) > 1 for epoch in range(4))


def test_the_next_block_is_under_way_while_one_is_used():
    made, begun, release = [], threading.Event(), threading.Event()

    def put(windows):
        made.append(windows)
        if len(made) == 2:
            begun.set()
            assert release.wait(60)  # the second block takes its time
        return jax.device_put(windows)

    episodes = demos(images=True)
    blocks = Blocks(episodes, fitted(episodes), H, 0.06, 0, put=put)
    first = blocks.block(0)  # does not wait for the second, or that would fail
    assert begun.wait(60)  # which nobody has asked for yet
    release.set()
    second = blocks.block(1)
    assert [np.array_equal(a.step, b.step) for a, b in zip(made, (first, second), strict=False)] == [
        True,
        True,
    ]
    assert blocks.block(1) is second  # asked twice, made once
    blocks.block(2)
    assert len(made) <= 4  # 0, 1, 2 and perhaps already 3


def test_blocks_are_sampled_as_windows_are():
    episodes = demos(images=True)
    block = make(episodes, 2).block(0)
    batch = jax.jit(sample_batch, static_argnums=2)(jax.random.key(0), block, 7)
    assert batch.obs["image"].shape == (7, 4, 4, 6)
    assert batch.obs["state"].shape == (7, 6)


def test_errors_while_making_a_block_reach_the_caller():
    def put(windows):
        raise RuntimeError("device out of memory")

    episodes = demos(images=False)
    with pytest.raises(RuntimeError, match="out of memory"):
        Blocks(episodes, fitted(episodes), H, 0.01, 0, put=put).block(0)


def test_too_little_memory_is_refused():
    episodes = demos(images=True)
    with pytest.raises(ConfigError, match=r"config.data.stream = 0.0001 .* at least"):
        Blocks(episodes, fitted(episodes), H, 0.0001, 0)
    assert Blocks(episodes, fitted(episodes), H, 1000.0, 0).size == 500  # never more than there are
