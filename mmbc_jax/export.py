"""Writes a trained policy as StableHLO: `python -m mmbc_jax.export --checkpoint runs/x --out policy.stablehlo`.

The file runs with JAX alone, without this package, for any batch size, on a CPU or a CUDA GPU. With `--format onnx`,
and the extra `onnx`, it runs in ONNX Runtime, without JAX. A JSON file beside it says what goes in and comes out, in
which units, and what the commands lead to.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmbc_jax import cli
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.files import check_folder, local_path

if TYPE_CHECKING:
    from mmbc_jax.deploy.deployed import Deployed

_PLATFORMS = ("cpu", "cuda")
_FORMATS = ("stablehlo", "onnx")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
      UserError: an argument that cannot work.
    """
    parser = cli.Parser("python -m mmbc_jax.export", __doc__)
    cli.add_checkpoint(parser)
    parser.add_argument("--out", required=True, help="file to write; its JSON file gets the ending .json")
    parser.add_argument("--deterministic", action="store_true", help="the likeliest actions, not drawn ones")
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        default="stablehlo",
        help="default: stablehlo; onnx needs the extra onnx",
    )
    parser.add_argument(
        "--platforms", help="of StableHLO: cpu, cuda or both, with a comma between; default: both"
    )
    args = parser.parse_args(argv)
    if args.platforms is not None and args.format == "onnx":
        raise UserError("--platforms is of --format stablehlo: ONNX is for every platform")
    args.platforms = tuple((args.platforms or ",".join(_PLATFORMS)).split(","))
    if unknown := [name for name in args.platforms if name not in _PLATFORMS]:
        raise UserError(f"--platforms {unknown[0]!r} must be one of {', '.join(_PLATFORMS)}")
    args.out = _out(args.out)
    return args


def _out(text: str) -> Path:
    path = local_path(text, "--out")
    if path.is_dir() or path.suffix == ".json":
        raise UserError(f"--out {text} must be a file that does not end in .json, as the one beside it does")
    check_folder(path.parent, "the folder of --out")
    return path


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    cli.quiet()
    args = parse(argv)
    cli.compilation_cache()
    from mmbc_jax.deploy.deployed import load

    policy = load(args.checkpoint, args.stage, args.step, args.seed, args.point)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    facts, where = _written(policy, args)
    shape = " x ".join(map(str, facts["output"]["shape"]))
    print("; ".join(policy.notes))
    print(
        f"{args.out}: {facts['bytes'] / 2**20:.1f} MiB for {where}, chunks of {shape}, "
        f"{len(policy.spec.commands)} command(s)"
    )
    print(f"{args.out.with_suffix('.json')}: what goes in and comes out")
    return 0


def _written(policy: Deployed, args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """(what the JSON file says; what the artefact is for)."""
    if args.format == "onnx":
        from mmbc_jax.deploy.as_onnx import write_onnx

        facts = write_onnx(policy, args.out, args.deterministic)
        return facts, f"ONNX Runtime (at most {facts['largest_difference']:.1g} off the policy's actions)"
    from mmbc_jax.deploy.exported import write_exported

    facts = write_exported(policy, args.out, args.platforms, args.deterministic)
    return facts, " and ".join(facts["platforms"])


if __name__ == "__main__":
    cli.run_main(main)
