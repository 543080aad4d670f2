"""Runs instruments on a case."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import jax

from mmbc_jax.core.protocols import Diagnostic
from mmbc_jax.core.types import Key
from mmbc_jax.diagnostics.case import Case


def measure_all(instruments: Mapping[str, Diagnostic], case: Case, key: Key) -> dict[str, float]:
    """The figures of several instruments together.

    Args:
      instruments: by name. Each gets a key of its own made from the name, so that its figures do not depend on
        which others run.
      case: what they look at.
      key: of all.

    Returns:
      {`group/name`: finite float}; figures that do not exist for this case are absent.
    """
    found: dict[str, float] = {}
    for name, instrument in instruments.items():
        figures = instrument.measure(case, jax.random.fold_in(key, zlib.crc32(name.encode()) % 2**31))
        found |= {figure: float(value) for figure, value in figures.items() if math.isfinite(value)}
    return found
