"""Writing files so that a reader sees the old one or the whole new one."""

from __future__ import annotations

import json
import math
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmbc_jax.core.errors import UserError

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
        stores cannot do.
    """
    scheme, mark, rest = str(text).partition("://")
    if not mark:
        return Path(os.path.expanduser(text))
    if scheme.lower() == "file":
        return Path("/" + rest.partition("/")[2] if rest.startswith("localhost/") else rest)
    raise UserError(
        f"{field} {text}: must be a local path or file://; mount {scheme}:// as a folder (for example with gcsfuse), "
        "or copy the folder there after the run"
    )


def write_atomic(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Calls `write` on a temporary file beside `path`, forces it to disk and renames it into place.

    Args:
      path: its folder must exist.
      write: receives a binary file; if it raises, the old file is left as it was.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp creates 0600, which would hide results from a group
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


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
      ValueError: it is no JSON, no mapping, or not what was written.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError("it holds no mapping")
    said = value.pop(_SEAL, None)
    if said is not None and said != seal(value):
        raise ValueError("its checksum is wrong")
    return value


def seal(value: Any) -> int:
    """Checksum of a value in JSON's types, the same before it is written and after."""
    return zlib.crc32(json.dumps(plain(value), sort_keys=True).encode())


def read_json(path: str | Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
