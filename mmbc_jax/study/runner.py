"""Runs the variants of studies, each in a process of its own, so many at a time as there are places.

A CPU core holds one process, pinned to it: small networks gain nothing from a second thread. On an accelerator
variants run one after another. What is finished is not run again; a variant that fails is reported, and the
others go on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmbc_jax.core.config import from_plain
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.files import plain, read_json, read_sealed
from mmbc_jax.diagnostics.domains import SHIFTS
from mmbc_jax.runs import workdir as workdirs
from mmbc_jax.runs.milestones import SECONDS
from mmbc_jax.runs.sections import completed
from mmbc_jax.study.cells import joined
from mmbc_jax.study.plan import Entry, Results, Study, Variant

POLL_SECONDS = 0.2


def variant_dir(workdir: Path, study: Study, variant: Variant) -> Path:
    """The work directory of a variant."""
    return workdir / study.name / variant.name


def finished(folder: Path) -> bool:
    """Whether a variant has its summary."""
    return (folder / "summary.json").exists()


MAY_DIFFER = ("seeds", "first_seed", "data.seed", *workdirs.MAY_DIFFER)
"""Fields and sections in which a variant that has run may differ from the one asked for: its seeds are told."""


def check_finished(workdir: Path, studies: Sequence[Study]) -> None:
    """Raises UserError where a variant that has run had another configuration, so that its figures are not these."""
    for study in studies:
        for variant in study.variants:
            folder = variant_dir(workdir, study, variant)
            if not finished(folder) or not (folder / "config.json").exists():
                continue
            own = completed(from_plain(read_sealed(folder / "config.json")))
            changes = workdirs.changed(plain(own), plain(variant.config))
            told = [one for one in changes if not {one[0], one[0].partition(".")[0]} & set(MAY_DIFFER)]
            if told:
                raise UserError(
                    f"{folder} holds a run with another configuration ({'; '.join(workdirs.worded(told[:4]))}); "
                    "give another --workdir, or remove that folder to run it again"
                )


def entries_of(variant: Variant, summary: Mapping[str, Any]) -> list[Entry]:
    """One entry per sweep point of a variant's `summary.json`, after one for each stage beside.

    With stages beside every entry has the tag `stage`. What was played under another setting of the environment is
    `shifts/SETTING/METRIC`; `wall_s_to_95`, a fact of the run, stands beside the metrics.
    """
    run = summary["run"]
    found = [
        Entry({**variant.tags, "stage": stage}, _figures(summary, 0, stage), run) for stage in variant.beside
    ]
    named = {"stage": variant.stage} if variant.beside else {}
    for number, point in enumerate(summary["points"]):
        swept = {path.rsplit(".", 1)[-1]: value for path, value in point["values"].items()}
        found.append(Entry({**variant.tags, **named, **swept}, _figures(summary, number, variant.stage), run))
    return found


def _figures(summary: Mapping[str, Any], number: int, stage: str) -> dict[str, Any]:
    """{name: figure} of a stage of a sweep point."""
    metrics = dict(summary["points"][number]["stages"][stage])
    for setting, own in metrics.pop(SHIFTS, {}).items():
        metrics |= {f"{SHIFTS}/{setting}/{name}": value for name, value in own.items()}
    timing = summary["run"].get("timings", {}).get(stage, {})
    if SECONDS in timing:
        metrics[SECONDS] = {"per_seed": timing[SECONDS][number]}
    return metrics


def collect(workdir: Path, study: Study) -> tuple[Results, list[str]]:
    """(entries of every finished variant, the cells of one joined; names of those that are not finished)."""
    parts: list[tuple[str, Entry]] = []
    missing = []
    for variant in study.variants:
        folder = variant_dir(workdir, study, variant)
        if finished(folder):
            summary = read_json(folder / "summary.json")
            config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
            if "data" in config:  # from the disk: it may have run with other seeds than those asked for now
                summary["run"]["data_seeds"] = [config["data"]["seed"]]
            group = variant.group or variant.name
            parts += [(group, entry) for entry in entries_of(variant, summary)]
        else:
            missing.append(variant.name)
    return Results(joined(parts)), missing


def run_all(
    workdir: Path,
    studies: Sequence[Study],
    command: Callable[[Study, Variant], list[str]],
    jobs: int,
    say: Callable[[str], None],
) -> list[str]:
    """Runs what is not finished.

    Args:
      workdir: of the studies.
      studies: what to run.
      command: arguments of `python` that run one variant.
      jobs: processes at a time, each pinned to a core where there are several.
      say: takes a line of progress.

    Returns:
      "study/variant" of those that failed; their output is in `log.txt` beside their results.
    """
    waiting = [
        (study, variant)
        for study in studies
        for variant in study.variants
        if not finished(variant_dir(workdir, study, variant))
    ]
    total, failed, done = len(waiting), [], 0
    running: dict[int, tuple[subprocess.Popen, str, float]] = {}
    try:
        while waiting or running:
            for place in range(jobs):
                if place not in running and waiting:
                    study, variant = waiting.pop(0)
                    process = _start(
                        variant_dir(workdir, study, variant), command(study, variant), place, jobs
                    )
                    running[place] = (process, f"{study.name}/{variant.name}", time.perf_counter())
            time.sleep(POLL_SECONDS)
            for place, (process, name, start) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[place]
                done += 1
                failed += [name] if process.returncode else []
                outcome = f"failed, see {name}.log" if process.returncode else "done"
                say(f"[{done}/{total}] {name}: {outcome} after {time.perf_counter() - start:.0f} s")
    finally:
        for process, _, _ in running.values():
            process.terminate()  # it saves first
        for process, _, _ in running.values():
            process.wait()
    return failed


def _start(folder: Path, arguments: list[str], place: int, jobs: int) -> subprocess.Popen:
    folder.parent.mkdir(parents=True, exist_ok=True)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    mine = {cores[place % len(cores)]} if cores and jobs > 1 else set()
    with open(f"{folder}.log", "w") as log:
        process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=subprocess.STDOUT)
    if mine:  # before it has started a thread; a function between fork and exec could deadlock under JAX
        os.sched_setaffinity(process.pid, mine)
    return process
