"""Chunk windows: the training set of behavioural cloning, on the device."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array, Batch, Key
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.ops.normalisation import Normalizer

WINDOWS = ("all", "first")


class Windows(flax.struct.PyTreeNode):
    """One window per recorded step (M = n in all) or per episode, normalised to [-1, 1].

    Attributes:
      obs: [M, D] float32 observation at the start of the window.
      chunk: [M, H, A] float32 the actions from there on; past the episode's end its last one repeats.
      mask: [M, H] float32, 1 where the action was recorded, 0 past the episode's end.
      mode: [M] int32 mode label of the window's episode, -1 where there is none.
      episode: [M] int32 index of the episode.
      step: [M] int32 step in the episode at which the window starts.
    """

    obs: Array
    chunk: Array
    mask: Array
    mode: Array
    episode: Array
    step: Array

    def __len__(self) -> int:
        return self.obs.shape[0]

    def batch(self, indices: Array) -> Batch:
        """The windows at `indices` [B] int32, as a training batch."""
        return Batch(obs=self.obs[indices], chunk=self.chunk[indices], mask=self.mask[indices])


def make_windows(episodes: Episodes, normalizer: Normalizer, chunk_len: int, which: str = "all") -> Windows:
    """Cuts every step of every episode, or each first one, into a window of the actions that follow.

    chunk[i, h] = action[min(i + h, last row of the episode)] and mask[i, h] = 1 while i + h does not
    pass that row.

    Args:
      episodes: physical units, not empty.
      normalizer: maps them to [-1, 1].
      chunk_len: H >= 1.
      which: one of `WINDOWS`: "all" steps, or the "first" of each episode.

    Returns:
      Windows with M = number of recorded steps, or of episodes.

    Raises:
      ValueError: `chunk_len` below 1 or no episodes.
    """
    if chunk_len < 1 or len(episodes) == 0:
        raise ValueError(f"needs chunk_len >= 1 and episodes, got {chunk_len} and {len(episodes)} episodes")
    lengths = episodes.lengths
    owner = np.repeat(np.arange(len(episodes)), lengths)
    last = np.repeat(episodes.ends - 1, lengths)
    rows = np.arange(len(owner)) if which == "all" else episodes.starts
    owner, last = owner[rows], last[rows]
    ahead = rows[:, None] + np.arange(chunk_len)
    labels = np.full(len(episodes), -1) if episodes.mode is None else episodes.mode
    # Normalised before the gather: H times fewer divisions, and the padding is exactly the last action.
    action = np.asarray(normalizer.normalize_action(episodes.action))
    return Windows(
        obs=jnp.asarray(normalizer.normalize_obs(episodes.obs[rows])),
        chunk=jnp.asarray(action[np.minimum(ahead, last[:, None])]),
        mask=jnp.asarray(ahead <= last[:, None], jnp.float32),
        mode=jnp.asarray(labels[owner], jnp.int32),
        episode=jnp.asarray(owner, jnp.int32),
        step=jnp.asarray(rows - episodes.starts[owner], jnp.int32),
    )


def sample_batch(key: Key, windows: Windows, size: int) -> Batch:
    """`size` windows drawn uniformly with replacement; pure, and traceable where `size` is static."""
    return windows.batch(jax.random.randint(key, (size,), 0, len(windows)))


def spread_indices(total: int, count: int) -> np.ndarray:
    """At most `count` indices into `total` windows, evenly spread over them."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(np.int32)


def window_bytes(episodes: Episodes, chunk_len: int) -> int:
    """Device memory in bytes that `make_windows` will occupy: 4 per number, all arrays counted."""
    steps, obs_dim = episodes.obs.shape
    return 4 * steps * (obs_dim + chunk_len * (episodes.action.shape[1] + 1) + 3)
