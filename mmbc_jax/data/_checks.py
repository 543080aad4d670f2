"""What must hold of recorded episodes; `Episodes.validate` asks for all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mmbc_jax.core import registry
from mmbc_jax.core.errors import ConfigError, DataError
from mmbc_jax.core.observations import find_kind, kind_of_rows
from mmbc_jax.data.float32 import LARGEST

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from mmbc_jax.data.episodes import Episodes


def kind_beyond_vectors(values: np.ndarray) -> str:
    """The name of the kind of observation, other than vectors, that rows [n, ...] are stored as; empty for none."""
    try:
        kind = kind_of_rows(values)
    except ConfigError:
        return ""
    return kind if kind != "vector" and values.dtype == find_kind(kind).dtype else ""


def _kinds_beyond_vectors() -> str:
    kinds = {name: find_kind(name) for name in registry.available("observation") if name != "vector"}
    return ", ".join(f"{name} ({np.dtype(kind.dtype)}, {kind.rank + 1} axes)" for name, kind in kinds.items())


def place(episodes: Episodes, row: int) -> str:
    """Where a row lies, in words: its episode and step."""
    index = int(np.searchsorted(episodes.ends, row, side="right"))
    return f"episode {index}, step {row - int(episodes.starts[index])}"


def labels(mode: ArrayLike, source: str) -> np.ndarray:
    """Mode labels as int32.

    Raises:
      DataError: a label does not fit, and would become another one.
    """
    given = np.asarray(mode)
    made = given.astype(np.int32)
    other = np.flatnonzero(made != given)
    if other.size:
        i = int(other[0])
        raise DataError(
            f"{source}: mode of episode {i} is {given.flat[i]}, must be a whole number of 32 bits"
        )
    return made


def check_arrays(episodes: Episodes) -> None:
    """Every array has the axes that it must have, and all have as many rows."""
    named, source = isinstance(episodes.obs, Mapping), episodes.source
    if not episodes.entries:
        raise DataError(f"{source}: observations have no entries")
    for name, values in episodes.entries.items():
        if not (named and kind_beyond_vectors(values)):
            _check_matrix(source, name, values, f", or one of {_kinds_beyond_vectors()}" if named else "")
    _check_matrix(source, "action", episodes.action)
    for name, values in episodes.entries.items():
        if len(values) != len(episodes.action):
            raise DataError(
                f"{source}: {name} has {len(values)} rows and action {len(episodes.action)}; must be equal"
            )


def _check_matrix(source: str, name: str, values: np.ndarray, otherwise: str = "") -> None:
    if values.ndim != 2 or values.shape[1] == 0:
        what = f"{name} has shape {values.shape}" + (f" of {values.dtype}" if otherwise else "")
        raise DataError(f"{source}: {what}, must be [steps, size]{otherwise}")


def check_boundaries(episodes: Episodes) -> None:
    """Episodes follow each other without a gap, and labels are known."""
    source, ends, mode = episodes.source, episodes.ends, episodes.mode
    rows = len(next(iter(episodes.entries.values())))
    if ends.ndim != 1 or len(ends) == 0 or rows == 0:
        raise DataError(f"{source}: holds no episodes ({rows} rows of obs, ends {ends.shape})")
    short = np.flatnonzero(episodes.lengths <= 0)
    if short.size:
        i = int(short[0])
        raise DataError(
            f"{source}: episode {i} starts at row {episodes.starts[i]} and ends at {ends[i]}; ends must increase"
        )
    if ends[-1] != rows:
        raise DataError(f"{source}: the last episode ends at row {ends[-1]} but there are {rows} rows")
    if mode is None:
        return
    if mode.shape != ends.shape:
        hint = (
            "; it has one per step: keep that of each episode's last, mode[episode_ends - 1]"
            if mode.shape == (rows,)
            else ""
        )
        raise DataError(
            f"{source}: mode has shape {mode.shape}, must be [{len(ends)}], one label per episode{hint}"
        )
    wrong = np.flatnonzero((mode < -1) | (mode >= episodes.num_modes))
    if wrong.size:
        i = int(wrong[0])
        raise DataError(
            f"{source}: mode of episode {i} is {mode[i]}; allowed: -1 (none) to {episodes.num_modes - 1}"
        )


def check_finite(episodes: Episodes, name: str, values: np.ndarray) -> None:
    """Every number of an array is finite in float32 and can have been meant; whole numbers always are."""
    if values.dtype.kind != "f":
        return
    for bad, rule in (
        (~np.isfinite(values), "every value must be finite in float32"),
        (np.abs(values) >= LARGEST, f"every value must lie below {LARGEST:g}"),
    ):
        if bad.any():
            row, *column = (int(i) for i in np.argwhere(bad)[0])
            raise DataError(
                f"{episodes.source}: {name} of {place(episodes, row)}, column {', '.join(map(str, column))} is "
                f"{values[(row, *column)]}; {rule} ({int(bad.reshape(len(bad), -1).any(axis=1).sum())} rows do not)"
            )
