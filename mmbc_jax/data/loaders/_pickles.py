"""Pickles of plain data: dict, list, tuple, str, numbers and NumPy arrays; everything else is refused by name.

Unpickling calls whatever a file names. Here it can name only what rebuilds arrays and their types, and those names
lead to functions of this module that build nothing else, so no class of a file is ever looked up.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmbc_jax.core.errors import DataError, cut
from mmbc_jax.data.loaders._columns import check_memory

_NUMBERS = "fiub"


class _Refused(Exception):
    """A file names something that is not admitted."""


class _Kind:
    """What stands for a type of numbers in a file; its state says their byte order."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        _, order, *rest = state
        if order not in ("<", ">", "|", "=") or any(part is not None for part in rest[:3]):
            raise _Refused("an array of a type with parts")
        self.dtype = self.dtype.newbyteorder(order if order in "<>" else "=")


class _Array:
    """What stands for an array in a file, until `_plain`; its state says all of it."""

    values: np.ndarray

    def __setstate__(self, state: Any) -> None:
        shape, kind, by_columns, raw = state[-4:]
        if isinstance(raw, str):  # of Python 2
            raw = raw.encode("latin1")
        if not isinstance(raw, bytes):
            raise _Refused("an array whose content is no bytes")
        self.values = _read(raw, kind).reshape(shape, order="F" if by_columns else "C")


def _read(raw: Any, kind: Any) -> np.ndarray:
    """[n] numbers in the machine's byte order."""
    if not isinstance(kind, _Kind):
        raise _Refused("numbers without a type")
    return np.frombuffer(raw, kind.dtype).astype(kind.dtype.newbyteorder("="))


def _dtype(text: Any, *_: Any) -> _Kind:
    found = np.dtype(text) if isinstance(text, str) else None
    if found is None or found.kind not in _NUMBERS:
        raise _Refused(f"an array of type {text!r}; allowed: real numbers")
    return _Kind(found)


def _empty(kind: Any, shape: Any, *_: Any) -> _Array:
    """What NumPy's pickles begin an array with; its shape and content follow as state."""
    if kind is not _ARRAY or shape != (0,):
        raise _Refused("an array that does not begin empty")
    return _Array()


def _from_buffer(buffer: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    return _read(buffer, kind).reshape(shape, order=order)


def _scalar(kind: Any, data: Any) -> Any:
    if not isinstance(data, bytes):
        raise _Refused("a scalar that is no number")
    return _read(data, kind)[0]


def _plain(value: Any, known: dict[int, Any]) -> Any:
    """`value` with the arrays that stand in its dicts, lists and tuples; `known` are those already done, by id."""
    if id(value) in known:
        return known[id(value)]
    found: Any = value
    if isinstance(value, _Array):
        found = value.values
    elif isinstance(value, dict):
        found = {key: _plain(item, known) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        found = type(value)(_plain(item, known) for item in value)
    known[id(value)] = found
    return found


def _encoded(text: Any, coding: Any) -> bytes:
    """The bytes that the oldest pickles write as text."""
    if coding != "latin1" or not isinstance(text, str):
        raise _Refused(f"text in {coding!r}")
    return text.encode("latin1")


_ARRAY = object()  # what stands for numpy.ndarray, which no file may call
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encoded,
}
for _room in ("numpy.core", "numpy._core"):
    _ADMITTED |= {
        (f"{_room}.multiarray", "_reconstruct"): _empty,
        (f"{_room}.multiarray", "scalar"): _scalar,
        (f"{_room}.numeric", "_frombuffer"): _from_buffer,
    }


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in _ADMITTED:
            raise _Refused(
                f"{module}.{name}; allowed: dict, list, tuple, str, numbers and NumPy arrays of numbers"
            )
        found: Callable[..., Any] = _ADMITTED[module, name]
        return found


def unpickled(path: Path) -> Any:
    """The plain data in a pickle.

    Args:
      path: an existing file.

    Raises:
      DataError: it names anything but plain data, is damaged, or needs more than half of the memory that is free.
    """
    check_memory(path.stat().st_size, path.name, str(path))
    try:
        with path.open("rb") as file:
            return _plain(_Unpickler(file).load(), {})
    except _Refused as error:
        raise DataError(f"{path}: this pickle holds {cut(str(error))}") from error
    except Exception as error:  # a damaged pickle calls what it finds with what it finds
        said = f"{type(error).__name__}: {cut(str(error))}"
        raise DataError(f"{path}: damaged, cut short, or no pickle ({said})") from error


def flat(value: Any, source: str, prefix: str = "", depth: int = 4) -> dict[str, np.ndarray]:
    """{path with slashes: array of real numbers} of nested dicts; what is neither is left out.

    Raises:
      DataError: no dict, or more than `depth` of them within each other.
    """
    if not isinstance(value, dict) or depth == 0:
        raise DataError(
            f"{source}: holds {type(value).__name__} at {prefix or 'its root'}, must be a dict of arrays"
        )
    found: dict[str, np.ndarray] = {}
    for key, item in value.items():
        path = f"{prefix}/{key}".lstrip("/")
        if isinstance(item, dict):
            found |= flat(item, source, path, depth - 1)
        elif isinstance(item, np.ndarray) and item.dtype.kind in _NUMBERS:
            found[path] = item
    return found
