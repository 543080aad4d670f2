"""Zip archives of arrays (.npz), looked through before anything is read."""

from __future__ import annotations

import dataclasses
import math
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from mmbc_jax.core.errors import DataError, cut, shown
from mmbc_jax.data.loaders._columns import check_memory

_ENDING = ".npy"
_MOST_PACKED = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}  # bytes that one packed byte can become
_SPARE = 64  # bytes that an archive of nothing may take
_LONGEST_END = 22 + 2**16  # the end of a zip file with its comment
_MANY = 2**16 - 1  # what it states where the number is elsewhere
_HEADERS: dict[Any, Any] = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclasses.dataclass(frozen=True)
class _Member:
    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    nbytes: int


class Archive(Mapping[str, np.ndarray]):
    """The arrays of an .npz file, each read when it is asked for; whatever else is in it is left alone.

    An array is refused by its header, before memory is taken for it, where it is pickled, where the file holds
    another number of bytes than it states, or where it needs more than `check_memory` allows.

    Args:
      path: an existing file.

    Raises:
      DataError: no archive, or an array's header is damaged or refused.
    """

    def __init__(self, path: Path):
        self._path = path
        self._file = open_zip(path, "an .npz archive")
        infos = [info for info in self._file.infolist() if info.filename.endswith(_ENDING)]
        self._members: dict[str, _Member] = {}
        try:
            for info in infos:
                key = info.filename.removesuffix(_ENDING)
                if key in self._members:
                    raise DataError(f"{path}: holds two arrays {shown(key)}")
                self._members[key] = self._examined(key, info)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def shape(self, key: str) -> tuple[int, ...]:
        """Of an array, without reading it."""
        return self._members[key].shape

    def __getitem__(self, key: str) -> np.ndarray:
        """The array under a key.

        Raises:
          DataError: it is damaged, or too large.
        """
        member = self._members[key]
        check_memory(member.nbytes, key, str(self._path))
        try:
            with _quiet(), self._file.open(member.info) as stream:
                found: np.ndarray = npy.read_array(stream, allow_pickle=False)
                stream.read(1)  # the end, at which the checksum is compared
                return found
        except Exception as error:
            raise self._damaged(key, error) from error

    def _examined(self, key: str, info: zipfile.ZipInfo) -> _Member:
        try:
            with _quiet(), self._file.open(info) as stream:
                shape, dtype = _header(stream)
                held = info.file_size - stream.tell()
        except Exception as error:
            raise self._damaged(key, error) from error
        if dtype.hasobject:
            raise DataError(f"{self._path}: array {shown(key)} cannot be read; pickled arrays are refused")
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes != held or min(shape, default=0) < 0:
            raise DataError(
                f"{self._path}: array {shown(key)} is {dtype} with shape {shown(shape)}, which makes {nbytes} bytes, "
                f"and the file holds {held} of it; it is damaged"
            )
        return _Member(info, shape, nbytes)

    def _damaged(self, key: str, error: Exception) -> DataError:
        said = f"{type(error).__name__}: {cut(str(error))}"
        return DataError(f"{self._path}: damaged or cut short at array {shown(key)} ({said})")


def open_zip(path: Path, what: str) -> zipfile.ZipFile:
    """A zip file whose directory and members agree, as far as that shows before anything is unpacked.

    Python's reader itself takes a directory for whole of which a changed byte has swallowed entries.

    Args:
      path: an existing file.
      what: it is to be, for the message.

    Raises:
      DataError: it is damaged, or no zip file.
    """
    archive = None
    try:
        archive = zipfile.ZipFile(path)
        infos = archive.infolist()
        if (listed := _listed(path)) not in (len(infos), _MANY):
            raise ValueError(f"its directory lists {listed} files and holds {len(infos)}")
        for info in infos:
            archive.open(info).close()  # compares the names in the directory and before the content
            most = _MOST_PACKED.get(info.compress_type, info.file_size / (info.compress_size or 1))
            if info.file_size > most * info.compress_size + _SPARE:
                raise ValueError(
                    f"{info.filename} cannot have {info.file_size} bytes in {info.compress_size}"
                )
    except Exception as error:  # whatever a damaged directory makes of the reader
        if archive is not None:
            archive.close()
        said = f"{type(error).__name__}: {cut(str(error))}"
        raise DataError(
            f"{path}: not {what} ({said}); it is damaged, cut short, or another format"
        ) from error
    return archive


def _listed(path: Path) -> int:
    """The number of files that the end of a zip file states."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LONGEST_END))
        tail = file.read()
    return int(struct.unpack_from("<H", tail, tail.rindex(b"PK\x05\x06") + 10)[0])


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(
            f"version {version} of the array format, must be one of {', '.join(map(str, _HEADERS))}"
        )
    shape, _, dtype = _HEADERS[version](stream)
    return shape, dtype


def _quiet() -> warnings.catch_warnings[None]:
    """Without what NumPy says of headers that only a damaged file has; the error says it."""
    return warnings.catch_warnings(action="ignore")
