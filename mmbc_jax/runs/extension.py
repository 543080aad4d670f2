"""Training a run on that has ended: only lengths differ, and all are longer.

A stage goes on from its newest checkpoint, on the schedule of its new length: a learning rate that falls along a
cosine rises again to where the longer cosine is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmbc_jax.core.errors import WorkdirError
from mmbc_jax.runs.checkpoint import checkpoint_steps
from mmbc_jax.runs.stages import BaseStage
from mmbc_jax.runs.workdir import LENGTHS, Change, only_longer, worded


def check_extension(workdir: Path, stages: Sequence[BaseStage], changes: Sequence[Change]) -> bool:
    """Checks that differences of a configuration from that of a run only train its last stages on.

    Args:
      workdir: of the run.
      stages: that it trains.
      changes: between its configuration and the new one.

    Returns:
      True.

    Raises:
      WorkdirError: another field differs, one became shorter, or a stage has started from one that would go on.
    """
    if not only_longer(changes):
        raise WorkdirError(
            f"{workdir}: --extend can only raise {', '.join(LENGTHS)}, not change {'; '.join(worded(changes[:4]))}"
        )
    fields = {field for field, _, _ in changes}
    longer = {stage.name for stage in stages if fields & set(stage.lengths)}
    for stage in stages:
        begun = checkpoint_steps(workdir / "checkpoints" / stage.name)
        if stage.parent is not None and stage.parent.name in longer and begun:
            raise WorkdirError(
                f"{workdir}: --extend would train {stage.parent.name} on, from whose end {stage.name} has started; "
                f"train {stage.parent.name} on in another --workdir, with start_from and warm_start"
            )
    return True
