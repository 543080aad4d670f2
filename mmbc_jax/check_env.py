"""Says what is wrong with an environment of your own: `python -m mmbc_jax.check_env my_envs:build`.

A sentence for each error, which ends it with exit code 2, and for each remark, which does not; then the environment
in one line. It is traced, which shows its shapes and names what cannot be traced (NumPy inside `step`), reset and
stepped in a batch with random actions, and its expert plays every mode. Options are set as in training:
`--config.env.KEY=VALUE`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ml_collections import ConfigDict

from mmbc_jax import cli
from mmbc_jax.core import config, registry
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.keys import seeded


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, ConfigDict]:
    """The arguments, and the section `env`.

    Raises:
      UserError: an argument that cannot work, or an environment that cannot be imported.
    """
    rest, overrides = config.split_overrides(argv)
    parser = cli.Parser("python -m mmbc_jax.check_env", __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("env", help="package.module:attribute, or the name of a task of this package")
    parser.add_argument("--seed", type=int, default=0, help="of what is played")
    flags = parser.known(rest)
    cli.check_seed(flags.seed)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    sections = ConfigDict({"env": config.plugin("env", flags.env)})
    return flags, config.apply_overrides(sections, overrides).env


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code: 2 where there is an error."""
    cli.quiet()
    flags, section = parse(argv)
    cli.compilation_cache()
    from mmbc_jax.runs.env_checks import contract_faults, played, spec_faults
    from mmbc_jax.runs.env_contract import check_env, reported

    with reported(None, flags.env, "builder"):
        env = registry.build("env", section)
    try:
        check_env(env, flags.env)
    except ConfigError as error:
        errors = [f"{flags.env} must be {error.allowed}"] if "fails" not in error.allowed else [error.allowed]
        if " reset returns " in error.allowed or " step returns " in error.allowed:
            errors = contract_faults(env)
        return _said(errors)
    if errors := spec_faults(env.spec):
        return _said(errors)
    with reported(env, flags.env, "play"):
        found = played(env, seeded(flags.seed))
    for text in found.remarks:
        print(f"remark: {text}")
    if found.errors:
        return _said(found.errors)
    print(f"{flags.env}: {found.line}")
    return 0


def _said(errors: Sequence[str]) -> int:
    for text in errors:
        print(f"error: {text}", file=sys.stderr)
    return cli.USER_ERROR


if __name__ == "__main__":
    cli.run_main(main)
