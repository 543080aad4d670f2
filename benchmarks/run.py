"""Runs the benchmarks and writes `results/<name>.json` and `results/<name>.md`.

    python -m benchmarks.run [--only NAME ...] [--cores 1 2] [--peer NAME=CHECKOUT ...] [--out DIR] [--quick]

A benchmark whose peer or package is missing is left out with a line that says what it needs; one that fails does not
stop the others. What is written is written as soon as it is measured, so an interrupted run keeps it.

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

from benchmarks import pages, peers, render, worker

OWN = (
    "cloning",
    "sampling",
    "finetuning",
    "families",
    "torch_families",
    "rendering",
    "sweeps",
    "scaling",
    "start",
    "deploy",
)
NAMES = (*OWN, *peers.NAMES)
KEEPING = ("families",)  # those that can go on where they were stopped
FORMAT = 1


def kept(name: str, cores: int, out: Path) -> list[Path]:
    """The file in which a benchmark keeps what it has measured, if it does."""
    return [out / f"{name}.{cores}.part.jsonl"] if name in KEEPING else []


class LeftOut(Exception):
    """A benchmark that lacks a peer or a package; the text says which."""


def run_worker(name: str, cores: int, args: argparse.Namespace) -> dict[str, Any]:
    """The record of one benchmark on a number of cores, measured in a fresh process.

    Raises:
      LeftOut: what it needs is missing.
      subprocess.CalledProcessError: the measurement failed; its own error is on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "record.json"
        command = [sys.executable, "-m", "benchmarks.worker", name, "--cores", str(cores)]
        command += ["--patience", str(args.patience), "--out", str(out), *(["--quick"] if args.quick else [])]
        command += [word for path in kept(name, cores, args.out) for word in ("--kept", str(path))]
        command += ["--peer", str(args.peer[name])] if name in args.peer else []
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode == worker.MISSING:
            raise LeftOut(done.stdout.splitlines()[-1])
        done.check_returncode()
        return json.loads(out.read_text(encoding="utf-8"))


def describe(args: argparse.Namespace, name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """The result file: what was run, with what, on what, and the records."""
    from mmbc_jax.report.summary import command, versions

    installed = importlib.util.find_spec("torch") is not None  # some benchmarks do without
    return {
        "format": FORMAT,
        "benchmark": name,
        "command": command("benchmarks.run", args.argv),
        **({"peer": revision(args.peer[name])} if name in args.peer else {}),
        "date": datetime.date.today().isoformat(),
        "quick": args.quick,
        "versions": {**versions(), "torch": importlib.metadata.version("torch") if installed else "none"},
        "runs": records,
    }


def revision(checkout: Path) -> str:
    """The date and short name of a checkout's commit, or "unknown"."""
    command = ["git", "-C", str(checkout), "log", "-1", "--format=%h of %cs"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() or "unknown"


def checkout(text: str) -> tuple[str, Path]:
    """(peer, folder) of "NAME=FOLDER".

    Raises:
      argparse.ArgumentTypeError: no such peer or no such folder.
    """
    name, _, folder = text.partition("=")
    if name not in peers.NAMES or not Path(folder or "?").is_dir():
        raise argparse.ArgumentTypeError(
            f"{text}: NAME=FOLDER with one of {', '.join(peers.NAMES)} and its checkout"
        )
    return name, Path(folder).resolve()


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command-line arguments, with the list itself as `argv`."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", choices=NAMES, nargs="+", default=NAMES, help="some benchmarks instead of all"
    )
    parser.add_argument("--peer", type=checkout, action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--cores", type=int, nargs="+", help="default: 1, and 2 where there are two")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--quick", action="store_true", help="does it run? a few rounds; not for quoting")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for an idle machine")
    args = parser.parse_args(argv)
    args.argv, args.peer = argv, dict(args.peer)
    available = len(os.sched_getaffinity(0))
    args.cores = args.cores or [cores for cores in (1, 2) if cores <= available]
    if min(args.cores) < 1 or max(args.cores) > available:
        parser.error(f"--cores {args.cores}: between 1 and the {available} available")
    return args


def run_one(name: str, args: argparse.Namespace) -> str:
    """Measures a benchmark, writes after every number of cores, prints the page; returns why it failed, or ""."""
    from mmbc_jax.core.files import write_json

    records: list[dict[str, Any]] = []
    for cores in args.cores:
        try:
            records.append(run_worker(name, cores, args))
        except LeftOut as left_out:
            print(f"{name} left out: {left_out}")
            return ""
        except subprocess.CalledProcessError as error:
            return f"exit status {error.returncode} on {cores} core(s)"
        result = describe(args, name, records)
        write_json(args.out / f"{name}.json", result)
        (args.out / f"{name}.md").write_text(render.render(result), encoding="utf-8")
        if name in pages.FIGURES:
            pages.FIGURES[name](result, args.out / f"{name}.png")
    for path in (path for cores in args.cores for path in kept(name, cores, args.out)):
        path.unlink(missing_ok=True)
    print(render.render(result))
    return ""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs, writes and prints; exits with 1 where a benchmark failed."""
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    failed = {name: error for name in args.only if (error := run_one(name, args))}
    for name, error in failed.items():
        print(f"{name} failed: {error}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
