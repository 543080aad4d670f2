"""Writes demonstrations for other frameworks, as a LeRobotDataset or a Diffusion Policy store.

    python -m mmbc_jax.export_data --env avoiding --out DIR --format lerobot --episodes 240
    python -m mmbc_jax.export_data --data FILE --out DIR.zarr --format zarr [--config.data.reader.obs_keys=...]

Without --data the environment's expert is recorded, balanced over its modes. With it, whatever `data.path` reads is
written again. DIR must not exist. Everything stays in physical units. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from mmbc_jax import cli
from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.files import check_folder, local_path
from mmbc_jax.core.keys import seeded
from mmbc_jax.data import several
from mmbc_jax.data.collect import record
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.export_lerobot import write_lerobot
from mmbc_jax.data.export_zarr import write_zarr
from mmbc_jax.data.load import ReaderOptions

FORMATS = ("lerobot", "zarr")
FPS = 10  # where neither the environment nor the caller says
_MOST_FPS = 10_000


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, ConfigDict]:
    """The arguments, and the section `env`, or with --data `data.reader`, with what overrides it.

    Raises:
      UserError: an argument that cannot work.
    """
    rest, overrides = config.split_overrides(argv)
    parser = cli.Parser("python -m mmbc_jax.export_data", __doc__)
    parser.add_argument("--env", default="", help="environment whose expert is recorded")
    parser.add_argument("--data", default="", help="demonstrations to write again, as data.path names them")
    parser.add_argument("--out", required=True, help="folder to make; for zarr its name must end in .zarr")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--episodes", type=int, default=None, help="of the expert; default: 1000")
    parser.add_argument(
        "--noise", type=float, default=None, help="execution noise of the expert, 0 to 2; default: 0"
    )
    parser.add_argument("--seed", type=int, default=None, help="of the expert's recording; default: 0")
    parser.add_argument("--fps", type=int, default=None, help="of lerobot; default: the environment's, or 10")
    flags = parser.known(rest)
    if bool(flags.env) == bool(flags.data):
        raise UserError("needs --env, whose expert is recorded, or --data, not both")
    for name in ("episodes", "noise", "seed"):
        if flags.data and getattr(flags, name) is not None:
            raise UserError(
                f"--{name} {getattr(flags, name)} is of --env; what --data names is written as it is"
            )
    if flags.fps is not None and flags.format != "lerobot":
        raise UserError(f"--fps {flags.fps} is of --format lerobot; {flags.format} has no time")
    flags.episodes = 1000 if flags.episodes is None else flags.episodes
    flags.noise, flags.seed = flags.noise or 0.0, flags.seed or 0
    if flags.episodes < 1:
        raise UserError(f"--episodes {flags.episodes} must be at least 1")
    if not 0.0 <= flags.noise <= 2.0:
        raise UserError(f"--noise {flags.noise} must be at least 0 and at most 2")
    cli.check_seed(flags.seed)
    if flags.fps is not None and not 1 <= flags.fps <= _MOST_FPS:
        raise UserError(f"--fps {flags.fps} must be at least 1 and at most {_MOST_FPS}")
    if flags.env:
        sections = {"env": config.plugin("env", flags.env)}
    else:
        sections = {"data": {"reader": ReaderOptions.to_config()}}
    return flags, config.apply_overrides(ConfigDict(sections), overrides)


def _out(text: str, form: str) -> Path:
    path = local_path(text, "--out")
    if path.exists():
        raise UserError(f"--out {path} exists; name a folder that does not")
    if form == "zarr" and path.suffix != ".zarr":
        raise UserError(f"--out {path} must end in .zarr, by which such stores are known")
    check_folder(path.parent, "the folder of --out")
    return path


def _write(episodes: Episodes, path: Path, form: str, fps: int, name: str) -> None:
    """Writes beside the folder and renames, so that it appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        if form == "zarr":
            write_zarr(episodes, beside)
        else:
            write_lerobot(episodes, beside, fps, name, name)
        os.replace(beside, path)
    except OSError as error:
        raise UserError(f"--out {path} cannot be written ({error})") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    cli.quiet()
    flags, cfg = parse(argv)
    out = _out(flags.out, flags.format)
    rate = FPS * 1.0
    if flags.env:
        cli.compilation_cache()
        env = registry.build("env", cfg.env)
        episodes = record(env, seeded(flags.seed), flags.episodes, flags.noise)
        rate = 1.0 / env.spec.control_dt if env.spec.control_dt else rate
    else:
        episodes = several.read(flags.data, cfg.data.reader)
    fps = max(round(rate), 1) if flags.fps is None else flags.fps
    _write(episodes, out, flags.format, fps, flags.env or "demonstrations")
    found = {
        "out": str(out),
        "format": flags.format,
        "episodes": len(episodes),
        "steps": len(episodes.action),
    }
    if flags.format == "lerobot":
        found["fps"] = fps
        if flags.fps is None and flags.env and abs(rate - fps) > 1e-6:
            found["note"] = f"steps are {1 / rate:g} s; LeRobot counts whole frames per second, so {fps}"
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    cli.run_main(main)
