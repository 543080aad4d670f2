"""Pickles of D3IL: one dict of dicts of arrays per episode, a file or a folder of them.

    robot/des_c_pos    [T, 3] the commanded position, in m
    robot/c_pos        [T, 3] the measured one
    <object>/pos, <object>/quat, ...

D3IL records positions, not actions: action[t] is the change of the commanded position from t to t + 1, so the last
row has none and is not a step. Without `obs_keys` the observation is that of Avoiding, the first two columns of the
commanded and of the measured position, and the action the change of the first two. With objects in the file
`obs_keys` must say what is observed; `action_key` is `key` or `key[start:stop]`, for Stacking `robot/des_j_pos`.
Keys are paths in the dict.

The pickles are read without running what they name (see `_pickles`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmbc_jax.core.errors import ConfigError, DataError, cut
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.loaders._columns import Loader, ReaderOptions, selection, two_dimensional
from mmbc_jax.data.loaders._joined import Joined, Recording
from mmbc_jax.data.loaders._pickles import flat, unpickled

COMMANDED, MEASURED = "robot/des_c_pos", "robot/c_pos"
SUFFIXES = (".pkl", ".pickle")
_CHANGE = "action"  # the key under which the displacements are put


def load(path: Path, options: ReaderOptions) -> Episodes:
    """Reads an episode, or a folder of them in the order of their names.

    Args:
      path: an existing file, or a folder with such files.
      options: of the reader.

    Returns:
      Checked episodes in physical units.

    Raises:
      ConfigError: an option that names what the files do not have.
      DataError: a file is damaged, lacks an array, or names what is not plain data.
    """
    files = _files(path) if path.is_dir() else [path]
    parts = [_episode(file, options) for file in files]
    if not options.obs_keys:
        others = [key for key in parts[0].arrays if key.endswith("/pos") and not key.startswith("robot/")]
        if others or any(key not in parts[0].arrays for key in (COMMANDED, MEASURED)):
            found = ", ".join(key for key in sorted(parts[0].arrays) if key != _CHANGE)
            raise ConfigError("data.reader.obs_keys", (), f"some of what {files[0]} holds: {cut(found)}")
        options = options.replace(obs_keys=(f"{COMMANDED}[0:2]", f"{MEASURED}[0:2]"))
    return Joined.of(parts, _CHANGE, str(path)).episodes(options, _CHANGE, ())


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)


def _episode(path: Path, options: ReaderOptions) -> Recording:
    """The arrays of a file, with the changes of the commanded position beside them."""
    arrays, asked = flat(unpickled(path), str(path)), options.action_key
    text = f"{COMMANDED}[0:2]" if asked == ReaderOptions().action_key else asked
    key, start, stop = selection("data.reader.action_key", text)
    if key not in arrays:
        raise DataError(f"{path}: no array {key!r}; found {cut(', '.join(sorted(arrays)) or 'none')}")
    positions = two_dimensional(arrays[key], key, str(path))
    stop = stop or positions.shape[1]
    if not start < stop <= positions.shape[1] or len(positions) < 2:
        raise DataError(
            f"{path}: {key} has shape {positions.shape}, {text} needs two rows and columns up to {stop}"
        )
    change = np.diff(positions[:, start:stop].astype(np.float64), axis=0)
    return Recording(path.name, arrays | {_CHANGE: change})


@register("loader", Options)
def build(options: Options) -> Loader:
    """The loader of these files."""
    return Loader(SUFFIXES, load, lambda path: bool(_files(path)), "one of D3IL pickles (.pkl)")
