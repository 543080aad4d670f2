"""The Markdown page of a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmbc_jax.report import style

_FIGURES, _COUNTS = ("success_rate", "mean_reward"), ("modes_kept", "commandable")
_MOST = 16  # rows of a table; what is left out is in the JSON file


def page(card: Mapping[str, Any]) -> str:
    """The page of a card, as `report.model_card.model_card` makes it."""
    model, data, training = card["model"], card["data"], card["training"]
    env = card["task"]["env"] or "recorded data alone"
    chunk = model["chunk"]
    made = ", ".join(f"{model[kind]}" for kind in ("actor", "learner") if model[kind])
    facts = [
        (
            "policy",
            f"{model['policy']} (prior {model['prior']}, sampler {model['sampler']}, {model['precision']})",
        ),
        *([("fine-tuned", f"{made}; {model['commands']} command(s)")] if made else []),
        ("stages", f"{', '.join(training['stages'])}; this is {model['stage']}"),
        (
            "acts",
            f"{chunk['predict']} actions at once, {chunk['execute']} executed, on {chunk['observe']} observation(s)",
        ),
        ("data", _data(data)),
        ("seeds", ", ".join(map(str, training["seeds"]))),
        ("command", f"`{training['command']}`"),
    ]
    parts = [
        f"# Model card: {model['policy']} on {env}",
        _table(("", ""), facts),
        "## Results",
        *[_point(point, len(card["results"]) > 1) for point in card["results"][:_MOST]],
        _modes(card),
        "## Intended use",
        card["intended_use"],
        "## Known limits",
        "\n".join(f"- {line}" for line in card["limits"]),
        "## Licence",
        "Not stated: whoever publishes this model names one here.",
        "## Made with",
        ", ".join(f"{name} {version}" for name, version in card["versions"].items() if version)
        + f"; {training['device']['kind']}. Everything above, and more of it, is in `model_card.json`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _data(data: Mapping[str, Any]) -> str:
    if not data:
        return "none"
    text = f"{data.get('source', '')}, fingerprint `{data.get('fingerprint', '')}`"
    counted = [f"{data[name]} {name}" for name in ("episodes", "steps") if name in data]
    return ", ".join([text, *counted])


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _point(point: Mapping[str, Any], named: bool) -> str:
    """A row per stage: success, return, modes, commands; or offline errors where nothing was played."""
    label = ", ".join(f"{name} = {value:g}" for name, value in point["values"].items())
    rows, offline = [], []
    for name, stage in point["stages"].items():
        if "success_rate" in stage or "mean_reward" in stage:  # a task may define no success
            figures = [
                style.interval(stage[key], 3 - i) if key in stage else "–" for i, key in enumerate(_FIGURES)
            ]
            counts = [style.number((stage.get(key) or {}).get("mean"), 1) for key in _COUNTS]
            rows.append([name, *figures, *counts])
        elif errors := [(key, entry) for key, entry in stage.items() if key.startswith("offline/")]:
            offline += [
                [name, key.removeprefix("offline/"), style.interval(entry, 3)] for key, entry in errors
            ]
    head = f"At {label}:\n\n" if named else ""
    tables = []
    if rows:
        tables.append(_table(("stage", "success", "return", "modes kept", "modes commanded"), rows))
    if offline:
        tables.append(_table(("stage", "held-out windows", "value"), offline))
    return head + "\n\n".join(tables)


def _modes(card: Mapping[str, Any]) -> str:
    """Of the model's stage each mode, each command of the first seed, and each other setting."""
    stage = card["results"][0]["stages"][card["model"]["stage"]]
    parts = []
    if stage["modes"]:
        rows = [
            [row["mode"], f"{row['share']:.2f}", _range(row["success"])] for row in stage["modes"][:_MOST]
        ]
        parts.append(_table(("mode", "share of successes", "success, at least – at most"), rows))
    if stage["control"]:
        rows = [
            [
                str(row["z"]),
                row["mode"] or "–",
                f"{row['success']:.2f} [{row['wilson95'][0]:.2f}, {row['wilson95'][1]:.2f}]",
                "–" if row["control"] is None else f"{row['control']:.2f}",
            ]
            for row in stage["control"][0][:_MOST]
        ]
        parts.append(_table(("z", "leads to", "success", "share of its successes there"), rows))
    if stage["settings"]:
        rows = [[name, style.interval(entry, 3)] for name, entry in stage["settings"].items()]
        parts.append(_table(("other setting", "success"), rows))
    left = max(len(stage["modes"]), len(stage["control"][0]) if stage["control"] else 0) > _MOST
    if left:
        parts.append(f"The first {_MOST} of each; the others are in `model_card.json`.")
    return "\n\n".join(parts)


def _range(ends: Sequence[float] | None) -> str:
    return "–" if ends is None else f"{ends[0]:.2f} – {ends[1]:.2f}"
