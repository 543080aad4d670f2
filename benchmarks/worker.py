"""One benchmark in a process pinned to its cores: `python -m benchmarks.worker NAME --cores N --out FILE`.

Started by `benchmarks.run`. Nothing that sizes a thread pool is imported before the process is pinned.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import host, peers

MISSING = 3
"""Exit status where a peer or a package that a benchmark needs is not there; the line on stdout says which."""


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The record of the benchmark, or exit with `MISSING`."""
    from benchmarks import comparison

    try:
        if args.name in peers.NAMES:
            return comparison.measure(args.name, args.cores, args.quick, args.peer)
        options = {"kept": args.kept} if args.kept else {}
        return importlib.import_module(f"benchmarks.{args.name}").measure(args.cores, args.quick, **options)
    except comparison.Missing as missing:
        line = str(missing)
    except ModuleNotFoundError as missing:
        if missing.name != "torch":
            raise
        line = "PyTorch: pip install -e '.[bench]'"
    print(line.splitlines()[0])
    sys.exit(MISSING)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and writes the record as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker", description=__doc__)
    parser.add_argument("name", help="module of benchmarks/ with a measure(cores, quick), or a peer")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--patience", type=float, default=0.0, help="seconds to wait for an idle machine")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kept", type=Path, help="what it measured before and adds to; of those that can")
    parser.add_argument("--peer", type=Path, help="checkout of the peer's code")
    args = parser.parse_args(argv)
    host.pin(args.cores)
    before = host.wait_for_quiet(args.patience)
    record = measure(args)
    from mmbc_jax.core.files import plain
    from mmbc_jax.report.summary import device

    record = {
        "cores": args.cores,
        "load_average": {"before": before, "after": host.load_average()},
        "device": device(),
        **record,
    }
    args.out.write_text(json.dumps(plain(record)), encoding="utf-8")


if __name__ == "__main__":
    main()
