"""What is known of a policy's commands: what the evaluation at the end of its run found of each."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from mmbc_jax.core.errors import DataError
from mmbc_jax.core.files import read_json
from mmbc_jax.deploy.interface import Interface

_PICTURES = ("trajectories", "z_modes")


@dataclasses.dataclass(frozen=True)
class KnownMode:
    """One command, and where it leads.

    Attributes:
      z: the command; 0 where nothing is commanded.
      label: the mode that most of its successful episodes took; "" where none did, or modes have no labels.
      success: share of its episodes that succeeded; None where the run has no evaluation of this checkpoint.
      ci95: Wilson's 95 % interval of it.
      control: share of its successes that took the mode `label`; None without successes or labels.
      shares: {mode: share of its successes}, of the modes that they took.
      episodes: how many were played under it.
      picture: of the stage's trajectories, coloured by mode and by z; None where none was drawn.
    """

    z: int
    label: str = ""
    success: float | None = None
    ci95: tuple[float, float] | None = None
    control: float | None = None
    shares: dict[str, float] = dataclasses.field(default_factory=dict)
    episodes: int = 0
    picture: Path | None = None


def known_modes(workdir: Path, spec: Interface, final: bool) -> list[KnownMode]:
    """The commands there are.

    Args:
      workdir: of the run; of its summary nothing is known where it has not ended.
      spec: of the policy.
      final: whether the policy is of the checkpoint that the summary speaks of.
    """
    picture = next(
        (path for name in _PICTURES if (path := workdir / "figures" / f"{name}_{spec.stage}.png").exists()),
        None,
    )
    found = _stage(workdir, spec) if final else None
    return [_known(found, spec, z, picture) for z in spec.commands]


def _stage(workdir: Path, spec: Interface) -> dict[str, Any] | None:
    """{metric: value} of the policy's stage, point and seed; None where there are none."""
    try:
        summary = read_json(workdir / "summary.json")
        row = summary["run"]["seeds"].index(spec.seed)
        stage = summary["points"][spec.point]["stages"][spec.stage]
    except (OSError, DataError, KeyError, IndexError, ValueError):
        return None
    return {
        name: entry["per_seed"][row]
        for name, entry in stage.items()
        if isinstance(entry, dict) and len(entry.get("per_seed") or ()) > row
    }


def _known(found: dict[str, Any] | None, spec: Interface, z: int, picture: Path | None) -> KnownMode:
    if found is None or not found.get("success_per_z") or found["success_per_z"][z] is None:
        return KnownMode(z, picture=picture)
    interval = found["wilson95_per_z"][z]
    counts = (found.get("z_mode_table") or {z: []})[z]
    won = counts[:-1]
    best = max(range(len(won)), key=won.__getitem__, default=0)
    total = sum(won)
    return KnownMode(
        z,
        spec.mode_names[best] if total else "",
        found["success_per_z"][z],
        (interval[0], interval[1]),
        won[best] / total if total else None,
        {spec.mode_names[i]: n / total for i, n in enumerate(won) if n},
        sum(counts),
        picture,
    )
