"""Trains for a long time in short epochs and shows memory and open files: `python scripts/soak.py --out DIR`.

`landscape` with epochs of one iteration, an evaluation and a checkpoint at each, so that whatever is left behind
by an epoch is left behind some ten thousand times. Sampled from the kernel's account of the process; after the
first tenth, in which programs are compiled and allocators settle, neither should grow. Writes `soak.csv` and
`soak.png`, and prints the slope of each by least squares.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
WARM_UP = 0.1
OPTIONS = (
    "stages=bc,discover,finetune",
    "bc.steps=20",
    "bc.steps_per_epoch=10",
    "bc.steps_per_row=10",
    "bc.warmup_steps=5",
    "discover.iterations=2",
    "finetune.iterations=1000000",
    "learner.iterations_per_epoch=1",
    "learner.num_envs=16",
    "learner.decisions=4",
    "learner.minibatches=2",
    "evaluation.episodes=64",
    "evaluation.every_epochs=1",
    "checkpoint.best=success_rate",
    "figures=()",
)


def sample(pid: int) -> tuple[float, int]:
    """(resident MiB, open files) of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmRSS"].split()[0]) / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def soak(workdir: Path, minutes: float, every: float) -> list[tuple[float, float, int, int]]:
    """(minutes, resident MiB, open files, logged rows) of a run that is stopped after a time."""
    config = str(ROOT / "configs" / "smoke.py")
    command = [sys.executable, "-m", "mmbc_jax.train", "--config", config, "--workdir", str(workdir)]
    command += [f"--config.{option}" for option in OPTIONS]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    start, found = time.monotonic(), []
    try:
        while (passed := (time.monotonic() - start) / 60) < minutes:
            time.sleep(every)
            if process.poll() is not None:
                raise SystemExit(f"the run ended with {process.returncode}")
            log = workdir / "metrics.jsonl"
            rows = sum(1 for _ in log.open("rb")) if log.exists() else 0
            found.append((passed, *sample(process.pid), rows))
    finally:
        process.terminate()
        process.wait(60)
    return found


def slopes(samples: np.ndarray) -> tuple[float, float]:
    """(MiB, files) an hour after the warm-up."""
    settled = samples[samples[:, 0] > WARM_UP * samples[-1, 0]]
    hours = settled[:, 0] / 60
    return float(np.polyfit(hours, settled[:, 1], 1)[0]), float(np.polyfit(hours, settled[:, 2], 1)[0])


def draw(samples: np.ndarray, path: Path) -> None:
    """Memory above, open files below, against minutes."""
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True)
    for ax, column, label in ((top, 1, "resident memory [MiB]"), (bottom, 2, "open files")):
        ax.plot(samples[:, 0], samples[:, column], color="C0")
        ax.axvline(WARM_UP * samples[-1, 0], color="0.6", linestyle="--", linewidth=0.8)
        ax.set_ylim(0, 1.15 * samples[:, column].max())
        ax.set_ylabel(label)
        ax.grid(alpha=0.3)
    bottom.set_xlabel("minutes; the slope is taken right of the dashed line")
    figure.savefig(path, dpi=120)


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between samples")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    samples = np.array(soak(args.out / "run", args.minutes, args.every))
    with (args.out / "soak.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("minutes", "resident_mib", "open_files", "rows"))
        writer.writerows([f"{m:.2f}", f"{mib:.1f}", int(files), int(rows)] for m, mib, files, rows in samples)
    draw(samples, args.out / "soak.png")
    memory, files = slopes(samples)
    print(
        f"{samples[-1, 0]:.0f} minutes, {int(samples[-1, 3])} rows: {memory:+.1f} MiB and {files:+.1f} open files an "
        f"hour; at the end {samples[-1, 1]:.0f} MiB and {int(samples[-1, 2])} files"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
