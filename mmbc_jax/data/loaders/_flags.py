"""Where episodes end in recordings that mark their last steps, as replay buffers and D4RL do."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from mmbc_jax.core.errors import DataError

FLAGS = ("terminals", "timeouts", "truncations", "terminations", "truncateds", "terminateds", "dones", "done")
"""Arrays of which any that is set ends an episode; D4RL and Gymnasium's users write these."""


def flags_among(known: Collection[str]) -> list[str]:
    """Those of a file's arrays that mark last steps."""
    return [key for key in FLAGS if key in known]


def marked_ends(
    read: Callable[[str], np.ndarray], keys: Collection[str], steps: int, source: str
) -> tuple[np.ndarray, list[str]]:
    """Cumulative ends of the episodes, and what is to be said of them.

    Args:
      read: returns the array under a key.
      keys: of the marks, each [n].
      steps: n, of the actions.
      source: for messages.

    Raises:
      DataError: marks that are not as many as the steps.
    """
    marks = [np.asarray(read(key)).reshape(-1) for key in keys]
    for key, one in zip(keys, marks, strict=True):
        if len(one) != steps:
            raise DataError(f"{source}: {key} has {len(one)} entries and actions {steps}; must be as many")
    ends, notes = np.flatnonzero(np.any([one.astype(bool) for one in marks], axis=0)) + 1, []
    if steps and (not len(ends) or ends[-1] != steps):
        first = int(ends[-1]) if len(ends) else 0
        notes.append(f"{Path(source).name}: steps {first} to {steps - 1} end without {' or '.join(keys)}")
        ends = np.append(ends, steps)
    return ends, notes
