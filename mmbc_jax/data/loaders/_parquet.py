"""Parquet files: the columns that are asked for, as arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mmbc_jax.core.errors import DataError, cut
from mmbc_jax.core.extras import imported
from mmbc_jax.data.loaders._columns import check_memory


def table(path: Path, columns: Iterable[str], source: str) -> Any:
    """A pyarrow table of some columns of a file, all row groups.

    Args:
      path: of the file.
      columns: which must exist.
      source: for messages.

    Raises:
      UserError: the package pyarrow is not installed.
      DataError: there is no such file, it is damaged, or lacks a column.
    """
    parquet = imported("pyarrow.parquet", "data", f"{source}: reading Parquet files")
    if not path.is_file():
        raise DataError(f"{source}: no file {path}")
    wanted = list(columns)
    try:
        with parquet.ParquetFile(path) as file:
            known = file.schema_arrow.names
            if lost := [name for name in wanted if name not in known]:
                raise DataError(
                    f"{path}: no column {', '.join(map(repr, lost))}; found {cut(', '.join(known) or 'none')}"
                )
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            check_memory(sum(group.total_byte_size for group in groups), path.name, source)
            return file.read(columns=wanted)
    except DataError:
        raise
    except Exception as error:  # pyarrow's errors are many, and mean one thing
        raise damaged(path, error) from error


def names(path: Path) -> list[str]:
    """The columns of a file; empty where it cannot be read, which `table` says better."""
    try:
        found: list[str] = imported("pyarrow.parquet", "data", str(path)).read_schema(path).names
        return found
    except Exception:
        return []


def damaged(path: Path, error: Exception) -> DataError:
    """The error that a file cannot be read."""
    return DataError(f"{path}: damaged, or no Parquet file ({type(error).__name__}: {cut(str(error))})")


def numbers(column: Any, name: str, shape: tuple[int, ...], source: str) -> np.ndarray:
    """[n, size] of a column of numbers, or of lists of numbers, nested or not.

    Args:
      column: of a table.
      name: of it, for messages.
      shape: that each row must have; (1,) also where rows are single numbers.
      source: for messages.

    Raises:
      DataError: rows are missing, no numbers, or of another shape.
    """
    lengths = imported("pyarrow.compute", "data", source).list_value_length
    rows, size, values = len(column), math.prod(shape), column.combine_chunks()
    for axis in shape:
        if not str(values.type).startswith(("list", "large_list", "fixed_size_list")):
            if axis == 1:
                continue
            raise DataError(f"{source}: {name} is {values.type}, must be lists of {axis}")
        counts = np.asarray(lengths(values).fill_null(0).to_numpy(zero_copy_only=False))
        if (counts != axis).any():
            i = int(np.flatnonzero(counts != axis)[0])
            raise DataError(
                f"{source}: {name} has {counts[i]} entries in row {i}, must be {axis} in every row"
            )
        values = values.flatten()
    if values.null_count or len(values) != rows * size:
        raise DataError(f"{source}: {name} has {values.null_count} missing numbers, must have none")
    found = np.asarray(values.to_numpy(zero_copy_only=False))
    if found.dtype.kind not in "fiub":
        raise DataError(f"{source}: {name} is {values.type}, must be numbers")
    return found.reshape(rows, size)
