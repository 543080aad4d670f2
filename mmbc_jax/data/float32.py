"""Recorded numbers in float32, which everything past the file is computed in, and what that would lose."""

from __future__ import annotations

import numpy as np

from mmbc_jax.core.errors import DataError

LARGEST = 1e18  # beyond, nothing is measured, and squares do not fit float32
_LEVELS = 256  # numbers of float32 within the range of a column below which it is checked
_LARGE = 2.0**14  # where float32 has steps of more than a thousandth
_ROUNDING = 1e-9  # of the magnitude: a column that varies by less is a constant that was computed


def carried(values: np.ndarray, name: str, source: str) -> tuple[np.ndarray, list[str]]:
    """Rows [n, D] of numbers in float32, and what is to be said of them.

    A column whose whole range spans fewer than 256 numbers of float32 is compared with the recorded one. Where it
    holds fewer distinct values afterwards it is refused above 2^14, where an offset has eaten the signal (seconds
    since 1970 come in steps of 128), and reported below, where it may be a constant that was computed. Infinite
    entries stay, for `Episodes.validate`.

    Args:
      values: real numbers of any type.
      name: of the array, for messages.
      source: of the file, for messages.

    Raises:
      DataError: a column would lose values.
    """
    values = np.asarray(values)
    with np.errstate(over="ignore"):
        made = values.astype(np.float32, copy=False)
    if values.ndim != 2 or not len(values) or np.can_cast(values.dtype, np.float32):
        return made, []
    notes = []
    with np.errstate(over="ignore", invalid="ignore"):  # of long doubles
        wide = values.astype(np.float64)
    magnitude, width = np.abs(wide).max(0), np.ptp(wide, axis=0)
    with np.errstate(invalid="ignore", over="ignore"):
        step = np.spacing(magnitude.astype(np.float32)).astype(np.float64)
        narrow = np.isfinite(step) & (width < _LEVELS * step) & (width > _ROUNDING * magnitude)
    for column in np.flatnonzero(narrow):
        recorded, left = len(np.unique(values[:, column])), len(np.unique(made[:, column]))
        if left == recorded:
            continue
        text = (
            f"{source}: column {column} of {name} has {recorded} distinct values, of which float32 keeps {left} "
            f"(it has steps of {step[column]:.3g} there)"
        )
        offset = f"{values[:, column].min():.10g}"
        if magnitude[column] >= _LARGE:
            raise DataError(f"{text}; subtract {offset} from the column")
        notes.append(f"{text}; where they mean something, subtract {offset} from the column")
    return made, notes
