"""Recorded episodes on the host: what every loader returns and what every training set starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmbc_jax.core.errors import DataError
from mmbc_jax.core.files import write_atomic
from mmbc_jax.core.observations import ObsEntry, ObsSpec, kind_of_rows
from mmbc_jax.data._checks import check_arrays, check_boundaries, check_finite, labels
from mmbc_jax.data.float32 import carried

PREFIX = "obs."  # of the arrays of a dict of observations in a file, each `obs.<entry>`


@dataclasses.dataclass(frozen=True, eq=False)
class Episodes:
    """Demonstrations in physical units, all episodes one after another.

    Row i of `action` was commanded when row i of `obs` was observed. Arrays are converted to the
    types below; `validate` checks their contents.

    Attributes:
      obs: [n, D] float32 observations; or a dict of entries, vectors [n, D] float32 and images [n, height, width,
        channels] uint8.
      action: [n, A] float32 actions.
      ends: [E] int64, one past the last row of each episode (cumulative, the last is n).
      mode: [E] int32 mode label of each episode, -1 where it has none; None if nothing is labelled.
      source: where the data came from, for messages.
      num_modes: K; labels lie in 0 .. K-1. 0 if nothing is labelled.
      notes: what was noticed when they were read, in sentences.
      part: [E] int32 which file each episode is of, ascending; None for one file.
      weights: share of training windows of each file; empty where all windows are drawn alike.

    Raises:
      DataError: float32 would lose what a column says.
    """

    obs: Any
    action: np.ndarray
    ends: np.ndarray
    mode: np.ndarray | None
    source: str
    num_modes: int = 0
    notes: tuple[str, ...] = ()
    part: np.ndarray | None = None
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        # Values that do not fit float32 become infinite here, and `validate` reports them by episode.
        notes = list(self.notes)
        object.__setattr__(self, "action", _typed(self.action, "action", self.source, notes))
        named = {name: _typed(values, name, self.source, notes) for name, values in self.entries.items()}
        object.__setattr__(self, "obs", named if isinstance(self.obs, Mapping) else named["obs"])
        object.__setattr__(self, "notes", tuple(notes))
        object.__setattr__(self, "ends", np.asarray(self.ends, np.int64))
        if self.mode is not None:
            object.__setattr__(self, "mode", labels(self.mode, self.source))

    @property
    def entries(self) -> dict[str, np.ndarray]:
        """The arrays of the observations by name; a plain vector is "obs"."""
        return dict(self.obs) if isinstance(self.obs, Mapping) else {"obs": self.obs}

    @property
    def spec(self) -> ObsSpec:
        """What one observation looks like, as far as arrays tell."""
        if not isinstance(self.obs, Mapping):
            return ObsSpec.vector(self.obs.shape[1])
        return ObsSpec.of({name: _entry(values) for name, values in self.obs.items()})

    def map_obs(self, change: Callable[[np.ndarray], Any]) -> Any:
        """The observations with every array changed."""
        if isinstance(self.obs, Mapping):
            return {name: change(values) for name, values in self.obs.items()}
        return change(self.obs)

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def starts(self) -> np.ndarray:
        """[E] int64 first row of each episode."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])[: len(self.ends)]

    @property
    def lengths(self) -> np.ndarray:
        """[E] int64 number of steps of each episode."""
        return self.ends - self.starts

    def episode(self, i: int) -> slice:
        """Rows of episode `i`; negative indices count from the end.

        Raises:
          IndexError: there is none.
        """
        i = range(len(self))[i]
        return slice(int(self.starts[i]), int(self.ends[i]))

    def select(self, indices: np.ndarray) -> Episodes:
        """The episodes at `indices` ([S] int), in that order."""
        indices = np.asarray(indices, np.int64)
        parts = [self.episode(int(i)) for i in indices]
        rows = np.concatenate([np.arange(p.start, p.stop) for p in parts] or [np.zeros(0, np.int64)])
        return dataclasses.replace(
            self,
            obs=self.map_obs(lambda values: values[rows]),
            action=self.action[rows],
            ends=np.cumsum(self.lengths[indices]),
            mode=None if self.mode is None else self.mode[indices],
            part=None if self.part is None else self.part[indices],
        )

    def split(self, fraction: float, seed: int) -> tuple[Episodes, Episodes]:
        """Divides whole episodes into a training and a held-out set, each mode in proportion.

        Every mode gives its share to within one episode and the total is exact.

        Args:
          fraction: share to hold out, in [0, 1). Above 0 it holds out at least one episode where there
            are two; at least one always stays for training.
          seed: seed of the division; the same seed gives the same sets.

        Returns:
          (train, held_out); episodes keep their order. `held_out` is empty at fraction 0.

        Raises:
          ValueError: `fraction` outside [0, 1).
        """
        if not 0.0 <= fraction < 1.0:
            raise ValueError(f"fraction = {fraction!r} must lie in [0, 1)")
        total = len(self)
        count = min(max(round(fraction * total), 1), total - 1) if fraction > 0 else 0
        labels = np.zeros(total, np.int32) if self.mode is None else self.mode
        held = _in_proportion(labels, count, np.random.default_rng(seed))
        return self.select(np.flatnonzero(~held)), self.select(np.flatnonzero(held))

    def validate(self) -> Episodes:
        """Checks shapes, episode boundaries, labels and that every number is finite.

        Returns:
          self.

        Raises:
          DataError: what is wrong, with the episode and the step where that makes sense.
        """
        check_arrays(self)
        check_boundaries(self)
        for name, values in (*self.entries.items(), ("action", self.action)):
            check_finite(self, name, values)
        return self

    def save_npz(self, path: str | Path) -> Path:
        """Writes the layout that `data.load` reads; the file appears complete or not at all.

        Args:
          path: ends in `.npz`; its folder must exist. Returned as a Path.

        Raises:
          DataError: the file cannot be written there.
        """
        return _saved(Path(path), _arrays(self))


def _in_proportion(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """[E] bool: `count` of E episodes, each label in proportion.

    The episode with rank r (random, 0-based) among the c of its label gets the key (r + u) / c, with one uniform u
    per label; the smallest keys are chosen.
    """
    keys = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        keys[members] = (rng.permutation(len(members)) + rng.uniform()) / len(members)
    chosen = np.zeros(len(labels), bool)
    chosen[np.argsort(keys, kind="stable")[:count]] = True
    return chosen


def _entry(values: np.ndarray) -> ObsEntry:
    return ObsEntry(values.shape[1:], kind_of_rows(values))


def _typed(values: Any, name: str, source: str, notes: list[str]) -> np.ndarray:
    """What is no row of vectors as it is, vectors as float32; what is to be said of them goes into `notes`."""
    values = np.asarray(values)
    if values.ndim > 2:
        return values
    made, found = carried(values, name, source)
    notes += found
    return made


def _arrays(episodes: Episodes) -> dict[str, Any]:
    """What `Episodes.save_npz` writes."""
    arrays: dict[str, Any] = {"action": episodes.action, "episode_ends": episodes.ends}
    plain = not isinstance(episodes.obs, Mapping)
    arrays |= {name if plain else f"{PREFIX}{name}": values for name, values in episodes.entries.items()}
    if episodes.mode is not None:
        arrays |= {"mode": episodes.mode, "num_modes": np.asarray(episodes.num_modes, np.int32)}
    return arrays


def _saved(path: Path, arrays: dict[str, Any]) -> Path:
    """As `Episodes.save_npz`."""
    if path.suffix != ".npz":
        raise DataError(f"{path}: the file name must end in .npz")
    try:
        write_atomic(path, lambda stream: np.savez_compressed(stream, **arrays))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error})") from error
    return path
