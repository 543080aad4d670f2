"""Episodes that a file keeps one by one, as arrays over all of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmbc_jax.core.errors import DataError, cut
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.loaders._columns import ReaderOptions, assemble, check_memory, select_obs
from mmbc_jax.data.loaders._images import short_names

_STANDARD = "action"  # the default of `data.reader.action_key`


@dataclasses.dataclass(frozen=True)
class Recording:
    """One episode in a file.

    Attributes:
      name: of the episode there, for messages.
      arrays: by key, each [steps or more, ...]; sliced when they are read.
    """

    name: str
    arrays: Mapping[str, Any]


def action_key(options: ReaderOptions, known: Mapping[str, Any]) -> str:
    """The key of the actions: as asked for, or `actions` where that is what a format calls them."""
    key = options.action_key
    return "actions" if key == _STANDARD and key not in known and "actions" in known else key


@dataclasses.dataclass(frozen=True)
class Joined:
    """Arrays over all episodes of a file, each read when it is asked for.

    Attributes:
      parts: the episodes, in their order.
      lengths: steps of each.
      source: for messages.
    """

    parts: Sequence[Recording]
    lengths: Sequence[int]
    source: str

    @staticmethod
    def of(parts: Sequence[Recording], key: str, source: str) -> Joined:
        """Episodes as long as their actions.

        Raises:
          DataError: there are none, or one has no array under `key`.
        """
        if not parts:
            raise DataError(f"{source}: holds no episodes")
        lengths = []
        for part in parts:
            if key not in part.arrays:
                raise DataError(
                    f"{source}: {part.name} has no array {key!r}; found {cut(', '.join(sorted(part.arrays)))}"
                )
            shape = part.arrays[key].shape
            if not shape or shape[0] == 0:
                raise DataError(
                    f"{source}: {key} of {part.name} has shape {shape}, must be [steps, size], one step or more"
                )
            lengths.append(int(shape[0]))
        return Joined(parts, lengths, source)

    @property
    def known(self) -> list[str]:
        """The keys of the first episode that all others have, too."""
        return [key for key in self.parts[0].arrays if all(key in part.arrays for part in self.parts)]

    def read(self, key: str) -> np.ndarray:
        """[n, ...] the array under a key, one episode after another; rows past an episode's actions are left out.

        Raises:
          DataError: an episode has fewer rows than actions, or rows of another shape or type than the first.
        """
        first = self.parts[0].arrays[key]
        row = math.prod(first.shape[1:]) * first.dtype.itemsize
        check_memory(sum(self.lengths) * row, key, self.source)
        found = []
        for part, length in zip(self.parts, self.lengths, strict=True):
            array = part.arrays[key]
            if array.shape[1:] != first.shape[1:] or array.shape[:1] < (length,):
                raise DataError(
                    f"{self.source}: {key} of {part.name} has shape {array.shape}, must be "
                    f"[{length} or more, {', '.join(map(str, first.shape[1:]))}] as its actions and "
                    f"{self.parts[0].name} have it"
                )
            found.append(np.asarray(array[:length]))
        return np.concatenate(found)

    def episodes(self, options: ReaderOptions, key: str, defaults: tuple[str, ...]) -> Episodes:
        """Checked episodes of the observations that are asked for.

        Args:
          options: of the reader.
          key: of the actions.
          defaults: as of `select_obs`.
        """
        obs = short_names(select_obs(self.read, self.known, options, defaults, self.source), self.source)
        return assemble(self.read, self.known, obs, key, np.cumsum(self.lengths), self.source)
