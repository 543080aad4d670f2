"""What every loader shares: named arrays in, checked `Episodes` out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mmbc_jax.core.errors import ConfigError, DataError, nearest, shown
from mmbc_jax.core.memory import free_bytes
from mmbc_jax.core.options import Options, option
from mmbc_jax.data._checks import kind_beyond_vectors
from mmbc_jax.data.episodes import PREFIX, Episodes

_SELECTION = re.compile(r"(?P<key>[^\[\]]+)(?:\[(?P<start>[0-9]{0,9}):(?P<stop>[0-9]{0,9})\])?")
_MOST = 2**31 - 1
VECTOR = "state"  # the entry that all observed numbers make where images are observed, too


@dataclasses.dataclass(frozen=True)
class Loader:
    """A loader plug-in as built.

    Attributes:
      suffixes: of the files that it reads, with their dot.
      read: (existing file or folder, options of all readers) to checked episodes in physical units.
      folder: whether an existing folder is one that it reads.
      folders: what such folders are, in words; empty where it reads none.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path, ReaderOptions], Episodes]
    folder: Callable[[Path], bool] = lambda path: False
    folders: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReaderOptions(Options):
    """Options of all readers.

    Push-T, for example, has `obs_keys` of `("state",)` with `angles` of `(4,)`, or `("keypoint", "state[0:2]")`. The
    LAIR set's drawing `two_roads_2` is 48 points of a path that `two_roads_3` carries on from, so it is left out
    unless asked for.
    """

    obs_keys: tuple[str, ...] = option(
        (),
        "observed arrays, each key or key[start:stop]: images as they are, or under another name as entry=key, "
        "numbers in one vector; empty: by name",
    )
    action_key: str = option(
        "action",
        "the action array, or `actions` where the file has that; D3IL: the positions whose changes are the actions",
    )
    filter: str = option("", "robomimic: the filter key under `mask` that says which episodes to read")
    angles: tuple[int, ...] = option((), "observed columns in radians, replaced by cosine and sine")
    shapes: tuple[str, ...] = option((), "drawings: which shapes to read; empty for all")
    drop: tuple[str, ...] = option(("two_roads_2",), "drawings: paths to leave out")
    stride: int = option(1, "drawings: keep every stride-th point", low=1)

    def check(self) -> None:
        """Raises ConfigError where something is to be read twice."""
        for field in ("obs_keys", "angles", "shapes"):
            named = getattr(self, field)
            if len(set(named)) < len(named):
                raise self.error(field, "each once")


def select_obs(
    read: Callable[[str], np.ndarray],
    known: Iterable[str],
    options: ReaderOptions,
    defaults: tuple[str, ...],
    source: str,
) -> Any:
    """The arrays that make up the observation: one vector, or a dict where there are images.

    Images, uint8 [n, height, width, channels], and other kinds become entries of their own, under their keys. The
    columns of all others are concatenated in order, into the entry "state" where there are images. Without `obs_keys`
    the arrays `obs.<entry>` that `Episodes.save_npz` writes are read as they are, else the first of `defaults` that
    exists.

    Args:
      read: returns the array under a key.
      known: the keys that exist.
      options: `angles` count the columns of the concatenated vector; each is replaced in place by cosine and
        sine, since an angle that wraps makes near states look far apart.
      defaults: names under which a single observation array is looked for.
      source: for messages.

    Returns:
      [n, D] as precise as it was recorded, or {entry: [n, ...]}.

    Raises:
      ConfigError: a malformed key, a column that does not exist, or columns of an image.
      DataError: a missing array or one that is neither [n, size] nor an image.
    """
    known, keys = list(known), options.obs_keys
    if not keys and any(key.startswith(PREFIX) for key in known):
        if options.angles:
            raise ConfigError(
                "data.reader.angles", options.angles, "obs_keys that say whose columns these are"
            )
        return {
            key.removeprefix(PREFIX): _entry(read(key), key, source)
            for key in known
            if key.startswith(PREFIX)
        }
    if not keys:
        found = [key for key in defaults if key in known]
        if not found:
            raise DataError(f"{source}: no observations under {', '.join(defaults)}; {nearest('obs', known)}")
        keys = (found[0],)
    chosen = [_select(read, known, text, source) for text in keys]
    if len({len(values) for _, values in chosen}) > 1:
        shapes = ", ".join(f"{key} {values.shape}" for key, (_, values) in zip(keys, chosen, strict=True))
        raise DataError(f"{source}: observation arrays differ in length: {shapes}")
    others = {name: values for name, values in chosen if kind_beyond_vectors(values)}
    vectors = [values for _, values in chosen if not kind_beyond_vectors(values)]
    if not vectors:
        if options.angles:
            raise ConfigError("data.reader.angles", options.angles, "(): no vector is observed")
        return others
    state = _unwrap(np.concatenate(vectors, axis=1), options.angles)
    return {**others, VECTOR: state} if others else state


def check_memory(nbytes: int, key: str, source: str) -> None:
    """Raises DataError where an array needs more than half of the memory that is free: a copy of it is made."""
    free = free_bytes()
    if free and nbytes > free / 2:
        raise DataError(
            f"{source}: {shown(key)} needs {nbytes / 2**30:,.1f} GiB, and {free / 2**30:.1f} GiB of memory are free, "
            "of which an array may take half; divide the file"
        )


def _entry(values: np.ndarray, key: str, source: str) -> np.ndarray:
    return values if kind_beyond_vectors(values) else two_dimensional(values, key, source)


def selection(field: str, text: str) -> tuple[str, int, int]:
    """(key, start, stop) of `key` or `key[start:stop]`, the stop 0 where none is given.

    Raises:
      ConfigError: it is of neither form; `field` is where it stands.
    """
    match = _SELECTION.fullmatch(text)
    if match is None:
        raise ConfigError(field, text, "needs key or key[start:stop]")
    return match["key"], int(match["start"] or 0), int(match["stop"] or 0)


def named_selection(text: str) -> tuple[str, str, int, int]:
    """(entry, key, start, stop) of one of `obs_keys`, the entry empty where none is named; see `selection`."""
    name, given, rest = text.partition("=")
    return (name if given else "", *selection("data.reader.obs_keys", rest if given else text))


def _select(
    read: Callable[[str], np.ndarray], known: list[str], text: str, source: str
) -> tuple[str, np.ndarray]:
    """(name of the entry, array) of one of `obs_keys`."""
    name, key, start, stop = named_selection(text)
    values = _entry(_require(read, known, key, source), key, source)
    if kind_beyond_vectors(values):
        if start or stop:
            raise ConfigError("data.reader.obs_keys", text, f"{key} is no vector and read whole")
        return name or key.removeprefix(PREFIX), values
    if name:
        raise ConfigError("data.reader.obs_keys", text, f"{key} without a name: numbers make one vector")
    stop = stop or values.shape[1]
    if not start < stop <= values.shape[1]:
        raise ConfigError("data.reader.obs_keys", text, f"{key} has columns 0:{values.shape[1]}")
    return VECTOR, values[:, start:stop]


def _unwrap(obs: np.ndarray, angles: tuple[int, ...]) -> np.ndarray:
    for angle in angles:
        if not isinstance(angle, int) or not 0 <= angle < obs.shape[1]:
            raise ConfigError(
                "data.reader.angles", angle, f"a column of the observation, 0 to {obs.shape[1] - 1}"
            )
    parts = []
    for i, column in enumerate(obs.T):
        parts += [np.cos(column), np.sin(column)] if i in angles else [column]
    return np.stack(parts, axis=1)


def _require(read: Callable[[str], np.ndarray], known: list[str], key: str, source: str) -> np.ndarray:
    if key not in known:
        raise DataError(f"{source}: no array {key!r}; {nearest(key, known)}")
    return read(key)


def two_dimensional(values: np.ndarray, key: str, source: str) -> np.ndarray:
    """`values` if it holds real numbers in two dimensions.

    Raises:
      DataError: another rank or type, or no columns.
    """
    if values.ndim != 2 or values.shape[1] == 0 or values.dtype.kind not in "fiub":
        raise DataError(
            f"{source}: {key} is {values.dtype} with shape {values.shape}, must be real numbers [steps, size]"
        )
    return values


def integers(values: np.ndarray, key: str, source: str) -> np.ndarray:
    """`values` as int64 if it holds integers in one dimension.

    Raises:
      DataError: another rank or type, or beyond 31 bits, in which they are counted.
    """
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(
            f"{source}: {key} is {values.dtype} with shape {values.shape}, must be integers [episodes]"
        )
    large = np.flatnonzero((values > _MOST) | (values < -_MOST))
    if large.size:
        raise DataError(
            f"{source}: {key} of {int(large[0])} is {values[large[0]]}, must lie between -{_MOST} and {_MOST}"
        )
    return values.astype(np.int64)


def assemble(
    read: Callable[[str], np.ndarray],
    known: Iterable[str],
    obs: Any,
    action_key: str,
    ends: np.ndarray,
    source: str,
) -> Episodes:
    """Episodes from an observation, the action array and the optional `mode` and `num_modes`.

    Args:
      read: returns the array under a key.
      known: the keys that exist.
      obs: as `select_obs` returns it.
      action_key: name of the action array [n, A].
      ends: [E] cumulative episode ends.
      source: for messages.

    Returns:
      Checked episodes. Without `num_modes` K is the largest label plus one.

    Raises:
      DataError: a missing array, a wrong shape, or whatever `Episodes.validate` finds.
    """
    known = list(known)
    action = two_dimensional(_require(read, known, action_key, source), action_key, source)
    mode = integers(read("mode"), "mode", source) if "mode" in known else None
    num_modes = 0
    if mode is not None:
        stated = read("num_modes") if "num_modes" in known else np.asarray(mode.max(initial=-1) + 1)
        if stated.shape != () or stated.dtype.kind not in "iu":
            raise DataError(
                f"{source}: num_modes is {stated.dtype} with shape {stated.shape}, must be an integer"
            )
        num_modes = int(stated)
        if not 0 <= num_modes <= _MOST:
            raise DataError(f"{source}: num_modes is {num_modes}, must be 0 to {_MOST}")
    return Episodes(obs, action, ends, mode, source, num_modes).validate()
