"""What every loader shares: named arrays in, checked `Episodes` out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import numpy as np

from mmbc_jax.core.errors import ConfigError, DataError, nearest
from mmbc_jax.data.episodes import Episodes

_SELECTION = re.compile(r"(?P<key>[^\[\]]+)(?:\[(?P<start>\d*):(?P<stop>\d*)\])?")


def select_obs(
    read: Callable[[str], np.ndarray],
    known: Iterable[str],
    obs_keys: tuple[str, ...],
    defaults: tuple[str, ...],
    angles: tuple[int, ...],
    source: str,
) -> np.ndarray:
    """Concatenates the arrays that make up the observation.

    Args:
      read: returns the array under a key.
      known: the keys that exist.
      obs_keys: arrays to concatenate in order, each `key` or `key[start:stop]` for a range of columns;
        empty for the first of `defaults` that exists.
      defaults: names under which a single observation array is looked for.
      angles: columns of the concatenated observation that hold an angle in radians; each is replaced in
        place by its cosine and sine, since an angle that wraps makes near states look far apart.
      source: for messages.

    Returns:
      [n, D] float32.

    Raises:
      ConfigError: a malformed key or a column that does not exist.
      DataError: a missing array or one that is not [n, size].
    """
    known = list(known)
    if not obs_keys:
        found = [key for key in defaults if key in known]
        if not found:
            raise DataError(f"{source}: no observations under {', '.join(defaults)}; {nearest('obs', known)}")
        obs_keys = (found[0],)
    columns = []
    for text in obs_keys:
        match = _SELECTION.fullmatch(text)
        if match is None:
            raise ConfigError("data.reader.obs_keys", text, "needs key or key[start:stop]")
        values = two_dimensional(_require(read, known, match["key"], source), match["key"], source)
        start, stop = int(match["start"] or 0), int(match["stop"] or values.shape[1])
        if not start < stop <= values.shape[1]:
            raise ConfigError("data.reader.obs_keys", text, f"{match['key']} has columns 0:{values.shape[1]}")
        columns.append(values[:, start:stop])
    if len({len(values) for values in columns}) > 1:
        shapes = ", ".join(f"{key} {values.shape}" for key, values in zip(obs_keys, columns, strict=True))
        raise DataError(f"{source}: observation arrays differ in length: {shapes}")
    return _unwrap(np.concatenate(columns, axis=1), angles)


def _unwrap(obs: np.ndarray, angles: tuple[int, ...]) -> np.ndarray:
    for angle in angles:
        if not isinstance(angle, int) or not 0 <= angle < obs.shape[1]:
            raise ConfigError(
                "data.reader.angles", angle, f"a column of the observation, 0 to {obs.shape[1] - 1}"
            )
    parts = []
    for i, column in enumerate(obs.T):
        parts += [np.cos(column), np.sin(column)] if i in angles else [column]
    with np.errstate(over="ignore"):  # becomes infinite, which the check of the episodes reports by step
        return np.stack(parts, axis=1).astype(np.float32)


def _require(read: Callable[[str], np.ndarray], known: list[str], key: str, source: str) -> np.ndarray:
    if key not in known:
        raise DataError(f"{source}: no array {key!r}; {nearest(key, known)}")
    return read(key)


def two_dimensional(values: np.ndarray, key: str, source: str) -> np.ndarray:
    """`values` if it holds real numbers in two dimensions.

    Raises:
      DataError: another rank or type.
    """
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise DataError(
            f"{source}: {key} is {values.dtype} with shape {values.shape}, must be real numbers [steps, size]"
        )
    return values


def integers(values: np.ndarray, key: str, source: str) -> np.ndarray:
    """`values` if it holds integers in one dimension.

    Raises:
      DataError: another rank or type.
    """
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(
            f"{source}: {key} is {values.dtype} with shape {values.shape}, must be integers [episodes]"
        )
    return values


def assemble(
    read: Callable[[str], np.ndarray],
    known: Iterable[str],
    obs: np.ndarray,
    action_key: str,
    ends: np.ndarray,
    source: str,
) -> Episodes:
    """Episodes from an observation, the action array and the optional `mode` and `num_modes`.

    Args:
      read: returns the array under a key.
      known: the keys that exist.
      obs: [n, D].
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
    return Episodes(obs, action, ends, mode, source, num_modes).validate()
