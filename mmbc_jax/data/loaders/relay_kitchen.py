"""Folders of three padded NumPy arrays, as the relay kitchen demonstrations are passed around.

    observations_seq.npy   [T, E, D] real numbers, time first
    actions_seq.npy        [T, E, A]
    existence_mask.npy     [T, E] 1 where a step was recorded, 0 behind an episode's end

Nothing is unpickled.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from mmbc_jax.core.errors import ConfigError, DataError, cut
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.loaders._columns import Loader, ReaderOptions, assemble, check_memory, select_obs

FILES = ("observations_seq.npy", "actions_seq.npy", "existence_mask.npy")


def load(path: Path, options: ReaderOptions) -> Episodes:
    """Reads a folder.

    Args:
      path: an existing folder with the three files.
      options: of the reader; the arrays are called `observations` and `actions`.

    Returns:
      Checked episodes in physical units.

    Raises:
      ConfigError: an option that names another array.
      DataError: a file is damaged or pickled, or the arrays do not fit together.
    """
    source = str(path)
    obs, action, mask = (_array(path / name) for name in FILES)
    for name, values, rank in zip(FILES, (obs, action, mask), (3, 3, 2), strict=True):
        if values.ndim != rank or values.dtype.kind not in "fiub" or values.shape[:2] != mask.shape[:2]:
            raise DataError(
                f"{source}: {name} is {values.dtype} with shape {values.shape}, must be real numbers "
                f"[T, E{', size' * (rank - 2)}] with T and E of existence_mask, {mask.shape}"
            )
    there = mask.T != 0  # [E, T]
    lengths = there.sum(axis=1)
    wrong = np.flatnonzero((there != (np.arange(len(mask)) < lengths[:, None])).any(axis=1) | (lengths == 0))
    if wrong.size:
        i = int(wrong[0])
        raise DataError(
            f"{source}: existence_mask of episode {i} has {lengths[i]} steps that are not the first ones; must be 1 "
            "up to the episode's end and 0 behind it, at least one step"
        )
    if options.action_key not in ("action", "actions"):
        raise ConfigError("data.reader.action_key", options.action_key, "actions in such a folder")
    known = {"observations": obs.swapaxes(0, 1)[there], "actions": action.swapaxes(0, 1)[there]}
    observed = select_obs(known.__getitem__, known, options, ("observations",), source)
    return assemble(known.__getitem__, known, observed, "actions", np.cumsum(lengths), source)


def _array(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(file)
            if math.prod(shape) * dtype.itemsize != path.stat().st_size - file.tell():
                raise ValueError(f"the file does not hold the {dtype} {shape} that it states")
        check_memory(path.stat().st_size, path.name, str(path))
        return np.asarray(np.load(path, allow_pickle=False))
    except DataError:
        raise
    except Exception as error:  # whatever a damaged header makes of the reader
        said = f"{type(error).__name__}: {cut(str(error))}"
        raise DataError(f"{path}: damaged, pickled, or no array ({said})") from error


@register("loader", Options)
def build(options: Options) -> Loader:
    """The loader of these folders."""
    return Loader(
        (), load, lambda path: all((path / name).is_file() for name in FILES), f"one with {', '.join(FILES)}"
    )
