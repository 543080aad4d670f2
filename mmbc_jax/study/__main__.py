"""Runs the variants of a study and judges its claims: `python -m mmbc_jax.study --config FILE --workdir DIR`.

Freezes their claims, before fresh seeds (`--config.first_seed=`) test them: `--config FILE --freeze`.

A study is a set of variants of one configuration with a table, figures and claims (see `mmbc_jax.study.plan`).
The same command continues where it stopped. Other `--config.KEY=VALUE` apply to every variant.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mmbc_jax import cli
from mmbc_jax.core import config as config_lib
from mmbc_jax.core.config import check_choice
from mmbc_jax.core.errors import UserError, nearest
from mmbc_jax.core.files import check_folder, local_path
from mmbc_jax.runs.budget import shortened
from mmbc_jax.runs.sections import check_config
from mmbc_jax.study.cells import split
from mmbc_jax.study.frozen import Frozen, freeze
from mmbc_jax.study.plan import SCALES, Study


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, str, list[tuple[str, str]]]:
    """(arguments, scale, overrides of every variant).

    Raises:
      UserError: an argument that cannot work.
    """
    rest, overrides = config_lib.split_overrides(argv)
    parser = cli.Parser("python -m mmbc_jax.study", __doc__)
    parser.add_argument("--config", required=True, help="python file with get_studies(scale)")
    parser.add_argument("--workdir", help="where every variant and the report are written")
    parser.add_argument(
        "--freeze", action="store_true", help="record the claims as they are, and run nothing"
    )
    parser.add_argument("--jobs", type=int, default=0, help="processes at a time; default: one per CPU core")
    parser.add_argument("--report", help="markdown file; default: <workdir>/report.md")
    parser.add_argument(
        "--page_only",
        action="store_true",
        help="write the report of what has been run, here or by --only on other machines, and run nothing",
    )
    parser.add_argument(
        "--only",
        default="",
        help="STUDY, STUDY/VARIANT or a seed of it, STUDY/VARIANT/seedN: run this one alone",
    )
    args = parser.known(rest)
    if args.workdir is None and not args.freeze:
        raise UserError("--workdir is needed")
    if args.page_only and (args.freeze or "/" in args.only):
        raise UserError(
            "--page_only writes the report of whole studies: not with --freeze or --only STUDY/VARIANT"
        )
    if args.jobs < 0:
        raise UserError(f"--jobs {args.jobs} must not be negative")
    scale = next((text for key, text in reversed(overrides) if key == "scale"), SCALES[-1])
    check_choice("scale", scale, SCALES)
    return args, scale, [(key, text) for key, text in overrides if key != "scale"]


def load_studies(path: str, scale: str, overrides: list[tuple[str, str]]) -> list[Study]:
    """The studies of a file, with the overrides applied to each variant and their seeds split into cells.

    Raises:
      UserError: no such file, it has no `get_studies`, or an override does not fit.
    """
    module = config_lib.load_module(path)
    if not hasattr(module, "get_studies"):
        raise UserError(
            f"--config {path} has no get_studies(scale); is it a configuration for mmbc_jax.train?"
        )
    with config_lib.user_code(module.__file__):
        found = list(module.get_studies(scale))
    if not found or not all(isinstance(study, Study) for study in found):
        raise UserError(f"--config {path}: get_studies() must return a list of at least one Study")
    studies = [study if study.source else dataclasses.replace(study, source=str(path)) for study in found]
    for study in studies:
        for variant in study.variants:
            shortened(config_lib.apply_overrides(variant.config, overrides))
    return [split(study) for study in studies]


def run_variant(studies: Sequence[Study], name: str, workdir: Path) -> int:
    """Trains what "STUDY/VARIANT" names, of a variant in cells every one, in this process; the largest exit code."""
    from mmbc_jax import train
    from mmbc_jax.study.runner import variant_dir

    known = {
        f"{study.name}/{variant.name}": (study, variant) for study in studies for variant in study.variants
    }
    named = [found for found in known if found == name or found.startswith(f"{name}/")]
    if not named:
        raise UserError(f"--only {name}: {nearest(name, known)}")
    codes = []
    for found in named:
        study, variant = known[found]
        codes.append(
            train.train(variant.config, variant_dir(workdir, study, variant), [f"--workdir={found}"])
        )
    return max(codes)


def default_jobs() -> int:
    """One process per CPU core; one alone where JAX finds an accelerator."""
    if os.environ.get("JAX_PLATFORMS", "") != "cpu":
        import jax

        if jax.default_backend() != "cpu":
            return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code: 0 unless a variant failed."""
    cli.quiet()
    args, scale, overrides = parse(argv)
    workdir = local_path("." if args.workdir is None else args.workdir, "--workdir")
    check_folder(workdir, "--workdir")
    path = workdir / "report.md" if args.report is None else local_path(args.report, "--report")
    check_folder(path.parent, "the folder of --report")
    studies = load_studies(args.config, scale, overrides)
    if args.freeze:
        print(f"{freeze(studies)} has the claims of {args.config} as they are")
        return 0
    if "/" in args.only:
        return run_variant(studies, args.only, workdir)
    if args.only:
        studies = [study for study in studies if study.name == args.only] or _unknown(args.only, studies)
    for variant in (variant for study in studies for variant in study.variants):
        check_config(variant.config)
    from mmbc_jax.report.summary import command
    from mmbc_jax.study import known, runner, study_page
    from mmbc_jax.study import page as report
    from mmbc_jax.study.judging import MARK, judge

    runner.check_finished(workdir, studies)
    console = Console(width=None if os.isatty(1) else 120)
    shared = [f"--config={args.config}", f"--workdir={workdir}", f"--config.scale={scale}"]
    shared += [f"--config.{key}={text}" for key, text in overrides]
    failed = not args.page_only and runner.run_all(
        workdir,
        studies,
        lambda study, variant: ["-m", "mmbc_jax.study", *shared, f"--only={study.name}/{variant.name}"],
        args.jobs or default_jobs(),
        lambda line: console.print(line, highlight=False),
    )
    figures = path.parent / f"{path.stem}-figures"
    pages: dict[str, Path] = {}
    sections, judgements = [], {}
    for study in studies:
        results, missing = runner.collect(workdir, study)
        runs = {
            v.name: runner.variant_dir(workdir, study, v) for v in study.variants if v.name not in missing
        }
        pages |= {f"{study.name}/{name}": folder for name, folder in runs.items()}
        judged = judge(study, results, Frozen.read(Path(study.source).parent), missing)
        judgements[study.name] = judged
        sections.append(report.section(study, results, judged, missing, figures, runs))
        for one in judged:
            why = "" if one.counted else f" (not counted: {'; '.join(one.reasons)})"
            console.print(
                f"{study.name}: {MARK[one.check.holds]}: {one.claim.statement}{why}", highlight=False
            )
    report.write(
        path,
        f"{Path(args.config).stem} study, {scale} scale",
        command("mmbc_jax.study", [word for word in argv if word != "--page_only"]),
        [known.section(judgements), *sections],
    )
    page = study_page.write(workdir / study_page.NAME, path, pages)
    console.print(f"{path} and {page} have the tables, figures and claims; every run is below {workdir}")
    return 1 if failed else 0


def _unknown(name: str, studies: Sequence[Study]) -> list[Study]:
    raise UserError(f"--only {name}: {nearest(name, [study.name for study in studies])}")


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    cli.run_main(main)
