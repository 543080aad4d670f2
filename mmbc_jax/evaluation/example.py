"""An example path: read from a file, and compared with the paths that were played."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from mmbc_jax.core.errors import UserError, cut
from mmbc_jax.core.files import local_path

POINTS = 64
"""To which a path is resampled, evenly along its length."""
_NAMES = ("path", "position", "obs", "state", "observation")


def read_example(text: str) -> np.ndarray:
    """[T, D] float32 rows of a .npz or .csv file, T >= 2, in physical units, one a control step.

    Of an archive the array `path`, `position`, `obs`, `state` or `observation` counts, or the only one there is. A
    .csv has a row a line with commas between; a first line that is no numbers is a heading.

    Raises:
      UserError: there is no such file, or it holds something else.
    """
    path = local_path(text, "--like")
    if not path.is_file():
        raise UserError(f"--like {path} is no file")
    if path.suffix not in (".npz", ".csv"):
        raise UserError(f"--like {path}: .npz and .csv can be read")
    try:
        rows = _archived(path) if path.suffix == ".npz" else _listed(path)
        rows = np.asarray(rows, np.float32)
    except (OSError, ValueError, KeyError, EOFError, OverflowError, zipfile.BadZipFile) as error:
        raise UserError(f"--like {path} cannot be read: {cut(str(error))}") from error
    if rows.ndim != 2 or len(rows) < 2 or not rows.shape[1]:
        raise UserError(f"--like {path} has shape {rows.shape}; must be [T, D], a row a control step, T >= 2")
    if not np.isfinite(rows).all():
        raise UserError(f"--like {path}: every number must be finite in float32")
    return rows


def _archived(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays:
        names = [name for name in _NAMES if name in arrays] or list(arrays)
        if not names or (names[0] not in _NAMES and len(names) > 1):
            raise ValueError(f"needs an array {', '.join(_NAMES)}; found {', '.join(names) or 'none'}")
        return arrays[names[0]]


def _listed(path: Path) -> np.ndarray:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    try:
        rows = [[float(cell) for cell in line.split(",")] for line in lines[:1]]
    except ValueError:
        rows, lines = [], ["", *lines[1:]]
    rows += [[float(cell) for cell in line.split(",")] for line in lines[1:]]
    if len({len(row) for row in rows}) > 1:
        raise ValueError("its rows have different numbers of entries")
    return np.array(rows)


def resampled(path: np.ndarray, points: int = POINTS) -> np.ndarray:
    """[points, 2] a path [T, 2] at evenly spaced lengths along it; its own points do not matter, nor its speed."""
    steps = np.linalg.norm(np.diff(path, axis=0), axis=-1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.linspace(0.0, along[-1], points)
    moved = np.concatenate([[True], steps > 0])  # a path that stands still says nothing of where it goes
    return np.stack([np.interp(at, along[moved], path[moved, axis]) for axis in range(2)], -1)


def path_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square distance of two paths [T, 2] and [T', 2] at equal shares of their lengths."""
    return float(np.sqrt(np.square(resampled(one) - resampled(other)).sum(-1).mean()))


def nearest_command(
    example: np.ndarray,
    paths: np.ndarray,
    mask: np.ndarray,
    z: np.ndarray,
    success: np.ndarray,
    num_modes: int,
) -> np.ndarray:
    """[Z] mean distance between an example and the paths of each command; infinite for one that was not played.

    The mean is over its successful paths, or over all where none succeeds.

    Args:
      example: [T, 2].
      paths, mask: [P, L, 2] and [P, L], as of `Rollouts`.
      z, success: [P] of these paths.
      num_modes: Z.
    """
    distance = np.array(
        [path_distance(example, path[seen > 0]) for path, seen in zip(paths, mask, strict=True)]
    )
    found = np.full(num_modes, np.inf)
    for one in range(num_modes):
        own = z == one
        own = own & success if (own & success).any() else own
        if own.any():
            found[one] = distance[own].mean()
    return found
