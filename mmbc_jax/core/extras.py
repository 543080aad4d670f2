"""Packages that only some installations have."""

from __future__ import annotations

import importlib
from typing import Any

from mmbc_jax.core.errors import UserError


def imported(module: str, extra: str, what: str) -> Any:
    """A module of an optional package, imported now.

    Args:
      module: its dotted name.
      extra: of this package that brings it.
      what: needs it, to begin a message with: "a.zarr: reading Zarr stores".

    Raises:
      UserError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise UserError(
            f"{what} needs the package {name}, which is not installed: `pip install 'mmbc-jax[{extra}]'`"
        ) from error
