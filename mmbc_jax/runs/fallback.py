"""Where a stage goes on from: its newest checkpoint that is whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import PyTree
from mmbc_jax.runs.checkpoint import DamagedError, Meta, StageCheckpoints, checkpoint_steps
from mmbc_jax.runs.described import stage_meta
from mmbc_jax.runs.logs import Mark, MetricLog


def newest_whole(
    checkpoints: StageCheckpoints, template: PyTree, log: MetricLog, say: Callable[[str], None]
) -> tuple[TrainState, int, dict[str, Any]]:
    """The newest state that is whole; damaged ones after it are put aside, and the log is cut to what it had seen.

    Args:
      checkpoints: of the stage, which has at least one.
      template: shapes and types of its state.
      log: metric files.
      say: takes a line for the user about each damaged one.

    Returns:
      (state, its step, what the checkpoint says of itself).

    Raises:
      CheckpointError: none is whole, or they do not fit.
    """
    steps = checkpoint_steps(checkpoints.directory)
    for before, step in reversed(list(zip([None, *steps], steps, strict=False))):
        try:
            saved = stage_meta(checkpoints.directory, step)[1]
            return checkpoints.restore(step, template), step, saved
        except DamagedError as error:
            if before is None:
                raise
            aside = checkpoints.put_aside(step)
            say(f"{error}; it is {aside.name} now, and {checkpoints.directory.name} goes on from {before}")
            with suppress(DamagedError):  # which is found at the next turn
                log.rewind(mark_of(stage_meta(checkpoints.directory, before)[1]))
    raise AssertionError("no checkpoint")


def mark_of(meta: Meta) -> Mark:
    """What a checkpoint had seen of the metric file, by what it says of itself."""
    return {name: int(meta[name]) for name in ("log_bytes", "log_crc32") if name in meta}
