"""The observations of the last control steps, for policies that see more than one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.observations import ObsSpec


class Past:
    """What was observed since an episode began.

    Args:
      spec: of one control step.
      length: T, control steps that are seen at once.
    """

    def __init__(self, spec: ObsSpec, length: int):
        self._spec, self._length = spec, length
        self._rows: list[dict[str, Any]] = []

    def seen(self, rows: dict[str, Any]) -> Any:
        """The observation of a decision, once {entry: [B, ...]} of this control step is added, copied.

        The last T, one after another, images along their channels, the oldest first; before the episode's start its
        first observation stands in.
        """
        # kept beyond this control step, here or by who samples beside it; the caller may fill the array again
        rows = {name: row if isinstance(row, jax.Array) else np.array(row) for name, row in rows.items()}
        if self._length == 1:
            return self._spec.joined(rows)
        self._rows = [*(self._rows or [rows] * (self._length - 1)), rows][-self._length :]
        joined = {}
        for name, newest in rows.items():
            lib: Any = jnp if isinstance(newest, jax.Array) else np
            joined[name] = lib.concatenate([each[name] for each in self._rows], -1)
        return self._spec.joined(joined)
