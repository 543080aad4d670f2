"""Runs the benchmarks and writes `results/<name>.json` and `results/<name>.md`.

    python -m benchmarks.run [--only NAME] [--cores 1 2] [--out DIR] [--quick]

Each benchmark runs once per number of cores, in a fresh process held to those cores. What is compared is
timed in turn inside that one process. `families` keeps each subject in `DIR/families.CORES.part.jsonl` until it is
through with all: started again with the same versions, it goes on where it was stopped. Remove that file after a
change of the code.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import render

NAMES = ("cloning", "sampling", "finetuning", "families", "torch_families", "rendering")
KEEPING = ("families",)  # those that can go on where they were stopped
FORMAT = 1


def kept(name: str, cores: int, out: Path) -> list[Path]:
    """The file in which a benchmark keeps what it has measured, if it does."""
    return [out / f"{name}.{cores}.part.jsonl"] if name in KEEPING else []


def run_worker(name: str, cores: int, args: argparse.Namespace) -> dict[str, Any]:
    """The record of one benchmark on a number of cores, measured in a fresh process.

    Raises:
      subprocess.CalledProcessError: the measurement failed; its own error is on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "record.json"
        command = [sys.executable, "-m", "benchmarks.worker", name, "--cores", str(cores)]
        command += ["--patience", str(args.patience), "--out", str(out), *(["--quick"] if args.quick else [])]
        command += [word for path in kept(name, cores, args.out) for word in ("--kept", str(path))]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        subprocess.run(command, check=True, env=environment)
        return json.loads(out.read_text(encoding="utf-8"))


def describe(args: argparse.Namespace, name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """The result file: what was run, with what, on what, and the records."""
    from mmbc_jax.report.summary import command, versions

    installed = importlib.util.find_spec("torch") is not None  # some benchmarks do without
    return {
        "format": FORMAT,
        "benchmark": name,
        "command": command("benchmarks.run", args.argv),
        "date": datetime.date.today().isoformat(),
        "quick": args.quick,
        "versions": {**versions(), "torch": importlib.metadata.version("torch") if installed else "none"},
        "runs": records,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command-line arguments, with the list itself as `argv`."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=NAMES, help="one benchmark instead of all")
    parser.add_argument("--cores", type=int, nargs="+", help="default: 1, and 2 where there are two")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--quick", action="store_true", help="does it run? a few rounds; not for quoting")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for an idle machine")
    args = parser.parse_args(argv)
    args.argv = argv
    available = len(os.sched_getaffinity(0))
    args.cores = args.cores or [cores for cores in (1, 2) if cores <= available]
    if min(args.cores) < 1 or max(args.cores) > available:
        parser.error(f"--cores {args.cores}: between 1 and the {available} available")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Runs, writes and prints."""
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in [args.only] if args.only else NAMES:
        records = [run_worker(name, cores, args) for cores in args.cores]
        from mmbc_jax.core.files import write_json

        result = describe(args, name, records)
        write_json(args.out / f"{name}.json", result)
        text = render.render(result)
        (args.out / f"{name}.md").write_text(text, encoding="utf-8")
        for path in (path for cores in args.cores for path in kept(name, cores, args.out)):
            path.unlink(missing_ok=True)
        print(text)


if __name__ == "__main__":
    main()
