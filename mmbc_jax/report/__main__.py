"""Writes the page of finished runs.

    python -m mmbc_jax.report runs/x                          writes runs/x/report.html
    python -m mmbc_jax.report runs/a runs/b --out cmp.html    compares runs, stage by stage

A page is one file that fetches nothing: tables with intervals, paths with a selector, films of a few commands,
learning curves, verdicts, the data, the configuration and what it cost.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmbc_jax import cli
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.files import check_folder, local_path


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
      UserError: one that cannot work.
    """
    parser = cli.Parser("python -m mmbc_jax.report", __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("workdirs", nargs="+", help="work directories of finished runs")
    parser.add_argument("--out", help="the page; default: report.html in the work directory of the only run")
    parser.add_argument(
        "--videos",
        choices=("none", "drawn", "played"),
        default="played",
        help="films of a few commands: none, recorded paths drawn, or where the task has pictures of its own, "
        "episodes played again (default)",
    )
    args = parser.known(argv)
    args.workdirs = [local_path(one, "WORKDIR") for one in args.workdirs]
    if len(args.workdirs) > 1 and not args.out:
        raise UserError("several runs need --out FILE.html")
    args.out = local_path(args.out, "--out") if args.out else args.workdirs[0] / "report.html"
    if args.out.suffix != ".html":
        raise UserError(f"--out {args.out} must end in .html")
    check_folder(args.out.parent, "the folder of --out")
    return args


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    cli.quiet()
    args = parse(argv)
    cli.compilation_cache()
    from mmbc_jax.report import films, played
    from mmbc_jax.report.loaded import loaded
    from mmbc_jax.report.web import comparison, run_page

    runs = [loaded(one) for one in args.workdirs]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if len(runs) > 1:
        comparison.write(args.out, [one.name or str(one) for one in args.workdirs], runs)
    else:
        shown = ""
        if args.videos != "none":
            shown = films.films(runs[0], played.player(args.workdirs[0]) if args.videos == "played" else None)
        run_page.write(args.out, runs[0], args.workdirs[0] / "figures", shown)
    print(f"{args.out} has {len(runs)} run{'s' if len(runs) > 1 else ''} ({_size(args.out)})")
    return 0


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    cli.run_main(main)
