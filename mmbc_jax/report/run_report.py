"""The end of a run: `summary.json`, the figures and the table."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mmbc_jax.core.files import write_json
from mmbc_jax.report import curves, figures, style, summary, table, trajectories
from mmbc_jax.training.logs import read_rows
from mmbc_jax.training.pipeline import Pipeline
from mmbc_jax.training.results import StageResult

Results = dict[str, StageResult]


def write(pipeline: Pipeline, results: Results, argv: Sequence[str], seconds: float) -> dict[str, Any]:
    """Writes `summary.json` and `figures/` into the work directory.

    Args:
      pipeline: that produced the results.
      results: by stage.
      argv: the command's arguments.
      seconds: wall time of this process up to here.

    Returns:
      The summary.
    """
    grid = pipeline.grid
    seeds = range(len(grid.seeds))
    points = [
        {
            "values": grid.values(point),
            "stages": {
                name: [result.metrics[int(result.index[point, seed])] for seed in seeds]
                for name, result in results.items()
            },
        }
        for point in range(len(grid.points))
    ]
    found = summary.build_summary(points, _run_facts(pipeline, results, argv, seconds))
    write_json(pipeline.workdir / "summary.json", found)
    _figures(pipeline, results, found)
    return found


def show(console: Console, found: dict[str, Any], workdir: Path) -> None:
    """Prints the table, and where everything is."""
    console.print(table.table(found))
    console.print(f"summary.json, metrics.jsonl, tensorboard/, figures/ and checkpoints/ are in {workdir}")


def _run_facts(pipeline: Pipeline, results: Results, argv: Sequence[str], seconds: float) -> dict[str, Any]:
    config, grid = pipeline.setup.config, pipeline.grid
    timings = {
        name: {
            "wall_s": result.facts["train_seconds"] + result.facts["evaluate_seconds"],
            "compile_s": result.facts["compile_seconds"],
            "env_steps": result.facts["env_steps"],
            "train_steps": result.facts["train_steps"],
            "temp_bytes": result.facts["temp_bytes"],
            "runs": len(result.metrics),
        }
        for name, result in results.items()
    }
    data = pipeline.data_facts()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "env": config.env.name,
        "policy": config.policy.name,
        "sampler": config.sampler.name,
        "prior": config.prior.name,
        "mi_coef": config.finetune.mi_coef,
        "num_modes": config.finetune.num_modes,
        "seeds": list(grid.seeds),
        "episodes": config.evaluation.episodes,
        "timings": timings,
        "process_seconds": seconds,
        "peak_host_bytes": peak * (1 if sys.platform == "darwin" else 1024),
        "data": data,
        "device": summary.device(),
        "versions": summary.versions(),
        "command": summary.command("mmbc_jax.train", argv),
    }


def _figures(pipeline: Pipeline, results: Results, found: dict[str, Any]) -> None:
    folder = pipeline.workdir / "figures"
    folder.mkdir(exist_ok=True)
    setup = pipeline.setup
    env_name = setup.config.env.name
    facts = {key: found["run"][key] for key in ("env", "policy", "mi_coef", "num_modes", "seeds", "episodes")}
    rows = read_rows(pipeline.workdir / "metrics.jsonl")
    labels = {i: table.point_label(point["values"]) for i, point in enumerate(found["points"])}
    for name, result in results.items():
        if any(row["stage"] == name for row in rows):
            figure = curves.learning_curves(rows, name, env_name, point_labels=labels, facts=facts)
            style.save(figure, folder / f"curves_{name}.png")
        if setup.env is None:
            continue
        spec = setup.env_spec
        for point, entry in enumerate(found["points"]):
            suffix = name if len(found["points"]) == 1 else f"{name}_point{point}"
            metrics = entry["stages"][name]
            rollouts = result.run(point, 0)
            if len(spec.position) == 2 and rollouts is not None:
                figure = trajectories.trajectories(
                    setup.env, spec, rollouts, result.num_modes, metrics, stage=suffix, facts=facts
                )
                style.save(figure, folder / f"trajectories_{suffix}.png")
            if spec.num_modes and result.num_modes > 1:
                figure = figures.z_mode_heatmap(metrics, env_name, spec.mode_names, stage=suffix, facts=facts)
                style.save(figure, folder / f"z_modes_{suffix}.png")
    if setup.env is not None and setup.env_spec.num_modes:
        figure = figures.mode_shares(
            found["stages"], env_name, setup.env_spec.num_modes, setup.env_spec.mode_names, facts=facts
        )
        style.save(figure, folder / "mode_shares.png")
