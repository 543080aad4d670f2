"""Chunk windows: the training set of behavioural cloning, on the device."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.sharding import spread
from mmbc_jax.core.types import Array, Batch, Key
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.jitter import Jitter
from mmbc_jax.ops.normalisation import Normalizer

WINDOWS = ("all", "first")


class Windows(flax.struct.PyTreeNode):
    """One window per recorded step (M = n in all) or per episode, normalised to [-1, 1].

    Attributes:
      obs: observation at the start of the window, [M, D] float32 where it is a plain vector; with `past`, recorded
        observations in the order of their recording, each once.
      chunk: [M, H, A] float32 the actions from there on; past the episode's end its last one repeats.
      mask: [M, H] float32, 1 where the action was recorded, 0 past the episode's end.
      mode: [M] int32 mode label of the window's episode, -1 where there is none.
      episode: [M] int32 index of the episode.
      step: [M] int32 step in the episode at which the window starts.
      past: [M, T] int32 rows of `obs` that make up the window's observation, the oldest first; None where T = 1 and
        `obs` has one row per window.
      jitter: moves the windows of training batches; None where they stay as recorded.
      files: ([G + 1] int32 first window of each of G files and M, [G] float32 share of training windows that each
        gets); None where all windows are drawn alike.
    """

    obs: Obs
    chunk: Array
    mask: Array
    mode: Array
    episode: Array
    step: Array
    past: Array | None = None
    jitter: Jitter | None = None
    files: tuple[Array, Array] | None = None

    def __len__(self) -> int:
        return self.chunk.shape[0]

    def observed(self, indices: Array | np.ndarray) -> Obs:
        """Observations of the windows at `indices` [B] int32, with their history where there is one."""
        if self.past is None:
            return jax.tree.map(lambda rows: rows[indices], self.obs)
        past = self.past[indices]
        return jax.tree.map(lambda rows: _joined(rows[past]), self.obs)

    def every(self) -> Obs:
        """Observations of all windows; without a history the stored ones, uncopied."""
        return self.obs if self.past is None else self.observed(np.arange(len(self)))

    def batch(self, indices: Array | np.ndarray) -> Batch:
        """The windows at `indices` [B] int32, as a training batch."""
        return Batch(obs=self.observed(indices), chunk=self.chunk[indices], mask=self.mask[indices])

    def take(self, indices: np.ndarray) -> Windows:
        """The windows at `indices` [S] int, known outside of a trace, without the rows that no other needs."""
        chosen = jax.tree.map(
            lambda leaf: leaf[indices], self.replace(obs={}, past=None, jitter=None, files=None)
        )
        chosen = chosen.replace(jitter=self.jitter)
        if self.past is None:
            return chosen.replace(obs=self.observed(indices))
        rows, past = np.unique(np.asarray(self.past)[indices], return_inverse=True)
        obs = jax.tree.map(lambda leaf: leaf[rows], self.obs)
        return chosen.replace(obs=obs, past=jnp.asarray(past.reshape(len(indices), -1), jnp.int32))


def _joined(rows: Array) -> Array:
    """[B, T, D] to [B, T D], and images [B, T, h, w, c] to [B, h, w, T c]; the oldest first."""
    rows = jnp.moveaxis(rows, 1, -2)
    return rows.reshape(*rows.shape[:-2], -1)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """Normalised episodes on the host, from which windows are cut.

    Attributes:
      episodes: their boundaries and labels.
      obs: [n, D] or {entry: [n, ...]}, normalised.
      action: [n, A], normalised.
      chunk_len: H.
      observe: T.
    """

    episodes: Episodes
    obs: Any
    action: np.ndarray
    chunk_len: int
    observe: int

    @staticmethod
    def of(episodes: Episodes, normalizer: Normalizer, chunk_len: int, observe: int = 1) -> Recorded:
        """Normalises episodes.

        Args:
          episodes: physical units, not empty.
          normalizer: of single observations, without history.
          chunk_len: H >= 1.
          observe: T >= 1.

        Raises:
          ValueError: `chunk_len` or `observe` below 1 or no episodes.
        """
        if min(chunk_len, observe) < 1 or len(episodes) == 0:
            raise ValueError(
                f"needs chunk_len >= 1, observe >= 1 and episodes, got {chunk_len}, {observe} and "
                f"{len(episodes)} episodes"
            )
        # Normalised before the gather: H times fewer divisions, and the padding is exactly the last action.
        obs = jax.tree.map(np.asarray, normalizer.normalize_obs(episodes.obs))
        action = np.asarray(normalizer.normalize_action(episodes.action))
        return Recorded(episodes, obs, action, chunk_len, observe)

    def past(self, rows: np.ndarray) -> np.ndarray:
        """[M, T] the recorded rows that are observed at `rows` [M], the first of an episode standing in before it."""
        first = self.episodes.starts[self.owner(rows)]
        return np.maximum(rows[:, None] - np.arange(self.observe - 1, -1, -1), first[:, None])

    def owner(self, rows: np.ndarray) -> np.ndarray:
        """[M] the episodes of `rows` [M]."""
        return np.searchsorted(self.episodes.ends, rows, side="right")

    def cut(self, rows: np.ndarray, size: int = 0) -> Windows:
        """The windows that start at `rows` [M], on the host.

        Args:
          rows: [M] int.
          size: rows of `obs` where T > 1, the last one repeated where fewer are needed; 0 for as many as are.
        """
        episodes, owner = self.episodes, self.owner(rows)
        ahead, last = rows[:, None] + np.arange(self.chunk_len), episodes.ends[owner] - 1
        labels = np.full(len(episodes), -1) if episodes.mode is None else episodes.mode
        seen, past = rows, None
        if self.observe > 1:
            past = self.past(rows)
            seen, past = np.unique(past, return_inverse=True)
            seen = np.pad(seen, (0, max(size - len(seen), 0)), mode="edge")
            past = past.reshape(len(rows), -1).astype(np.int32)
        leaves: dict[str, Any] = {
            "obs": jax.tree.map(lambda values: values[seen], self.obs),
            "chunk": self.action[np.minimum(ahead, last[:, None])],
            "mask": (ahead <= last[:, None]).astype(np.float32),
            "mode": labels[owner].astype(np.int32),
            "episode": owner.astype(np.int32),
            "step": (rows - episodes.starts[owner]).astype(np.int32),
            "past": past,
        }
        return Windows(**leaves)


def window_rows(episodes: Episodes, which: str) -> np.ndarray:
    """[M] the recorded rows at which windows start: "all", or the "first" of each episode."""
    return np.arange(len(episodes.action)) if which == "all" else episodes.starts


def make_windows(
    episodes: Episodes, normalizer: Normalizer, chunk_len: int, which: str = "all", observe: int = 1
) -> Windows:
    """Cuts every step of every episode, or each first one, into a window of the actions that follow.

    chunk[i, h] = action[min(i + h, last row of the episode)] and mask[i, h] = 1 while i + h does not
    pass that row.

    Args:
      episodes: physical units, not empty.
      normalizer: maps them to [-1, 1]; of single observations, without history.
      chunk_len: H >= 1.
      which: one of `WINDOWS`: "all" steps, or the "first" of each episode.
      observe: T >= 1, observations of the last steps that are seen at once.

    Returns:
      Windows with M = number of recorded steps, or of episodes.

    Raises:
      ValueError: `chunk_len` or `observe` below 1 or no episodes.
    """
    cut = Recorded.of(episodes, normalizer, chunk_len, observe).cut(window_rows(episodes, which))
    return jax.tree.map(jnp.asarray, cut)


def drawn(key: Key, windows: Windows, size: int) -> Array:
    """[size] int32 windows drawn with replacement: uniformly, or with `files` a file by its share and a window of it.

    So a window of file g, which has M_g, is drawn with probability share_g / M_g.
    """
    if windows.files is None:
        return jax.random.randint(key, (size,), 0, len(windows))
    firsts, shares = windows.files
    key_file, key_row = jax.random.split(key)
    file = jax.random.categorical(key_file, jnp.log(shares), shape=(size,))
    return jax.random.randint(key_row, (size,), firsts[file], firsts[file + 1])


def sample_batch(key: Key, windows: Windows, size: int) -> Batch:
    """`size` windows as `drawn`, and moved by their jitter where they have one.

    Pure, and traceable where `size` is static.
    """
    if windows.jitter is None:
        return spread(windows.batch(drawn(key, windows, size)))
    key, key_move = jax.random.split(key)
    batch = windows.batch(drawn(key, windows, size))
    return spread(windows.jitter.apply(key_move, batch))


def spread_indices(total: int, count: int) -> np.ndarray:
    """At most `count` indices into `total` windows, evenly spread over them."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(np.int32)


def window_bytes(episodes: Episodes, chunk_len: int, which: str = "all", observe: int = 1) -> int:
    """Device memory in bytes that `make_windows` will occupy, all arrays counted."""
    rows = window_rows(episodes, which)
    count, extra = len(rows), 4 * observe if observe > 1 else 0
    own = 4 * (chunk_len * (episodes.action.shape[1] + 1) + 3) + extra
    return count * (episodes.spec.nbytes + own)
