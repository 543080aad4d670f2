"""Zarr stores in the layout of Diffusion Policy's replay buffers, as a folder or zipped.

    data/<name>          [n, ...] one array per recorded quantity: `obs` or `state`, `action`, ...; uint8 arrays
                         [n, height, width, channels] are images, and so are numbers of that shape, 0 to 255 as the
                         original Push-T store has them; [n, points, 2 or 3] become columns
    meta/episode_ends    [E] cumulative
    meta/mode            [E] optional mode labels, an addition of ours

Both Zarr formats 2 and 3 are read. Only the arrays that are asked for are decoded, and only through
compressors that cannot run code from the file.
"""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmbc_jax.core.errors import DataError, UserError, cut
from mmbc_jax.core.extras import imported
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.loaders import _columns
from mmbc_jax.data.loaders._archive import open_zip
from mmbc_jax.data.loaders._columns import Loader, ReaderOptions
from mmbc_jax.data.loaders._images import as_bytes

OBS_KEYS = ("obs", "state", "keypoint")
_POINTS = (2, 3)  # sizes of a point
_FEW_CHUNKS = 1000  # what is not there is the fill value: of more chunks than these a tenth must be there
# Format 2 stores may name any codec of numcodecs, `pickle` among them; these only move bytes about.
CODECS = frozenset(
    ("blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset", "gzip", "lz4", "lzma")
    + ("sharding_indexed", "shuffle", "transpose", "zlib", "zstd")
)


def load(path: Path, options: ReaderOptions) -> Episodes:
    """Reads a store.

    Args:
      path: an existing folder or zip file.
      options: of the reader.

    Returns:
      Checked episodes in physical units.

    Raises:
      UserError: the package zarr is not installed.
      ConfigError: an option that names what the store does not have.
      DataError: the store is damaged, uses another codec, or lacks an array.
    """
    source = str(path)
    with warnings.catch_warnings(action="ignore"), _open(path) as root:  # of what else lies in the store
        names = {name: f"data/{name}" for name in _members(root, "data", source)}
        names |= {name: f"meta/{name}" for name in _members(root, "meta", source)}
        if "episode_ends" not in names:
            raise DataError(f"{source}: no meta/episode_ends; found {cut(', '.join(sorted(names.values())))}")

        def read(key: str) -> np.ndarray:
            values = _decode(root, names[key], source)
            if values.ndim == 4 and values.dtype.kind == "f":
                return as_bytes(values, names[key], source)
            if values.ndim == 3 and values.shape[2] in _POINTS:
                return values.reshape(len(values), -1)
            return values

        ends = _columns.integers(read("episode_ends"), "meta/episode_ends", source)
        obs = _columns.select_obs(read, names, options, OBS_KEYS, source)
        return _columns.assemble(read, names, obs, options.action_key, ends, source)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    zarr = imported("zarr", "data", f"{path}: reading Zarr stores")
    try:
        store = zarr.storage.LocalStore(path, read_only=True) if path.is_dir() else _zip_store(zarr, path)
        root = zarr.open_group(store, mode="r")
    except UserError:
        raise
    except (
        Exception
    ) as error:  # zarr, its stores and its codecs have exceptions of their own; they mean one thing
        raise _damaged(path, "not a readable Zarr group", error) from error
    try:
        yield root
    finally:
        store.close()


def _damaged(source: object, what: str, error: Exception) -> DataError:
    return DataError(f"{source}: {what} ({type(error).__name__}: {cut(str(error))})")


def _zip_store(zarr: Any, path: Path) -> Any:
    with open_zip(path, "a zip file") as archive:
        for info in archive.infolist():  # the store reads what it opens whole
            _columns.check_memory(info.file_size, info.filename, str(path))
    return zarr.storage.ZipStore(path, mode="r")


def _members(root: Any, group: str, source: str) -> list[str]:
    try:
        if group in root:
            return [name for name, _ in root[group].arrays()]
        found = cut(", ".join(sorted(root))) or "nothing"
    except Exception as error:
        raise _damaged(source, f"{group} is damaged", error) from error
    raise DataError(f"{source}: no group {group!r}; found {found}")


def _decode(root: Any, name: str, source: str) -> np.ndarray:
    try:
        array = root[name]
        unknown = sorted(_codec_names(array) - CODECS)
        objects = array.dtype.kind == "O"
        shape, chunk = array.shape, math.prod(array.chunks) * array.dtype.itemsize
        chunks = math.prod(-(-size // each) for size, each in zip(shape, array.chunks, strict=True))
        there = chunks if chunks <= _FEW_CHUNKS else array.nchunks_initialized
    except Exception as error:
        raise _damaged(source, f"{name} is damaged", error) from error
    if unknown or objects:
        what = f"codec {cut(', '.join(unknown))}" if unknown else "Python objects"
        raise DataError(f"{source}: {name} uses {what}; allowed codecs: {', '.join(sorted(CODECS))}")
    _columns.check_memory(max(math.prod(shape) * array.dtype.itemsize, chunk), name, source)
    if there < chunks / 10:
        raise DataError(
            f"{source}: {name} has shape {shape} in {chunks} chunks, of which only {there} are there"
        )
    try:
        return np.asarray(array[...])
    except Exception as error:
        raise _damaged(source, f"{name} is damaged or cut short", error) from error


def _codec_names(array: Any) -> set[str]:
    """Names of all codecs in an array's metadata, whichever format wrote it."""
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            found.update(str(node[key]).removeprefix("numcodecs.") for key in ("id", "name") if key in node)
            for value in node.values():
                walk(value)
        elif isinstance(node, (list, tuple)):
            for value in node:
                walk(value)

    metadata = json.loads(json.dumps(array.metadata.to_dict(), default=str))
    walk([metadata.get(key) for key in ("codecs", "filters", "compressor")])
    return found


@register("loader", Options)
def build(options: Options) -> Loader:
    """The loader of these files."""
    return Loader((".zarr", ".zip"), load, lambda path: path.suffix == ".zarr", "a .zarr store")
