"""The whole main job of this checkout beside another one's: alone on the machine, and with busy neighbours.

    git worktree add ../before b978b14
    python -m benchmarks.job --other ../before [--pairs 1] [--neighbours 2]

Both do the work that the job had at b978b14 (no noise, 32 modes, 120 iterations) from an empty cache of compiled
programs, as whole processes: imports, compilation, demonstrations, training, evaluation, figures. A ratio is other /
ours within a pair. Then this checkout alone runs beside `--neighbours` processes that each want a core.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import host
from benchmarks.timing import spread

ROOT = Path(__file__).parents[1]
BOTH = "--config configs/finetune/avoiding_bmd.py --config.finetune.iterations=120 --config.finetune.num_modes=32"
OURS = (
    "--config.finetune.mi_coef=.5 --config.env.start_noise=0 --config.env.action_noise=0 --config.env.obs_noise=0 "
    "--config.evaluation.shifts= --config.evaluation.episodes=1024 --config.learner.learning_rate=5e-4 "
    "--config.learner.critic_learning_rate=5e-4"
)
"""What that job was, in options that it did not have or had as defaults."""
_BUSY = "while True: pass"


def measure(checkout: Path, flags: str) -> dict[str, float]:
    """Wall and processor seconds of one job from an empty cache, and of its stages' loops.

    Raises:
      subprocess.CalledProcessError: it failed; its own error is on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "PYTHONPATH": str(checkout),
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache",
            "JAX_PLATFORMS": "cpu",
        }
        command = [sys.executable, "-m", "mmbc_jax.train", *shlex.split(flags), "--workdir", f"{folder}/run"]
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        timings = json.loads(Path(f"{folder}/run/summary.json").read_text())["run"]["timings"]
    return {
        "job": seconds,
        "processor": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        **{name: timing["wall_s"] for name, timing in timings.items()},
    }


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that each want a core, for as long as it lasts."""
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def compare(other: Path, pairs: int, count: int) -> dict[str, Any]:
    """The measurements of both, in turn, and of ours beside neighbours."""
    before: float = host.load_average()
    found: list[dict[str, dict[str, float]]] = []
    for pair in range(pairs):
        sides = {"ours": (ROOT, f"{BOTH} {OURS}"), "other": (other, BOTH)}
        order = ["ours", "other"] if pair % 2 else ["other", "ours"]
        found.append({side: measure(*sides[side]) for side in order})
        print(json.dumps(found[-1]), flush=True)
    with neighbours(count):
        crowded = measure(ROOT, f"{BOTH} {OURS}")
    return {
        "pairs": found,
        "crowded": crowded,
        "neighbours": count,
        "ratio": {
            name: spread([pair["other"][name] / pair["ours"][name] for pair in found])
            for name in found[0]["ours"]
        },
        "cores": len(os.sched_getaffinity(0)),
        "load": [before, host.load_average()],
    }


def page(result: dict[str, Any]) -> str:
    """The results as markdown."""
    pairs, count = len(result["pairs"]), result["neighbours"]
    before, after = result["load"]
    told = [
        "Written by `python -m benchmarks.job`; seconds, from an empty cache of compiled programs, at the settings",
        f"of the other checkout. {pairs} pairs in turn, median; then ours beside {count} processes that want a core.",
        f"{result['cores']} cores; load average {before:.1f} before, {after:.1f} after.",
    ]
    rows = []
    for name, ratio in result["ratio"].items():
        other, ours = (_median(result, side, name) for side in ("other", "ours"))
        rows.append(
            f"| {name} | {other:.1f} | {ours:.1f} | {ratio['median']:.2f} | {result['crowded'][name]:.1f} |"
        )
    return "\n".join(
        [
            "# The main job",
            "",
            *told,
            "",
            f"| | other | ours | other / ours | ours, {count} busy neighbours |",
            "|---|---:|---:|---:|---:|",
            *rows,
            "",
            "Stages: training and evaluation, without compilation; ours trains `finetune` and `plain` side by side.",
            "",
        ]
    )


def _median(result: dict[str, Any], side: str, name: str) -> float:
    return spread([pair[side][name] for pair in result["pairs"]])["median"]


def main(argv: Sequence[str]) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--other", type=Path, required=True, help="root of the other checkout")
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--neighbours", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args(argv)
    result = compare(args.other.resolve(), args.pairs, args.neighbours)
    (args.out / "job.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / "job.md").write_text(page(result))
    print(page(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
