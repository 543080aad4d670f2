"""`summary.json`: everything a run found, in one dictionary; the keys are described in docs/summary.md."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbc_jax.diagnostics.domains import SHIFTS
from mmbc_jax.diagnostics.modes import aggregate, stability
from mmbc_jax.diagnostics.strengths import success_by_strength
from mmbc_jax.evaluation.results import without_figures

STRENGTHS = "strengths"
"""Key of what a stage does under a perturbation of growing strength."""

FORMAT = 1
PACKAGES = (
    "mmbc-jax", "jax", "jaxlib", "flax", "optax", "distrax", "orbax-checkpoint", "mujoco", "mujoco-mjx",
    "brax", "numpy", "scipy", "scikit-learn",
)  # fmt: skip


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that shape a result; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def device() -> dict[str, Any]:
    """What computed the run: `{"platform", "kind", "count", "cpu_cores"}`; nothing that names the machine."""
    import jax

    devices = jax.devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "cpu_cores": cores,
    }


def command(module: str, argv: Sequence[str]) -> str:
    """The command line to type, with absolute paths cut to their last part.

    Args:
      module: as after `python -m`.
      argv: the arguments, without the program.

    Returns:
      One shell-quoted line.
    """

    def short(item: str) -> str:
        head, eq, tail = item.rpartition("=")
        return head + eq + Path(tail).name if os.path.isabs(tail) else item

    return shlex.join(["python", "-m", module, *map(short, argv)])


def summarise_stage(per_seed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One stage over its seeds.

    Args:
      per_seed: metrics per seed, as from `diagnostics.modes.mode_metrics`, with any further scalars.

    Returns:
      `diagnostics.modes.aggregate` of them, `stability` between the seeds (None with one seed), and under `shifts`
      the same aggregate of every other setting of the environment that was played; under `strengths` what
      `diagnostics.strengths.success_by_strength` makes of those that are sweeps.
    """
    own = [{name: value for name, value in seed.items() if name != SHIFTS} for seed in per_seed]
    stage: dict[str, Any] = aggregate(own)
    known: Mapping[str, Any] = next((seed[SHIFTS] for seed in per_seed if seed.get(SHIFTS)), {})
    if known:
        # seeds that have diverged have none of them
        none = {name: without_figures(metrics) for name, metrics in known.items()}
        shifted = [seed.get(SHIFTS) or none for seed in per_seed]
        stage[SHIFTS] = {name: aggregate([seed[name] for seed in shifted]) for name in known}
        if swept := success_by_strength(own, shifted):
            stage[STRENGTHS] = swept
    assignments = [seed["dominant_mode"] for seed in per_seed if seed.get("dominant_mode") is not None]
    stage["stability"] = stability(assignments)
    return stage


def build_summary(
    points: Sequence[Mapping[str, Any]], run: Mapping[str, Any], main: int = 0
) -> dict[str, Any]:
    """The summary of a run.

    Args:
      points: at least one sweep point `{"values": {dotted field: value}, "stages": {stage: per-seed
        metrics}}`; a run without a sweep is one point with empty values.
      run: facts of the run (env, policy, timings, device, versions, command, ...), copied as they are.
      main: index of the point that `stages` shows.

    Returns:
      `{"format", "stages": {stage: {metric: ...}}, "points": [{"values", "stages"}], "run"}`.

    Raises:
      ValueError: no points, or `main` is none of them.
    """
    if not 0 <= main < len(points):
        raise ValueError(f"point {main} of {len(points)}")
    known: dict[tuple[int, ...], dict[str, Any]] = {}  # of a stage that all points share, computed once

    def summarised(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        same = tuple(map(id, seeds))
        if same not in known:
            known[same] = summarise_stage(seeds)
        return known[same]

    done = [
        {
            "values": dict(point.get("values") or {}),
            "stages": {name: summarised(seeds) for name, seeds in point["stages"].items()},
        }
        for point in points
    ]
    return {"format": FORMAT, "stages": done[main]["stages"], "points": done, "run": dict(run)}
