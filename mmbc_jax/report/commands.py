"""What is said of commands: whether seeds agree on them, which an example asked for, and re-commanding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from mmbc_jax.report import style
from mmbc_jax.report.table import point_label


def given(stage: Mapping[str, Any], num_modes: int) -> list[int]:
    """The z of a stage's summary that had episodes, which those merged away have not; all where it does not say."""
    seeds = (stage.get("success_per_z") or {}).get("per_seed") or ()
    found = next((one for one in seeds if one), None)
    return list(range(num_modes)) if found is None else [z for z, one in enumerate(found) if one is not None]


def lines(found: Mapping[str, Any]) -> list[str]:
    """A line per stage whose seeds can be compared, and one per run of what an example or a missing head means."""
    said = []
    for point in found["points"]:
        label = point_label(point["values"])
        for name, stage in point["stages"].items():
            agreed = stage.get("stability")
            if agreed and len((stage.get("success_per_z") or {}).get("per_seed", [[]])[0] or ()) > 1:
                where = ", ".join(filter(None, (name, label)))
                said.append(
                    f"{where}: z to mode over {agreed['pairs']} pairs of seeds: NMI {agreed['nmi']:.2f}, "
                    f"ARI {agreed['ari']:.2f}, overlap of modes {agreed['overlap']:.2f}"
                )
    run = found["run"]
    if like := run.get("like"):
        z = ", ".join(f"{z} (seed {seed})" for z, seed in zip(like["z"], like["seeds"], strict=True))
        said.append(f"most like the example, by {like['rule']}: z {z}")
    if run.get("headless"):
        said.append("played without the steering head: its noise is that of the reference's base")
    return said


def table(recommand: Mapping[str, Any]) -> Table:
    """Success of each rule at the first and within all attempts, in each setting of the environment."""
    attempts = recommand["attempts"]
    result = Table(
        box=box.SIMPLE_HEAD,
        title="re-commanding after a failure",
        title_justify="left",
        caption="An attempt is an episode from a new start; 95 % intervals.",
        caption_justify="left",
    )
    result.add_column("setting")
    result.add_column("command")
    for heading in ("1st attempt", f"within {attempts}", "episodes of trial"):
        result.add_column(heading, justify="right")
    for setting, rules in recommand["settings"].items():
        for rule, entry in rules.items():
            ends = [style.interval(entry["within"][i], 3) for i in (0, -1)]
            result.add_row(setting, rule, *ends, str(entry.get("trial_episodes", 0)))
    return result
