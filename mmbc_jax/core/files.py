"""Writing files so that a reader sees the old one or the whole new one."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmbc_jax.core.errors import DataError, UserError, cut

_SEAL = "crc32"


def plain(value: Any) -> Any:
    """The value in JSON's own types: arrays become lists, NaN and infinities None, keys strings.

    Raises:
      TypeError: something that has no such form.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return value.name
    if hasattr(value, "to_dict"):  # ConfigDict
        return plain(value.to_dict())
    if hasattr(value, "__array__"):
        return plain(np.asarray(value).tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form")


def local_path(text: str | Path, field: str) -> Path:
    """The folder or file behind what a user typed: `~` expanded, `file://` taken off.

    Args:
      text: as typed.
      field: that it was typed for, for the message.

    Raises:
      UserError: it is an address of another kind (`gs://`, `s3://`): metric files are appended to, which such
        stores cannot do. Or it is no path that the system can have: empty, too long, links in a circle.
    """
    scheme, mark, rest = str(text).partition("://")
    if mark and scheme.lower() != "file":
        raise UserError(
            f"{field} {cut(str(text))}: must be a local path or file://; mount {scheme}:// as a folder (for example "
            "with gcsfuse), or copy the folder there after the run"
        )
    if mark:
        text = "/" + rest.partition("/")[2] if rest.startswith("localhost/") else rest
    if not str(text):
        raise UserError(f"{field} is empty, must be a path")
    path = Path(os.path.expanduser(text))
    try:
        path.stat()
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            why = error.strerror if isinstance(error, OSError) else error
            raise UserError(f"{field} {cut(repr(str(text)))} can be no path: {why}") from error
    return path


def check_folder(path: Path, field: str) -> None:
    """Raises UserError unless a path is a folder that can be written to, or could be made one; nothing is made."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise UserError(f"{field} {path} cannot be a folder: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{field} {path} cannot be a folder: {there} cannot be written")


def write_atomic(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Calls `write` on a temporary file beside `path`, forces it to disk and renames it into place.

    Args:
      path: its folder must exist.
      write: receives a binary file; if it raises, the old file is left as it was.
    """
    path = Path(path)
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(name, "xb", opener=_no_stranger_writes) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def _no_stranger_writes(path: str, flags: int) -> int:
    """Opens a new file that others may read as far as the umask says, and that not everybody may write."""
    return os.open(path, flags, 0o664)


def write_json(path: str | Path, value: Any) -> None:
    """Writes `plain(value)` atomically.

    Args:
      path: its folder must exist.
      value: nested mappings, sequences, arrays and scalars.

    Raises:
      TypeError: something in it has no JSON form; the old file is left as it was.
    """
    text = json.dumps(plain(value), indent=2, allow_nan=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def write_sealed(path: str | Path, value: Mapping[str, Any]) -> None:
    """Writes a mapping as `write_json` does, with a checksum beside its entries; see `read_sealed`."""
    entries = plain(value)
    write_json(path, {**entries, _SEAL: seal(entries)})


def read_sealed(path: str | Path) -> dict[str, Any]:
    """What `write_sealed` wrote, without the checksum; a mapping that has none is taken as it is.

    Raises:
      OSError: it cannot be read.
      DataError: it is damaged.
    """
    value = read_json(path)
    said = value.pop(_SEAL, None)
    if said is not None and said != seal(value):
        raise DataError(f"{path} is damaged (its checksum is wrong)")
    return value


def seal(value: Any) -> int:
    """Checksum of a value in JSON's types, the same before it is written and after."""
    return zlib.crc32(json.dumps(plain(value), sort_keys=True).encode())


def read_json(path: str | Path) -> dict[str, Any]:
    """The object that `write_json` wrote.

    Raises:
      OSError: there is no such file.
      DataError: it is damaged.
    """
    try:
        value = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({cut(str(error))})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is damaged: it holds {cut(repr(value))}, must be a JSON object")
    return value
