"""HDF5 files in three layouts, told apart by their groups.

robomimic:

    data/demo_<i>/actions          [T, A]
    data/demo_<i>/obs/<name>       [T, D], or uint8 [T, height, width, channels]; under its own name in `obs_keys`
    mask/<filter key>              names of demonstrations, of which `data.reader.filter` picks one

Minari (`data/main_data.hdf5` of a data set, or that data set's folder):

    episode_<i>/observations       [T + 1, D], or a group of such arrays, `observations/<name>` in `obs_keys`
    episode_<i>/actions            [T, A]

The observation after the last action is not a step. D4RL, one episode after another:

    observations [n, D], actions [n, A], terminals [n], timeouts [n]; further arrays under their paths (`infos/qpos`)

An episode ends where `terminals` or `timeouts` is set. Steps behind the last such end are an episode cut short; they
are read, and the notes say so.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from mmbc_jax.core.errors import ConfigError, DataError, cut, nearest
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.loaders._columns import Loader, ReaderOptions, assemble, check_memory, select_obs
from mmbc_jax.data.loaders._flags import flags_among, marked_ends
from mmbc_jax.data.loaders._hdf5_file import arrays, numbered, opened, own
from mmbc_jax.data.loaders._images import short_names
from mmbc_jax.data.loaders._joined import Joined, Recording, action_key

OBS_KEYS = ("observations", "observations/observation", "obs")
ROBOMIMIC = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
"""What robomimic itself observes of a low-dimensional data set by default."""
_MINARI = ("main_data.hdf5", "data/main_data.hdf5")


def load(path: Path, options: ReaderOptions) -> Episodes:
    """Reads a file.

    Args:
      path: an existing file, or the folder of a Minari data set.
      options: of the reader.

    Returns:
      Checked episodes in physical units.

    Raises:
      UserError: the package h5py is not installed.
      ConfigError: an option that names what the file does not have.
      DataError: the file is damaged, or lacks an array.
    """
    path, source = _file(path), str(path)
    with opened(path) as root:
        data = own(root, "data", source) if "data" in root else None
        if hasattr(data, "keys") and numbered(data, "demo_"):
            return _robomimic(root, options, source)
        if options.filter:
            raise ConfigError("data.reader.filter", options.filter, f"'': {source} is no robomimic file")
        if numbered(root, "episode_"):
            return _minari(root, options, source)
        if "observations" in root and "actions" in root:
            return _d4rl(root, options, source)
        raise DataError(
            f"{source}: neither data/demo_<i> (robomimic) nor episode_<i> (Minari) nor observations and actions "
            f"(D4RL); found {cut(', '.join(sorted(root)) or 'nothing')}"
        )


def _file(path: Path) -> Path:
    return next(path / name for name in _MINARI if (path / name).is_file()) if path.is_dir() else path


def _robomimic(root: Any, options: ReaderOptions, source: str) -> Episodes:
    data, chosen = root["data"], _filtered(root, options, source)
    parts = []
    for _, name in numbered(data, "demo_"):
        if chosen is None or name in chosen:
            found = arrays(own(data, name, source), source)
            parts.append(Recording(name, {key.removeprefix("obs/"): found[key] for key in found}))
    if chosen is not None and (lost := sorted(chosen - {part.name for part in parts})):
        raise DataError(
            f"{source}: mask/{options.filter} names {cut(', '.join(lost))}, which data does not hold"
        )
    key = action_key(options, parts[0].arrays if parts else {})
    joined = Joined.of(parts, key, source)
    if not options.obs_keys and all(name in joined.known for name in ROBOMIMIC):
        options = options.replace(obs_keys=ROBOMIMIC)
    return joined.episodes(options, key, OBS_KEYS)


def _filtered(root: Any, options: ReaderOptions, source: str) -> set[str] | None:
    """Names of the demonstrations under the filter key; None without one."""
    if not options.filter:
        return None
    mask = own(root, "mask", source) if "mask" in root else {}
    known = list(mask)
    if options.filter not in known:
        raise ConfigError(
            "data.reader.filter",
            options.filter,
            f"a key under mask of {source}: {nearest(options.filter, known)}",
        )
    names = np.asarray(own(mask, options.filter, source)).ravel()
    return {name.decode() if isinstance(name, bytes) else str(name) for name in names.tolist()}


def _minari(root: Any, options: ReaderOptions, source: str) -> Episodes:
    parts = [
        Recording(name, arrays(own(root, name, source), source)) for _, name in numbered(root, "episode_")
    ]
    key = action_key(options, parts[0].arrays)
    return Joined.of(parts, key, source).episodes(options, key, OBS_KEYS)


def _d4rl(root: Any, options: ReaderOptions, source: str) -> Episodes:
    known = arrays(root, source)

    def read(key: str) -> np.ndarray:
        check_memory(known[key].nbytes, key, source)
        return np.asarray(known[key][()])

    marks = flags_among(known)
    steps = len(known["actions"])
    if not marks:
        shapes = ", ".join(f"{key} {known[key].shape}" for key in known if "/" not in key)
        raise DataError(
            f"{source}: needs terminals [n] or timeouts [n], as long as actions; found {cut(shapes)}"
        )
    ends, notes = marked_ends(read, marks, steps, source)
    obs = short_names(select_obs(read, known, options, OBS_KEYS, source), source)
    found = assemble(read, known, obs, action_key(options, known), ends, source)
    return dataclasses.replace(found, notes=(*found.notes, *notes))


@register("loader", Options)
def build(options: Options) -> Loader:
    """The loader of these files."""
    return Loader(
        (".hdf5", ".h5"),
        load,
        lambda path: any((path / name).is_file() for name in _MINARI),
        "a Minari data set (data/main_data.hdf5)",
    )
