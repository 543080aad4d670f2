"""Says what is wrong with a file of demonstrations: `python -m mmbc_jax.check_data FILE [--env NAME]`.

A sentence for each error, which ends it with exit code 2, and for each remark, which does not; then the data set in
one line. With --env it is compared with an environment of the package or of your own (package.module:attribute):
sizes, bounds of the actions, labels, and the scale of the observations with that of its resets and of walks from
there. How a file is read is set as in training: `--config.data.reader.obs_keys=...`, `--config.env.KEY=VALUE`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from mmbc_jax import cli
from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.keys import seeded

if TYPE_CHECKING:
    from mmbc_jax.data.episodes import Episodes

DEFAULT_CHUNK = 8


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, ConfigDict]:
    """The arguments, and the sections `data` and `env`.

    Raises:
      UserError: an argument that cannot work.
    """
    from mmbc_jax.runs.data_options import DataOptions

    rest, overrides = config.split_overrides(argv)
    parser = cli.Parser("python -m mmbc_jax.check_data", __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", help="file or folder, or several with commas between, as in data.path")
    parser.add_argument("--env", default="", help="compare with this environment")
    parser.add_argument(
        "--chunk", type=int, default=DEFAULT_CHUNK, help="chunk.predict of the policy; default: 8"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the environment's resets")
    flags = parser.known(rest)
    if flags.chunk < 1:
        raise UserError(f"--chunk {flags.chunk} must be at least 1")
    cli.check_seed(flags.seed)
    sections = ConfigDict({"data": DataOptions.to_config(), "env": config.plugin("env", flags.env)})
    config.apply_overrides(sections, overrides)
    sections.data.path = flags.file
    return flags, sections


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code: 2 where there is an error."""
    cli.quiet()
    flags, sections = parse(argv)
    from mmbc_jax.data import advice, several
    from mmbc_jax.data.inspection import noticed, outliers
    from mmbc_jax.runs.data_options import DataOptions

    DataOptions.from_config(sections.data, "data")
    episodes = several.for_section(sections.data)
    far = outliers(episodes)
    errors = [*advice.clocks(episodes), *far]
    others = [text for text in noticed(episodes) if text not in far]
    remarks = [*episodes.notes, *others, *advice.remarks(episodes, flags.chunk)]
    fits = ""
    if flags.env:
        found = _against(sections, flags, episodes)
        errors += found
        fits = "" if found else f"; fits {flags.env}"
    for text in errors:
        print(f"error: {text}", file=sys.stderr)
    for text in remarks:
        print(f"remark: {text}")
    print(f"{flags.file}: {advice.figures(episodes)}{fits}")
    return cli.USER_ERROR if errors else 0


def _against(sections: ConfigDict, flags: argparse.Namespace, episodes: Episodes) -> list[str]:
    """What does not fit an environment."""
    cli.compilation_cache()
    from mmbc_jax.data.inspection import foreign
    from mmbc_jax.data.load import check_fits
    from mmbc_jax.runs.env_contract import check_env, reported

    with reported(None, flags.env, "builder"):
        env = registry.build("env", sections.env)
    check_env(env, flags.env)
    try:
        check_fits(episodes, env.spec, flags.chunk)
    except UserError as error:
        return [str(error)]
    return foreign(env, episodes, seeded(flags.seed))


if __name__ == "__main__":
    cli.run_main(main)
