"""What a stage's checkpoint says of itself, checked for what its readers rely on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmbc_jax.core.errors import CheckpointError, shown
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.runs.checkpoint import DamagedError, Meta, read_meta
from mmbc_jax.runs.run_options import STAGES


def stage_meta(directory: Path, step: int | None = None) -> tuple[int, Meta]:
    """A step of a stage's checkpoint directory, the newest unless said, and what it says of itself.

    Raises:
      CheckpointError: there is no whole checkpoint, its description is damaged, or it is of another stage.
    """
    step, meta = read_meta(directory, step)
    where = Path(directory) / str(step)
    for field, sound in _SOUND.items():
        try:
            fits = sound(meta[field])
        except Exception:  # whatever a value of another form makes of the question
            fits = False
        if not fits:
            said = f"{field} = {shown(meta[field])}" if field in meta else f"no {field}"
            raise DamagedError(f"checkpoint {where} is damaged: its description has {said}")
    if meta["stage"] != Path(directory).name:
        raise CheckpointError(f"checkpoint {where} is of stage {meta['stage']}, not {Path(directory).name}")
    return step, meta


def _runs(value: Any) -> bool:
    return len(value) > 0 and all(type(n) is int for point, seed in value for n in (point, seed))


_SOUND: Mapping[str, Callable[[Any], bool]] = {
    "stage": lambda value: isinstance(value, str),
    "config": lambda value: all(isinstance(value[section], dict) for section in ("env", "finetune")),
    "obs": lambda value: ObsSpec.from_json(value).entries != (),
    "action_dim": lambda value: type(value) is int and value > 0,
    "runs": _runs,
    "parent": lambda value: value in ("", *STAGES),
    "cloned": lambda value: isinstance(value, bool),
    "arrays": lambda value: isinstance(value, dict),
    "log_bytes": lambda value: type(value) is int and value >= 0,
}
