"""Kills training at random moments, starts it again, and compares the result with an undisturbed run.

Run:     python scripts/kill_and_resume.py [--kills 10] [--config FILE] [--config.KEY=VALUE ...]
Expect:  a table of the kills, and exit code 0 where every metric is identical bit for bit.

Two undisturbed runs come first: the first fills the compilation cache, the second is timed, and both must
agree. Then a run is started and receives SIGKILL after a delay drawn uniformly over that time; the same
command continues it, until it ends before the next delay does. Runs follow one another until enough kills
have hit a live process.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
MAX_RUNS_PER_KILL = 20


@dataclasses.dataclass
class Kill:
    """One SIGKILL: the run it hit, seconds after its start, and how far that run had come."""

    run: int
    delay: float
    reached: str


class Training:
    """The command under test.

    Args:
      config: of `mmbc_jax.train`.
      overrides: `--config.KEY=VALUE` arguments.
    """

    def __init__(self, config: str, overrides: list[str]):
        self.command = [sys.executable, "-m", "mmbc_jax.train", "--config", config, *overrides]

    def start(self, workdir: Path) -> subprocess.Popen:
        """A process that trains in `workdir`; its output goes to a file beside it."""
        with workdir.with_suffix(".log").open("ab") as log:
            command = [*self.command, "--workdir", str(workdir)]
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)

    def finish(self, process: subprocess.Popen, workdir: Path) -> None:
        """Waits for the end of a process.

        Raises:
          RuntimeError: it failed; the message holds the end of its output.
        """
        if process.wait() != 0:
            tail = workdir.with_suffix(".log").read_text()[-2000:]
            raise RuntimeError(f"training in {workdir} exited with {process.returncode}:\n{tail}")


def differences(workdir: Path, reference: Path) -> list[str]:
    """Where a finished run differs from the reference: metrics and episodes exactly, times not at all."""
    found = []
    ours, theirs = (json.loads((path / "summary.json").read_text()) for path in (workdir, reference))
    for key in ("stages", "points"):
        if ours[key] != theirs[key]:
            found.append(f"summary.json: {key}")
    if ours["run"]["data"] != theirs["run"]["data"]:
        found.append("summary.json: run.data")
    ours, theirs = (untimed_rows(path) for path in (workdir, reference))
    if ours != theirs:
        first = next(
            (i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None
        )
        found.append(
            f"metrics.jsonl: {len(ours)} rows against {len(theirs)}, first difference in row {first}"
        )
    for stage in sorted(path.name for path in (reference / "stages").iterdir()):
        with (
            np.load(workdir / "stages" / stage / "rollouts.npz") as one,
            np.load(reference / "stages" / stage / "rollouts.npz") as other,
        ):
            names = [name for name in other.files if one[name].tobytes() != other[name].tobytes()]
        found += [f"stages/{stage}/rollouts.npz: {name}" for name in names]
    left = [*workdir.rglob("*.tmp"), *workdir.rglob("*orbax-checkpoint-tmp*")]
    return found + [f"left behind: {path.relative_to(workdir)}" for path in left]


def untimed_rows(workdir: Path) -> list[dict[str, Any]]:
    """Rows of `metrics.jsonl` without `time/...`."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def reached(workdir: Path) -> str:
    """How far a killed run had come, in words."""
    if not (workdir / "config.json").exists():
        return "before config.json"
    done = sorted(path.parent.name for path in workdir.glob("stages/*/result.json"))
    saved = {
        path.name: sum(p.name.isdigit() for p in path.iterdir()) for path in workdir.glob("checkpoints/*")
    }
    rows = (
        (workdir / "metrics.jsonl").read_bytes().count(b"\n") if (workdir / "metrics.jsonl").exists() else 0
    )
    half = [*workdir.rglob(".*.tmp"), *workdir.glob("checkpoints/*/*orbax-checkpoint-tmp*")]
    parts = [
        f"{rows} rows",
        f"checkpoints {saved}" if saved else "no checkpoint",
        f"finished {', '.join(done) or '-'}",
    ]
    if (workdir / "summary.json").exists():
        parts.append("summary.json")
    if half:
        parts.append(f"{len(half)} half-written")
    return "; ".join(parts)


def disturb(
    training: Training, folder: Path, reference: Path, seconds: float, kills: int, seed: int
) -> tuple[list[Kill], dict[int, list[str]]]:
    """Runs and kills until `kills` have hit.

    Args:
      training: the command.
      folder: for the work directories.
      reference: a finished undisturbed run.
      seconds: the delays are uniform on (0, seconds).
      kills: how many must hit a live process.
      seed: of the delays.

    Returns:
      (the kills, {run: differences from the reference}).
    """
    rng = np.random.default_rng(seed)
    done: list[Kill] = []
    verdicts: dict[int, list[str]] = {}
    while len(done) < kills and len(verdicts) < MAX_RUNS_PER_KILL * kills:
        run = len(verdicts)
        workdir = folder / f"killed_{run}"
        while True:
            process = training.start(workdir)
            delay = float(rng.uniform(0.0, seconds)) if len(done) < kills else math.inf
            try:
                process.wait(None if math.isinf(delay) else delay)
            except subprocess.TimeoutExpired:
                process.kill()
                if process.wait() == -9:
                    done.append(Kill(run, delay, reached(workdir)))
                    continue
            training.finish(process, workdir)
            break
        verdicts[run] = differences(workdir, reference)
    return done, verdicts


def show(console: Console, kills: list[Kill], verdicts: dict[int, list[str]]) -> None:
    """Prints a row per kill and a verdict per run."""
    table = Table("kill", "run", "after s", "reached", "run's result")
    for i, kill in enumerate(kills):
        verdict = "identical" if not verdicts[kill.run] else "DIFFERS"
        table.add_row(str(i + 1), str(kill.run), f"{kill.delay:.2f}", kill.reached, verdict)
    console.print(table)
    for run, found in verdicts.items():
        for difference in found:
            console.print(f"run {run}: {difference}", style="red")


def main(argv: list[str]) -> int:
    """Runs the command line; 1 where any run differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default=str(ROOT / "configs" / "smoke.py"))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="for the work directories; default: a temporary one, removed again")
    args, overrides = parser.parse_known_args(argv)
    console = Console(width=None if os.isatty(1) else 140)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        training = Training(args.config, overrides)
        seconds = 0.0
        for name in ("reference", "repeated"):
            start = time.perf_counter()
            training.finish(training.start(folder / name), folder / name)
            seconds = time.perf_counter() - start
        verdicts = {-1: differences(folder / "repeated", folder / "reference")}
        console.print(f"undisturbed: {seconds:.1f} s with compiled programs")
        kills, killed = disturb(training, folder, folder / "reference", seconds, args.kills, args.seed)
    verdicts |= killed
    show(console, kills, verdicts)
    failed = sum(bool(found) for found in verdicts.values())
    console.print(f"{len(kills)} kills in {len(killed)} runs; {failed} runs differ from the undisturbed one")
    return int(failed > 0 or len(kills) < args.kills)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
