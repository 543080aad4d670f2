"""The end of a run: `summary.json`, the figures and the table."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from mmbc_jax.core import registry
from mmbc_jax.core.files import write_json
from mmbc_jax.core.registry import chosen_names
from mmbc_jax.evaluation.results import StageResult
from mmbc_jax.nn.precision import described
from mmbc_jax.report import commands, differences, films, offline_table, played, style, summary, table
from mmbc_jax.report import run_report_lines as said
from mmbc_jax.report.ended import ended
from mmbc_jax.report.finished import Finished
from mmbc_jax.report.model_card import write_card
from mmbc_jax.report.web import run_page
from mmbc_jax.runs.grid import Grid
from mmbc_jax.runs.logs import read_rows
from mmbc_jax.runs.milestones import SECONDS
from mmbc_jax.runs.pipeline import Pipeline, loggers_of
from mmbc_jax.runs.restored import Restored
from mmbc_jax.runs.setup import Setup

Results = dict[str, StageResult]


def write(pipeline: Pipeline, results: Results, argv: Sequence[str], seconds: float) -> dict[str, Any]:
    """Writes `summary.json`, the model card, `figures/` and `report.html` into the work directory of a run.

    Args:
      pipeline: that produced the results.
      results: by stage.
      argv: the command's arguments.
      seconds: wall time of this process up to here.

    Returns:
      The summary.
    """
    run = {
        **_run_facts(pipeline.setup, pipeline.grid, results),
        "process_seconds": seconds,
        "data": pipeline.demonstrations.facts(),
        "start_from": pipeline.sources.differences,
        "command": summary.command("mmbc_jax.train", argv),
    }
    if pipeline.setup.config.evaluation.paired:
        run["paired"] = differences.between_stages(results, len(pipeline.grid.points))
    found = summary.build_summary(_points(pipeline.grid, results), run)
    write_json(pipeline.workdir / "summary.json", found)
    write_card(pipeline.workdir, pipeline.setup, found)
    rows = read_rows(pipeline.workdir / "metrics.jsonl")
    finished = Finished(pipeline.setup, results, found, rows)
    draw_figures(finished, pipeline.workdir / "figures")
    write_page(finished, pipeline.workdir, pipeline.setup.config.videos)
    told = ended(pipeline.setup, pipeline.grid, results, pipeline.workdir / "figures")
    for logger in loggers_of(pipeline):
        logger.finish(told)
    return found


def write_page(run: Finished, workdir: Path, videos: str, out: Path | None = None) -> Path:
    """Writes the page of a run; returns its path.

    Args:
      run: that is finished.
      workdir: with its figures, and its checkpoints where episodes are played again.
      videos: as the option of that name.
      out: where to write; None for `report.html` in the work directory.
    """
    shown = ""
    if videos != "none":
        shown = films.films(run, played.player(workdir) if videos == "played" else None)
    return run_page.write(out or workdir / run_page.NAME, run, workdir / "figures", shown)


def evaluation_summary(
    restored: Restored, results: Results, argv: Sequence[str], more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The summary of an evaluation: that of training, for one stage; `more` facts of what was asked for."""
    run = {
        **_run_facts(restored.setup, restored.grid, results),
        **(more or {}),
        "checkpoint": restored.checkpoint,
        "command": summary.command("mmbc_jax.evaluate", argv),
    }
    return summary.build_summary(_points(restored.grid, results), run)


def console() -> Console:
    """Where tables go: as wide as the terminal, or $COLUMNS; outside of one 120 columns."""
    return Console(width=None if os.isatty(1) or "COLUMNS" in os.environ else 120)


def show(console: Console, found: dict[str, Any], workdir: Path) -> None:
    """Prints the table, and where everything is."""
    show_stages(console, found)
    held_out = offline_table.table(found)
    if held_out is not None and ("baseline" in found["stages"] or not found["run"]["env"]):
        console.print(held_out)
    for note in (found["run"].get("data") or {}).get("notes", ()):
        console.print(f"noticed in the data: {note}", highlight=False, markup=False)
    console.print(f"look at {workdir}/report.html", highlight=False, soft_wrap=True)
    console.print(
        "summary.json, model_card.md, metrics.jsonl, tensorboard/, figures/ and checkpoints/ lie beside it",
        highlight=False,
    )


def show_stages(console: Console, found: dict[str, Any]) -> None:
    """Prints the table of episodes, the verdicts and what diverged, as far as there is any."""
    if found["run"]["env"]:
        for block in table.blocks(found, console.width):
            console.print(block)
    if "recommand" in found["run"]:
        console.print(commands.table(found["run"]["recommand"]))
    for line in (
        *commands.lines(found),
        *said.verdicts(found),
        *differences.lines(found["run"].get("paired", [])),
        *said.stopped(found),
    ):
        console.print(line, highlight=False)


def _points(grid: Grid, results: Results) -> list[dict[str, Any]]:
    seeds = range(len(grid.seeds))
    return [
        {
            "values": grid.values(point),
            "stages": {
                name: [result.metrics[int(result.index[point, seed])] for seed in seeds]
                for name, result in results.items()
            },
        }
        for point in range(len(grid.points))
    ]


def _run_facts(setup: Setup, grid: Grid, results: Results) -> dict[str, Any]:
    config = setup.config
    timings = {
        name: {
            "wall_s": result.facts["train_seconds"] + result.facts["evaluate_seconds"],
            "compile_s": result.facts["compile_seconds"],
            "train_compilations": result.facts["train_compilations"],
            "evaluate_compilations": result.facts["evaluate_compilations"],
            "env_steps": result.facts["env_steps"],
            "train_steps": result.facts["train_steps"],
            "diverged": result.facts.get("diverged", 0),
            "temp_bytes": result.facts["temp_bytes"],
            "mode": result.facts.get("mode"),
            "lane": result.facts.get("lane", ""),
            SECONDS: _to_95(grid, result),
            "runs": len(result.metrics),
        }
        for name, result in results.items()
    }
    # of the largest process; those of lanes run beside this one
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "env": config.env.name,
        "policy": config.policy.name,
        "sampler": config.sampler.name,
        "prior": config.prior.name,
        "mi_coef": config.finetune.mi_coef,
        "num_modes": config.finetune.num_modes,
        "precision": described(config.precision, jax.default_backend()),
        "seeds": list(grid.seeds),
        "episodes": config.evaluation.episodes,
        "timings": timings,
        "stopped": {
            name: result.facts["stopped"] for name, result in results.items() if result.facts.get("stopped")
        },
        "peak_host_bytes": peak * (1 if sys.platform == "darwin" else 1024),
        "device": summary.device(),
        "versions": summary.versions(),
    }


def _to_95(grid: Grid, result: StageResult) -> list[list[float | None]]:
    """[points][seeds] seconds of training until episodes succeeded; None where they did not, or nobody noted it."""
    each = result.facts.get(SECONDS) or [None] * len(result.metrics)
    return [[each[int(result.index[p, s])] for s in range(len(grid.seeds))] for p in range(len(grid.points))]


def draw_figures(run: Finished, folder: Path) -> None:
    """Draws the figures that the configuration names, as PNG files in `folder`."""
    folder.mkdir(exist_ok=True)
    for name in chosen_names("figure", run.setup.config.figures, "figures"):
        plugin = registry.find("figure", name, "figures")
        for title, figure in plugin(plugin.default_config())(run):
            style.save(figure, folder / f"{title}.png")
