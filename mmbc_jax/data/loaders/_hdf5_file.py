"""HDF5 files, looked through before anything is read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmbc_jax.core.errors import DataError, UserError, cut
from mmbc_jax.core.extras import imported

_KINDS = "fiub"  # of NumPy's types: what may be an observation or an action


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The root group of a file; whatever the library raises while it is open is one error that names the file.

    Raises:
      UserError: the package h5py is not installed.
      DataError: it is damaged, or no HDF5 file.
    """
    h5py = imported("h5py", "data", f"{path}: reading HDF5 files")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except UserError:
        raise
    except (
        Exception
    ) as error:  # h5py passes on what its library finds as OSError, RuntimeError, KeyError, ...
        said = f"{type(error).__name__}: {cut(str(error))}"
        raise DataError(f"{path}: damaged, or no HDF5 file ({said})") from error


def arrays(group: Any, source: str) -> dict[str, Any]:
    """The arrays of real numbers below a group, by their path in it; soft and external links are not followed.

    Raises:
      DataError: an array whose content lies in another file.
    """
    found: dict[str, Any] = {}

    def visit(group: Any, prefix: str, above: tuple[Any, ...]) -> None:
        for name in group:
            if not _is_own(group, name):
                continue
            item, path = group[name], f"{prefix}{name}"
            if hasattr(item, "keys"):
                if item not in above:  # a hard link may lead back up
                    visit(item, f"{path}/", (*above, item))
            elif hasattr(item, "dtype") and item.dtype.kind in _KINDS:
                if item.is_virtual or item.external:
                    raise DataError(
                        f"{source}: {item.name} lies in another file, which is not followed; copy it into this one"
                    )
                found[path] = item

    visit(group, "", (group,))
    return found


def own(group: Any, name: str, source: str) -> Any:
    """A member of a group.

    Raises:
      DataError: it is a link, within the file or out of it.
    """
    if not _is_own(group, name):
        raise DataError(
            f"{source}: {group.name.rstrip('/')}/{name} is a link, which is not followed; copy what it leads to"
        )
    return group[name]


def _is_own(group: Any, name: str) -> bool:
    import h5py

    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def numbered(group: Any, prefix: str) -> list[tuple[int, str]]:
    """[(number, name)] of the members `<prefix><number>` of a group, in the order of their numbers."""
    tails = ((name.removeprefix(prefix), name) for name in group if name.startswith(prefix))
    return sorted((int(tail), name) for tail, name in tails if tail.isascii() and tail.isdecimal())
