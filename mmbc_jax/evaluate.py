"""Plays or measures a trained policy again: `python -m mmbc_jax.evaluate --checkpoint DIR [--stage NAME] [--z Z]`.

DIR is a work directory or one stage's checkpoints. The policy, the sampler's settings and the environment come
from the checkpoint itself; the evaluator is the one that training uses. A clone without an environment is measured
on the episodes that its training held out. Printed are the checkpoint that was taken, the table and the verdicts;
with --json the whole summary.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmbc_jax import cli
from mmbc_jax.core import config as config_lib
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.files import check_folder, local_path, plain, write_json

if TYPE_CHECKING:  # imported where it is used, so that a mistyped argument is refused at once
    from mmbc_jax.evaluation.results import StageResult
    from mmbc_jax.runs.restored import Restored

SWITCHES = {
    "deterministic": "play the likeliest actions instead of drawn ones",
    "hold": "draw the same noise at all decisions of an episode",
}
CHANGEABLE = ("env", "evaluation", "precision", "sampler")
DATA = "data.path"  # the same data elsewhere: they are compared with what the policy was trained on
RULES = ("value", "trial", "both")
COMMANDED = ("discover", "finetune")  # stages of which one has commands to choose from
_MOST = 1000  # attempts, and trials of a command


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """The arguments and the overrides of the sections `CHANGEABLE`.

    Raises:
      UserError: an argument that cannot work.
    """
    rest, overrides = config_lib.split_overrides(argv)
    parser = cli.Parser("python -m mmbc_jax.evaluate", __doc__)
    parser.add_argument(
        "--checkpoint", required=True, help="work directory, or <workdir>/checkpoints/<stage>"
    )
    parser.add_argument("--stage", default="", help="stage to evaluate; default: the last there is")
    parser.add_argument("--episodes", type=int, default=None, help="at least 1; default: as in training")
    parser.add_argument(
        "--seed", type=int, default=None, help="default: the key of training's own evaluation"
    )
    parser.add_argument(
        "--diagnostics", default="", help="instruments by name, with commas between, or 'all'"
    )
    parser.add_argument("--z", type=int, default=None, help="command this mode in every episode")
    for name, text in SWITCHES.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_argument("--like", help="command the z whose paths are most like this one, .npz or .csv")
    parser.add_argument("--headless", action="store_true", help="play the actor without its steering head")
    parser.add_argument(
        "--recommand", choices=RULES, help="another z after a failure: by value, by trial, or both"
    )
    parser.add_argument("--attempts", type=int, default=4, help="of --recommand, at least 1; default: 4")
    parser.add_argument("--trials", type=int, default=5, help="of each z, at least 1; default: 5")
    parser.add_argument("--ensemble", type=float, default=None, help="m of temporal ensembling, at least 0")
    parser.add_argument("--sampler_steps", type=int, default=None, help="default: as in training")
    parser.add_argument("--gym", help="play in this Gymnasium environment, id or module:id, on the host")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON, and notes on stderr")
    parser.add_argument("--out", type=_out, help="write summary.json and figures to this folder")
    args = parser.known(rest)
    for key, _ in overrides:
        if key.split(".")[0] not in CHANGEABLE and key != DATA:
            raise UserError(
                f"--config.{key}: must be of {', '.join(CHANGEABLE)} for a trained policy, or {DATA}, where its "
                "data are now"
            )
    if args.episodes is not None and args.episodes < 1:
        raise UserError(f"--episodes {args.episodes} must be at least 1")
    for name in ("attempts", "trials"):
        if not 1 <= getattr(args, name) <= _MOST:
            raise UserError(f"--{name} {getattr(args, name)} must be at least 1 and at most {_MOST}")
    if args.gym is not None:
        _check_gym(args)
    asked = [
        name for name in ("z", "like", "headless", "recommand") if getattr(args, name) not in (None, False)
    ]
    if len(asked) > 1:
        raise UserError(f"--{asked[0]} and --{asked[1]} do not go together")
    cli.check_seed(args.seed)
    return args, overrides


def _check_gym(args: argparse.Namespace) -> None:
    """Raises UserError where something is asked for that only our own environments can do."""
    for name in ("like", "headless", "recommand", "diagnostics", "hold", "ensemble", "out"):
        if getattr(args, name) not in (None, False, ""):
            raise UserError(f"--{name} and --gym do not go together")


def _out(text: str) -> Path:
    path = local_path(text, "--out")
    if (path / "config.json").exists():
        raise UserError(f"--out {text} is a run's work directory, whose summary it would overwrite")
    check_folder(path, "--out")
    return path


def evaluated(
    restored: Restored, args: argparse.Namespace, overrides: list[tuple[str, str]]
) -> tuple[dict[str, StageResult], dict[str, Any]]:
    """The results of what was asked for, and what the summary says of it besides: `like`, `headless`, `recommand`."""
    from mmbc_jax.evaluation.example import read_example
    from mmbc_jax.runs.likeness import most_like
    from mmbc_jax.runs.recommanded import Recommand
    from mmbc_jax.runs.restored import restore

    if args.recommand:
        asked = Recommand(args.recommand, args.attempts, args.trials, args.seed)
        asked.check(restored)
        alone = None
        if (restored.workdir / "checkpoints" / "plain").is_dir():
            alone = restore(restored.workdir, "plain", overrides)
        return restored.evaluate(args.seed), {"recommand": asked.play(restored, alone)}
    if args.like is not None:
        like = most_like(restored, read_example(args.like), args.seed)
        return restored.evaluate(args.seed, like.z), {"like": like.facts(restored)}
    more = {"headless": True} if args.headless else {}
    return restored.evaluate(args.seed, args.z, args.headless), more


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    cli.quiet()
    args, overrides = parse(argv)
    cli.compilation_cache()
    from mmbc_jax.report import offline_table, run_report
    from mmbc_jax.report.finished import Finished
    from mmbc_jax.report.run_report import console
    from mmbc_jax.runs.resources import check_sizes
    from mmbc_jax.runs.restored import restore
    from mmbc_jax.runs.run_options import STAGES

    if args.episodes is not None:
        overrides.append(("evaluation.episodes", str(args.episodes)))
    overrides += [(f"evaluation.{name}", "True") for name in SWITCHES if getattr(args, name)]
    if args.ensemble is not None:
        overrides.append(("evaluation.ensemble", str(args.ensemble)))
    if args.sampler_steps is not None:
        overrides.append(("sampler.steps", str(args.sampler_steps)))
    overrides.append(("diagnostics", args.diagnostics))
    among = COMMANDED if args.recommand or args.like is not None or args.headless else STAGES
    restored = restore(local_path(args.checkpoint, "--checkpoint"), args.stage, overrides, among)
    if args.gym is not None:
        from mmbc_jax.runs.gymnasium_runs import in_lines, played

        found = played(restored, args.gym, args.seed, args.z)
        _say(restored.notes, found, in_lines(found), args.json)
        return 0
    restored.check(args.z)
    check_sizes(restored.setup, [restored.stage], restored.grid)
    results, more = evaluated(restored, args, overrides)
    found = run_report.evaluation_summary(restored, results, argv, more)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        write_json(args.out / "summary.json", found)
        run_report.draw_figures(Finished(restored.setup, results, found), args.out / "figures")
    _say(restored.notes, found, (), args.json)
    if not args.json:
        run_report.show_stages(console(), found)
        if restored.setup.env is None and (held_out := offline_table.table(found)) is not None:
            console().print(held_out)
    return 0


def _say(notes: Sequence[str], found: Mapping[str, Any], lines: Sequence[str], as_json: bool) -> None:
    """Prints which checkpoint it was, and either lines or what was found as JSON, which stays alone on stdout."""
    for line in (*notes, *(() if as_json else lines)):
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)
    if as_json:
        json.dump(plain(found), sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    cli.run_main(main)
