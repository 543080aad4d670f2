"""Folders in the layout of LeRobotDataset, versions 2.0, 2.1 and 3.0.

    meta/info.json                                  version, fps, features (name: dtype, shape), templates of paths
    meta/episodes.jsonl                             version 2: one line per episode
    data/chunk-<i>/episode_<j>.parquet              version 2: a file per episode
    videos/chunk-<i>/<feature>/episode_<j>.mp4      version 2
    meta/episodes/chunk-<i>/file-<j>.parquet        version 3: a row per episode, with the files that hold it
    data/chunk-<i>/file-<j>.parquet                 version 3: many episodes per file, told apart by `episode_index`
    videos/<feature>/chunk-<i>/file-<j>.mp4         version 3: many episodes per video, each from its own time on

Observed are `observation.state`, or the features in `obs_keys`: numbers make one vector, images (columns of PNG or
JPEG) and videos become entries named by the last part of their feature, `observation.images.top` as `top`. A column
`mode` of whole numbers, the same in all steps of an episode, labels it; with `meta/modes.json` {"num_modes": K}, both
as `mmbc_jax.export_data` writes them.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from mmbc_jax.core.errors import DataError, cut, shown
from mmbc_jax.core.files import read_json
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.loaders import _parquet, _video
from mmbc_jax.data.loaders._columns import Loader, ReaderOptions, assemble, select_obs
from mmbc_jax.data.loaders._images import decoded, short_names
from mmbc_jax.data.loaders._lerobot_meta import INFO, Meta, Stored

OBS_KEYS = ("observation.state", "observation.environment_state", "observation")
MODES = "meta/modes.json"
_ORDER = ("episode_index", "frame_index")


def load(path: Path, options: ReaderOptions) -> Episodes:
    """Reads a data set.

    Args:
      path: an existing folder.
      options: of the reader.

    Returns:
      Checked episodes in physical units.

    Raises:
      UserError: the package pyarrow, or for videos av, is not installed.
      ConfigError: an option that names what the data set does not have.
      DataError: a file is missing, damaged, or not as `meta/info.json` says.
    """
    rows = _Rows(Meta.of(path))
    obs = short_names(select_obs(rows.read, rows.known, options, OBS_KEYS, rows.source), rows.source)
    read, known = rows.read, [name for name in rows.known if name != "mode"]
    labels: dict[str, Any] = {}
    if "mode" in rows.known:
        labels["mode"] = rows.per_episode("mode")
        if (path / MODES).is_file():
            labels["num_modes"] = _num_modes(path / MODES)
    ends = np.cumsum([one.length for one in rows.episodes])
    return assemble(
        lambda key: labels[key] if key in labels else read(key),
        [*known, *labels],
        obs,
        options.action_key,
        ends,
        rows.source,
    )


def _num_modes(path: Path) -> np.ndarray:
    said = read_json(path).get("num_modes")
    if isinstance(said, bool) or not isinstance(said, int):
        raise DataError(f"{path}: num_modes is {shown(said)}, must be a whole number")
    return np.asarray(said)


class _Rows:
    """The features of a data set, each read when it is asked for, over all episodes in their order."""

    def __init__(self, meta: Meta):
        self._meta, self.source = meta, str(meta.folder)
        self.known = list(meta.features)
        self.episodes = meta.episodes([])
        self._order: dict[tuple[Path, int], np.ndarray] = {}

    def read(self, name: str) -> np.ndarray:
        """[n, size], or images [n, height, width, channels] uint8."""
        kind, shape = self._meta.kind(name), self._meta.shape(name)
        if kind == "video":
            return self._videos(name)
        parts = []
        for path, episodes in self._by_file(self.episodes):
            column = _parquet.table(path, [name], self.source).column(name)
            order = self._order_of(path, episodes)
            if kind == "image":
                parts.append(decoded(_encoded(column, order, name, str(path)), shape, name, str(path)))
            else:
                parts.append(_parquet.numbers(column, name, shape, str(path))[order])
        return np.concatenate(parts)

    def per_episode(self, name: str) -> np.ndarray:
        """[E] what a feature of one number is throughout each episode."""
        values, found, first = self.read(name), [], 0
        for one in self.episodes:
            own = values[first : first + one.length].reshape(one.length, -1)
            if own.shape[1] != 1 or (own != own[0]).any():
                raise DataError(
                    f"{self.source}: {name} of episode {one.index} changes, must be one number throughout"
                )
            found.append(own[0, 0])
            first += one.length
        return np.asarray(found)

    def _by_file(self, episodes: list[Stored]) -> list[tuple[Path, list[Stored]]]:
        return [(path, list(group)) for path, group in itertools.groupby(episodes, key=lambda one: one.data)]

    def _order_of(self, path: Path, episodes: list[Stored]) -> np.ndarray:
        """The rows of a file's episodes in the order of their frames."""
        key = (path, episodes[0].index)
        if key in self._order:
            return self._order[key]
        found = _parquet.table(path, _ORDER, self.source)
        episode, frame = (
            _parquet.numbers(found.column(name), name, (1,), str(path))[:, 0] for name in _ORDER
        )
        parts = []
        for one in episodes:
            rows = np.flatnonzero(episode == one.index)
            rows = rows[np.argsort(frame[rows], kind="stable")]
            if one.length < 1 or not np.array_equal(frame[rows], np.arange(one.length)):
                raise DataError(
                    f"{path}: episode {one.index} has {len(rows)} rows, whose frame_index must be 0 to "
                    f"{one.length - 1} as its metadata say"
                )
            parts.append(rows)
        self._order[key] = np.concatenate(parts)
        return self._order[key]

    def _videos(self, name: str) -> np.ndarray:
        meta, parts = self._meta, []
        stored = meta.episodes([name])
        for path, group in itertools.groupby(stored, key=lambda one: one.videos[name][0]):
            times = np.concatenate([one.videos[name][1] + np.arange(one.length) / meta.fps for one in group])
            parts.append(_video.frames(path, times, meta.fps, meta.shape(name), name))
        return np.concatenate(parts)


def _encoded(column: Any, order: np.ndarray, name: str, source: str) -> list[bytes]:
    """The images of some rows, as they are in the file."""
    found: list[bytes] = []
    for value in column.take(order).to_pylist():
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise DataError(
                f"{source}: image {len(found)} of {name} is {cut(repr(value))}, must be in the file"
            )
        found.append(data)
    return found


@register("loader", Options)
def build(options: Options) -> Loader:
    """The loader of these folders."""
    return Loader((), load, lambda path: (path / INFO).is_file(), f"a LeRobotDataset ({INFO})")
