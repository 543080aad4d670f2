"""Demonstrations of several files as one set, with a part of each and the share of batches that each gets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmbc_jax.core.errors import ConfigError, DataError
from mmbc_jax.data import load as load_lib
from mmbc_jax.data.episodes import Episodes

_RANGE = re.compile(r"(?P<start>[0-9]{0,9}):(?P<stop>[0-9]{0,9})(?::(?P<step>[1-9][0-9]{0,8}))?")


def paths(text: str) -> tuple[str, ...]:
    """The files in `data.path`, commas between several; a file that exists may have commas in its name."""
    if "," not in text or load_lib.there(text):
        return (text,)
    return tuple(part.strip() for part in text.split(",") if part.strip())


def there(text: str) -> bool:
    """Whether all files of a `data.path` exist."""
    return all(load_lib.there(path) for path in paths(text))


def read(
    text: str, reader: Any = None, subset: Sequence[str] = (), weights: Sequence[float] = ()
) -> Episodes:
    """Reads the files of `data.path`, one after another.

    Args:
      text: `data.path`.
      reader: as `load` takes it, of all files.
      subset: for each file which of its episodes, `start:stop` or `start:stop:step`; empty for all of all files.
      weights: for each file the share of training windows that are drawn from it, whatever its size; empty to draw
        all windows alike.

    Returns:
      Checked episodes; labelled if a file is, with -1 where one is not.

    Raises:
      ConfigError: not one entry per file, an entry that is no range of episodes, or one without any.
      DataError: as `load`, or the files do not have the same observations and actions.
    """
    files = paths(text)
    for field, given in (("subset", subset), ("weights", weights)):
        if given and len(given) != len(files):
            raise ConfigError(
                f"data.{field}", tuple(given), f"one for each of the {len(files)} files in data.path"
            )
    if weights and not sum(weights) > 0:
        raise ConfigError("data.weights", tuple(weights), "at least one above 0")
    parts = []
    for i, file in enumerate(files):
        episodes = load_lib.load(file, reader)
        if subset:
            episodes = episodes.select(_chosen(subset[i], episodes))
        parts.append(episodes)
    return _joined(parts, tuple(map(float, weights)))


def _chosen(text: str, episodes: Episodes) -> np.ndarray:
    """The indices that a range picks, as Python's slices do, but within what there is."""
    match, count = _RANGE.fullmatch(text.strip()), len(episodes)
    rule = f"start:stop or start:stop:step within the {count} episodes of {episodes.source}"
    if match is None:
        raise ConfigError("data.subset", text, rule)
    start, stop = int(match["start"] or 0), int(match["stop"] or count)
    if not start < stop <= count:
        raise ConfigError("data.subset", text, rule)
    return np.arange(start, stop, int(match["step"] or 1))


def _joined(parts: Sequence[Episodes], weights: tuple[float, ...]) -> Episodes:
    """Episodes of several files one after another."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        got, want = (dict(one.spec.entries) for one in (part, first))
        if isinstance(part.obs, Mapping) != isinstance(first.obs, Mapping) or got != want:
            raise DataError(
                f"{part.source}: observations have {_words(part)}, {first.source} has {_words(first)}"
            )
        if part.action.shape[1] != first.action.shape[1]:
            raise DataError(
                f"{part.source}: actions have size {part.action.shape[1]}, {first.source} has "
                f"{first.action.shape[1]}"
            )
    mode = None
    if any(part.mode is not None for part in parts):
        mode = np.concatenate([np.full(len(part), -1) if part.mode is None else part.mode for part in parts])
    obs = first.map_obs(lambda values: values)
    if isinstance(obs, Mapping):
        obs = {name: np.concatenate([part.obs[name] for part in parts]) for name in obs}
    else:
        obs = np.concatenate([part.obs for part in parts])
    return Episodes(
        obs=obs,
        action=np.concatenate([part.action for part in parts]),
        ends=np.cumsum(np.concatenate([part.lengths for part in parts])),
        mode=mode,
        source=", ".join(Path(part.source).name for part in parts),
        num_modes=max(part.num_modes for part in parts),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        part=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        weights=weights,
    ).validate()


def _words(episodes: Episodes) -> str:
    return ", ".join(f"{name} {list(entry.shape)}" for name, entry in episodes.spec.entries)


def for_section(data: Any) -> Episodes:
    """The episodes that a section `data` of a configuration asks for; as `read`."""
    return read(data.path, data.reader, data.subset, data.weights)


def shares(episodes: Episodes, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Where the windows of each file begin, and how often each file is drawn.

    Args:
      episodes: of several files, in their order.
      rows: [M] the rows at which windows start, ascending.

    Returns:
      ([G + 1] int32 first window of each file and M, [G] float32 shares that add up to 1), of the files that have
      windows; None where all windows are drawn alike.

    Raises:
      ConfigError: no file with windows has a weight above 0.
    """
    if episodes.part is None or not episodes.weights:
        return None
    owner = episodes.part[np.searchsorted(episodes.ends, rows, side="right")]
    kept = np.unique(owner)
    weights = np.asarray(episodes.weights)[kept]
    if not weights.sum() > 0:
        raise ConfigError("data.weights", episodes.weights, "above 0 for a file with episodes to train on")
    firsts = np.append(np.searchsorted(owner, kept), len(rows))
    return firsts.astype(np.int32), (weights / weights.sum()).astype(np.float32)
