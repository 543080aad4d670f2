"""Clones a policy, discovers its modes and fine-tunes it: `python -m mmbc_jax.train --config FILE --workdir DIR`.

The same command continues a run that was interrupted. FILE is Python with `get_config()`, which returns the
configuration (`python -m mmbc_jax --list configs`). Any field of it is set as `--config.KEY=VALUE`, with dots between
sections, tuples with commas: `--config.bc.steps=2000 --config.policy.hidden=64,64`. To name another plug-in
(`--config.policy.name=diffusion`) brings its own fields with their defaults. `--config.budget=0.1` shortens all
of a run.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict
from rich.console import Console

from mmbc_jax import cli
from mmbc_jax.core import config as config_lib
from mmbc_jax.core.config_text import as_overrides
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.files import local_path

if TYPE_CHECKING:
    from mmbc_jax.runs.pipeline import Pipeline

DEFAULT_CONFIG = "configs/finetune/avoiding_bmd.py"


def parse(argv: Sequence[str]) -> tuple[ConfigDict, Path, argparse.Namespace]:
    """The resolved configuration, the work directory, and the flags.

    Raises:
      UserError: an argument or a field that cannot work.
    """
    rest, overrides = config_lib.split_overrides(argv)
    parser = cli.Parser("python -m mmbc_jax.train", __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="python file with get_config()")
    parser.add_argument("--workdir", help="where everything is written; default: runs/<name of the config>")
    parser.add_argument(
        "--extend", action="store_true", help="train a finished run on: only its steps may differ, upwards"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="start anew: a run that is in the work directory is put aside",
    )
    parser.add_argument("--print_config", action="store_true", help="print every field and train nothing")
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="build and check everything, say what would run and what it needs, and write nothing",
    )
    if {"-h", "--help"} & set(rest):
        asked = next((b for a, b in zip(rest, rest[1:], strict=False) if a == "--config"), DEFAULT_CONFIG)
        parser.epilog = _options_help(config_lib.apply_overrides(config_lib.load(asked), overrides))
    args = parser.known(rest, "; fields of the config are set as --config.KEY=VALUE")
    if args.overwrite and args.extend:
        raise UserError("--overwrite and --extend do not go together")
    config = config_lib.apply_overrides(config_lib.load(args.config), overrides)
    workdir = Path("runs") / Path(args.config).stem if args.workdir is None else args.workdir
    workdir = local_path(workdir, "--workdir")
    from mmbc_jax.runs.budget import shortened

    return shortened(config), workdir, args


def _options_help(config: ConfigDict) -> str:
    """Every option of a configuration in a line of its own, with its present value."""
    from mmbc_jax.runs.sections import options_table

    lines = ["options, set as --config.KEY=VALUE (~: a sweep varies it inside one compilation):"]
    for row in options_table(config):
        value = config_lib.at(config, row.path)
        allowed = f" [{row.allowed}]" if row.allowed else ""
        lines.append(f"  {row.path}{'~' if row.traced else ''} = {value!r}{allowed}: {row.help}")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    start = time.perf_counter()
    cli.quiet()
    config, workdir, flags = parse(argv)
    if flags.print_config:
        print("\n".join(as_overrides(config)))
        return 0
    if flags.dry_run:
        return _dry_run(config, workdir, flags)
    if flags.overwrite:
        from mmbc_jax.runs.workdir import put_aside

        if (aside := put_aside(workdir)) is not None:
            print(f"the run that was in {workdir} is in {aside} now", flush=True)
    return train(config, workdir, argv, start, flags.extend)


def _dry_run(config: ConfigDict, workdir: Path, flags: argparse.Namespace) -> int:
    cli.compilation_cache()
    from mmbc_jax.runs.dry_run import lines
    from mmbc_jax.runs.pipeline import make_pipeline

    pipeline = make_pipeline(config, workdir, Console(stderr=True), flags.extend)
    for line in lines(pipeline, flags.overwrite):
        print(line, flush=True)
    return 0


def train(
    config: ConfigDict, workdir: Path, argv: Sequence[str], start: float | None = None, extend: bool = False
) -> int:
    """Trains a configuration, writes its results, and prints them.

    Args:
      config: resolved.
      workdir: where everything is written.
      argv: the arguments that led here, for the summary.
      start: `time.perf_counter()` at the start of the process; None for now.
      extend: train a run that is there on, where only its lengths differ, upwards.

    Returns:
      The exit code.
    """
    start = time.perf_counter() if start is None else start
    cli.compilation_cache()
    import jax

    from mmbc_jax.nn.precision import advice
    from mmbc_jax.runs.loop import Interrupted
    from mmbc_jax.runs.mesh import connect
    from mmbc_jax.runs.pipeline import make_pipeline
    from mmbc_jax.runs.resources import ran_out

    connect()
    console = Console(width=None if os.isatty(1) or "COLUMNS" in os.environ else 120)
    pipeline = make_pipeline(config, workdir, console, extend)
    if pipeline.mesh.is_writer and (line := advice(config.precision, jax.default_backend())):
        console.print(line, highlight=False, soft_wrap=True)
    try:
        with pipeline.exclusive():
            try:
                summary = _run(pipeline, argv, start)
            except (
                Exception
            ) as error:  # inside, so that a work directory in which nothing was trained is left free
                if (said := ran_out(error, workdir, config)) is not None:
                    raise said from error
                raise
    except Interrupted:
        console.print(f"interrupted; everything is saved in {workdir}, the same command continues")
        return cli.CTRL_C if pipeline.stop.received == signal.SIGINT else cli.INTERRUPTED
    if summary:
        from mmbc_jax.report import run_report

        run_report.show(console, summary, workdir)
        if summary["run"]["stopped"]:
            return cli.DIVERGED
    return 0


def _run(pipeline: Pipeline, argv: Sequence[str], start: float) -> dict[str, Any]:
    """Trains and writes the summary; returns it, or nothing in a process that does not write."""
    results = pipeline.run(_bring_report)
    if not pipeline.mesh.is_writer:
        return {}
    from mmbc_jax.report import run_report

    with pipeline.screen.status("writing the summary and drawing figures"):
        return run_report.write(pipeline, results, argv, time.perf_counter() - start)


def _bring_report() -> None:
    """Imports matplotlib and scipy, which training can do without, while the run has to wait anyway."""
    from mmbc_jax.report import run_report  # noqa: F401


if __name__ == "__main__":
    cli.run_main(main)
