"""Recorded episodes on the host: what every loader returns and what every training set starts from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from mmbc_jax.core.errors import DataError
from mmbc_jax.core.files import write_atomic


@dataclasses.dataclass(frozen=True, eq=False)
class Episodes:
    """Demonstrations in physical units, all episodes one after another.

    Row i of `action` was commanded when row i of `obs` was observed. Arrays are converted to the
    types below; `validate` checks their contents.

    Attributes:
      obs: [n, D] float32 observations.
      action: [n, A] float32 actions.
      ends: [E] int64, one past the last row of each episode (cumulative, the last is n).
      mode: [E] int32 mode label of each episode, -1 where it has none; None if nothing is labelled.
      source: where the data came from, for messages.
      num_modes: K; labels lie in 0 .. K-1. 0 if nothing is labelled.
    """

    obs: np.ndarray
    action: np.ndarray
    ends: np.ndarray
    mode: np.ndarray | None
    source: str
    num_modes: int = 0

    def __post_init__(self) -> None:
        # Values that do not fit float32 become infinite here, and `validate` reports them by episode.
        with np.errstate(over="ignore"):
            object.__setattr__(self, "obs", np.asarray(self.obs, np.float32))
            object.__setattr__(self, "action", np.asarray(self.action, np.float32))
        object.__setattr__(self, "ends", np.asarray(self.ends, np.int64))
        if self.mode is not None:
            object.__setattr__(self, "mode", np.asarray(self.mode, np.int32))

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
          IndexError: there is no such episode.
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
            obs=self.obs[rows],
            action=self.action[rows],
            ends=np.cumsum(self.lengths[indices]),
            mode=None if self.mode is None else self.mode[indices],
        )

    def split(self, fraction: float, seed: int) -> tuple[Episodes, Episodes]:
        """Divides whole episodes into a training and a held-out set, each mode in proportion.

        Episode with rank r (random, 0-based) among the c of its mode gets the key (r + u) / c, with one
        uniform u per mode; the smallest keys are held out. So every mode gives its share to within one
        episode and the total is exact.

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
        rng = np.random.default_rng(seed)
        labels = np.zeros(total, np.int32) if self.mode is None else self.mode
        keys = np.empty(total)
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            keys[members] = (rng.permutation(len(members)) + rng.uniform()) / len(members)
        held = np.zeros(total, bool)
        held[np.argsort(keys, kind="stable")[:count]] = True
        return self.select(np.flatnonzero(~held)), self.select(np.flatnonzero(held))

    def validate(self) -> Episodes:
        """Checks shapes, episode boundaries, labels and that every number is finite.

        Returns:
          self.

        Raises:
          DataError: what is wrong, with the episode and the step where that makes sense.
        """
        self._validate_layout()
        for name, values in (("obs", self.obs), ("action", self.action)):
            bad = ~np.isfinite(values)
            if bad.any():
                row, column = (int(i) for i in np.argwhere(bad)[0])
                index = int(np.searchsorted(self.ends, row, side="right"))
                raise DataError(
                    f"{self.source}: {name} of episode {index}, step {row - int(self.starts[index])}, "
                    f"column {column} is {values[row, column]}; every value must be finite in float32 "
                    f"({int(bad.any(axis=1).sum())} rows are not)"
                )
        return self

    def _validate_layout(self) -> None:
        def refuse(what: str) -> DataError:
            return DataError(f"{self.source}: {what}")

        for name, values in (("obs", self.obs), ("action", self.action)):
            if values.ndim != 2 or values.shape[1] == 0:
                raise refuse(f"{name} has shape {values.shape}, must be [steps, size]")
        if self.ends.ndim != 1 or len(self.ends) == 0 or len(self.obs) == 0:
            raise refuse(f"holds no episodes (obs {self.obs.shape}, ends {self.ends.shape})")
        if len(self.obs) != len(self.action):
            raise refuse(f"obs has {len(self.obs)} rows and action {len(self.action)}; must be equal")
        short = np.flatnonzero(self.lengths <= 0)
        if short.size:
            i = int(short[0])
            raise refuse(
                f"episode {i} starts at row {self.starts[i]} and ends at {self.ends[i]}; ends must increase"
            )
        if self.ends[-1] != len(self.obs):
            raise refuse(f"the last episode ends at row {self.ends[-1]} but there are {len(self.obs)} rows")
        if self.mode is None:
            return
        if self.mode.shape != self.ends.shape:
            raise refuse(f"mode has shape {self.mode.shape}, must be [{len(self)}], one label per episode")
        wrong = np.flatnonzero((self.mode < -1) | (self.mode >= self.num_modes))
        if wrong.size:
            i = int(wrong[0])
            raise refuse(f"mode of episode {i} is {self.mode[i]}; allowed: -1 (none) to {self.num_modes - 1}")

    def save_npz(self, path: str | Path) -> Path:
        """Writes the layout that `data.load` reads; the file appears complete or not at all.

        Args:
          path: ends in `.npz`; its folder must exist.

        Returns:
          `path` as a Path.

        Raises:
          DataError: the file cannot be written there.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise DataError(f"{path}: the file name must end in .npz")
        arrays: dict[str, Any] = {"obs": self.obs, "action": self.action, "episode_ends": self.ends}
        if self.mode is not None:
            arrays |= {"mode": self.mode, "num_modes": np.asarray(self.num_modes, np.int32)}
        try:
            write_atomic(path, lambda stream: np.savez_compressed(stream, **arrays))
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error})") from error
        return path
