"""The model card of a run: what was trained on what, how well it does, and what is known not to work.

`model_card.json` and `model_card.md` are written beside the summary at the end of a run, from the summary and the
configuration alone. Everything in them is a setting or was measured; the licence is left to whoever publishes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbc_jax.core.config import at
from mmbc_jax.core.files import write_atomic, write_json
from mmbc_jax.diagnostics.domains import SHIFTS
from mmbc_jax.report.card_page import page
from mmbc_jax.runs.run_options import TAKEN
from mmbc_jax.runs.setup import Setup

FORMAT = 1
CONTROLLED = 0.8  # share of a command's successes in one mode from which on it is said to command that mode
_LEAST = 5  # successes below which a command is not judged
_RESULTS = (
    "success_rate",
    "mean_reward",
    "mean_steps",
    "modes_kept",
    "commandable",
    "mi_z_mode",
    "diverged_fraction",
)
_OFFLINE = ("offline/mean_error", "offline/best_of_1", "offline/best_of_4", "offline/covered")
_DATA = ("source", "fingerprint", "episodes", "steps", "held_out_windows", "labelled_modes")


def write_card(workdir: Path, setup: Setup, found: Mapping[str, Any]) -> dict[str, Any]:
    """Writes both files into a work directory; `found` is its summary. Returns what the JSON file holds."""
    card = model_card(setup, found)
    write_json(workdir / "model_card.json", card)
    write_atomic(workdir / "model_card.md", lambda file: file.write(page(card).encode()))
    return card


def model_card(setup: Setup, found: Mapping[str, Any]) -> dict[str, Any]:
    """The card as a dictionary."""
    run, config = found["run"], setup.config
    names = [] if setup.env is None else list(setup.env_spec.mode_labels)
    stage = next(name for name in reversed(TAKEN) if name in found["stages"])
    points = [
        {
            "values": point["values"],
            "stages": {name: _results(one, names) for name, one in point["stages"].items()},
        }
        for point in found["points"]
    ]
    return {
        "format": FORMAT,
        "model": {
            "stage": stage,
            **{kind: run[kind] for kind in ("policy", "sampler", "prior", "precision")},
            "actor": at(config, setup.part(stage, "actor")).name if _tuned(stage) else None,
            "learner": at(config, setup.part(stage, "learner")).name if _tuned(stage) else None,
            "commands": _commands(found["stages"][stage]),
            "chunk": {name: config.chunk[name] for name in ("observe", "predict", "execute")},
        },
        "task": {"env": run["env"], "modes": names, "settings": config.env},
        "data": {name: run["data"][name] for name in _DATA if name in run.get("data", {})},
        "training": {
            "seeds": run["seeds"],
            "points": len(points),
            "stages": {
                name: {what: times[what] for what in ("train_steps", "env_steps")}
                for name, times in run["timings"].items()
            },
            "device": run["device"],
            "command": run["command"],
        },
        "results": points,
        "intended_use": _intended(run["env"]),
        "limits": limits(found, stage, names),
        "versions": run["versions"],
        "licence": None,
    }


def _tuned(stage: str) -> bool:
    return stage in ("discover", "finetune", "plain")


def _commands(stage: Mapping[str, Any]) -> int:
    tables = [each for each in (stage.get("success_per_z") or {}).get("per_seed", ()) if each]
    return len(tables[0]) if tables else 1


def _intended(env: str) -> str:
    where = (
        f"the simulated task {env!r} in the settings of config.json"
        if env
        else "the task that the demonstrations show"
    )
    return (
        f"Research on policies that keep several ways of doing a task, in {where}. It was not made for, and not "
        "tested on, a machine that can hurt somebody."
    )


def _results(stage: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What a stage reached: figures with intervals, each mode, each command, each other setting."""
    result: dict[str, Any] = {
        name: {key: stage[name].get(key) for key in ("mean", "ci95", "per_seed", "n")}
        for name in (*_RESULTS, *_OFFLINE)
        if name in stage and stage[name]["mean"] is not None
    }
    result["modes"] = _per_mode(stage, names)
    result["control"] = _control(stage, names)
    result["settings"] = {
        name: {key: one["success_rate"].get(key) for key in ("mean", "ci95", "n")}
        for name, one in (stage.get(SHIFTS) or {}).items()
        if "success_rate" in one
    }
    return result


def _per_mode(stage: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Of each mode its share of the successes, and lowest and highest success; means over the seeds."""
    shares = _known(stage, "mode_share")
    bounds = _known(stage, "success_per_mode_bounds")
    if not names or not shares:
        return []
    rows = []
    for k, name in enumerate(names):
        ends = [seed[k] for seed in bounds if seed[k] is not None]
        rows.append(
            {
                "mode": name,
                "share": sum(seed[k] for seed in shares) / len(shares),
                "success": [sum(pair[side] for pair in ends) / len(ends) for side in (0, 1)]
                if ends
                else None,
            }
        )
    return rows


def _control(stage: Mapping[str, Any], names: Sequence[str]) -> list[list[dict[str, Any]]]:
    """By seed, of each command the mode that it leads to, its success, and how much of that is in this mode."""
    rates, tables, ends = (
        _entries(stage, name) for name in ("success_per_z", "z_mode_table", "wilson95_per_z")
    )
    found = []
    for rate, table, interval in zip(rates, tables, ends, strict=False):
        rows = []
        for z, counts in enumerate(table if rate and len(rate) > 1 and table else ()):
            if rate[z] is None:
                continue
            won = counts[:-1]
            total, best = sum(won), max(range(len(won)), key=won.__getitem__, default=0)
            rows.append(
                {
                    "z": z,
                    "mode": names[best] if total and names else None,
                    "success": rate[z],
                    "wilson95": interval[z],
                    "control": won[best] / total if total else None,
                    "successes": total,
                }
            )
        found.append(rows)
    return [rows for rows in found if rows]


def _entries(stage: Mapping[str, Any], name: str) -> list[Any]:
    return list((stage.get(name) or {}).get("per_seed") or ())


def _known(stage: Mapping[str, Any], name: str) -> list[Any]:
    return [each for each in _entries(stage, name) if each is not None]


def limits(found: Mapping[str, Any], name: str, names: Sequence[str]) -> list[str]:
    """What is known not to work, or not known, a sentence each; of the main sweep point."""
    run, stage = found["run"], found["stages"][name]
    said = []
    if not run["env"]:
        said.append("No episode was played: there is no simulator. Offline errors say little about success.")
    if len(run["seeds"]) == 1:
        said.append(
            "One seed was trained: intervals are over episodes and say nothing about another training."
        )
    said += _lost_modes(found["stages"], name, names)
    said += _lost_commands(stage, names)
    settings = list(stage.get(SHIFTS) or {})
    if run["env"]:
        tested = (
            f"Other settings that were played: {', '.join(settings)}"
            if settings
            else "No other setting was played"
        )
        said.append(f"{tested}; perturbations beyond those of the training are not tested.")
        said.append("It was played in simulation alone.")
    for one, runs in run["stopped"].items():
        said.append(f"Stage {one}: {len(runs)} run(s) diverged and are in no figure.")
    return said


def _lost_modes(stages: Mapping[str, Any], name: str, names: Sequence[str]) -> list[str]:
    """Modes that nothing succeeds in, and those of them that a stage before had."""
    if not names or not _known(stages[name], "mode_share"):
        return []

    def kept(stage: Mapping[str, Any]) -> set[str]:
        return {
            names[k] for seed in _known(stage, "mode_share") for k, share in enumerate(seed) if share >= 0.01
        }

    gone = [label for label in names if label not in kept(stages[name])]
    said = (
        [f"Modes that hold less than 1 % of the successes in every seed: {', '.join(gone)}."] if gone else []
    )
    before = next((one for one in ("bc", "dagger") if one in stages and one != name), None)
    if before and (lost := [label for label in gone if label in kept(stages[before])]):
        said.append(f"Of these the clone (stage {before}) still had: {', '.join(lost)}.")
    return said


def _lost_commands(stage: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Commands that command no mode, and modes that no command leads to, of the first seed that has figures."""
    control = _control(stage, names)
    if not control or not names:
        return []
    sure = [row for row in control[0] if row["successes"] >= _LEAST and (row["control"] or 0) >= CONTROLLED]
    vague = [str(row["z"]) for row in control[0] if row not in sure]
    unreached = [label for label in names if label not in {row["mode"] for row in sure}]
    seed = " (of the first seed)" if len(control) > 1 else ""
    said = []
    if vague:
        said.append(
            f"Commands{seed} whose successes are not to {CONTROLLED:.0%} in one mode, or fewer than {_LEAST}: "
            f"z {', '.join(vague)}."
        )
    if unreached:
        said.append(f"Modes{seed} that no command leads to: {', '.join(unreached)}.")
    return said
