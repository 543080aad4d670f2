"""Writes docs/tasks.md and its pictures from what the tasks say and do.

    python scripts/write_tasks.py [NAME ...]

Plays every expert and measures every task on this machine: minutes. With names only these are measured and drawn
anew; figures of the others stay as `docs/tasks.json` has them.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import os
import sys
from pathlib import Path

from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import UserError
from mmbc_jax.envs import __main__ as tasks

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURES, PICTURES = DOCS / "tasks.md", DOCS / "tasks.json", DOCS / "images" / "tasks"
EPISODES, SEED = 64, 0
INTRO = """# Tasks

Written by `python scripts/write_tasks.py`, on {where}. `python -m mmbc_jax.envs` measures the same on your
machine, `python -m mmbc_jax.envs NAME --render FILE.mp4` shows the expert in every mode.

Success is that of the expert in each mode, of {episodes} episodes without execution noise; steps/s are control steps
of {batch} environments together under random actions, resets included; compile is that program's. Where the context
says which mode is right (`conditional_circle`), an expert that is told another one fails.
Perturbations that every task takes: [robustness.md](robustness.md).
"""


def rules(name: str) -> str:
    """The module docstring of a task, as text."""
    spec = importlib.util.find_spec(registry.available("env")[name])
    origin = Path(str(getattr(spec, "origin", "")))
    return ast.get_docstring(ast.parse(origin.read_text(encoding="utf-8"))) or ""


def measured(name: str) -> dict[str, object]:
    """Figures of a task; writes its picture where there is something to see."""
    section = config.plugin("env", name)
    found, env, played = tasks.played_task(name, section, EPISODES, SEED)
    if not found.missing:
        try:
            tasks.render(env, PICTURES / f"{name}.png", SEED, played)
        except UserError as error:
            print(f"{name}: {error}", file=sys.stderr)
    return dataclasses.asdict(found)


def table(figures: dict[str, dict]) -> str:
    """All tasks in lines."""
    lines = [
        "| task | observes | actions | horizon | modes | success, least and most | compile | steps/s |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in figures.items():
        cost = None if found["cost"] is None else tasks.experts.Cost(**found["cost"])
        cells = tasks.row(tasks.Task(**{**found, "success": tuple(found["success"]), "cost": cost}))
        lines.append(f"| [`{cells[0]}`](#{name}) | " + " | ".join(cells[1:]) + " |")
    return "\n".join(lines)


def section(name: str, found: dict) -> str:
    """One task: picture, rules, success by mode."""
    parts = [f"## {name}"]
    if (PICTURES / f"{name}.png").exists():
        parts.append(f"![the expert of {name} in its modes](images/tasks/{name}.png)")
    parts.append(f"```text\n{rules(name)}\n```")
    if found["success"]:
        parts.append("Success by mode: " + ", ".join(f"{share:.3f}" for share in found["success"]) + ".")
    elif found["modes"]:
        parts.append("It has no expert: demonstrations come from a file.")
    if found["missing"]:
        parts.append(f"Not measured: {found['missing']}.")
    return "\n\n".join(parts)


def main(names: list[str]) -> None:
    """Measures `names`, or all, and writes the page."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    PICTURES.mkdir(parents=True, exist_ok=True)
    known = registry.available("env")
    for name in names or known:
        figures[name] = measured(name)
    figures = {name: figures[name] for name in known if name in figures}
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    where = f"a CPU ({len(os.sched_getaffinity(0))} core)"
    intro = INTRO.format(where=where, episodes=EPISODES, batch=tasks.experts.BATCH)
    parts = [intro, table(figures), *(section(name, found) for name, found in figures.items())]
    PAGE.write_text("\n\n".join(part.rstrip() for part in parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
