"""What the command lines share: arguments, one-line errors, the compilation cache."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from ml_collections import ConfigDict

from mmbc_jax.core import config as config_lib
from mmbc_jax.core.errors import DIVERGED, INTERRUPTED, USER_ERROR, UserError

__all__ = [
    "DIVERGED",
    "INTERRUPTED",
    "USER_ERROR",
    "Parser",
    "compilation_cache",
    "quiet",
    "read_config",
    "run_main",
]


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are UserErrors, and that guesses no abbreviations."""

    def __init__(self, prog: str, description: str | None):
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}; see {self.prog} --help")


def read_config(path: str | Path) -> ConfigDict:
    """The ConfigDict of a config file.

    Raises:
      UserError: no such file, it has no `get_config`, or it fails; the message names the line.
    """
    try:
        config = config_lib.load(path)
    except UserError:
        raise
    except Exception as error:  # whatever the user's file raises
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = frames[-1].lineno if frames else getattr(error, "lineno", None)
        where = f" at line {line}" if line else ""
        raise UserError(f"--config {path} fails{where}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"--config {path}: get_config() returns {type(config).__name__}, must be a ConfigDict"
        )
    return config


def compilation_cache() -> None:
    """Keeps compiled programs on disk between processes.

    In `JAX_COMPILATION_CACHE_DIR` where that is set (empty switches it off), else under the user's cache folder: what
    took `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` to compile. That is 0 unless set: before its first update a run
    compiles some sixty operations on single arrays, small files that together take more than a second.
    """
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        folder = str(Path(root) / "mmbc_jax" / "xla")
    if folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def quiet() -> None:
    """Silences what the libraries print about themselves; our own warnings stay."""
    warnings.filterwarnings(
        "ignore", category=DeprecationWarning, module=r"(tensorflow_probability|jaxopt)\b.*"
    )
    warnings.filterwarnings("ignore", message=".*Sharding info not provided.*")
    import logging

    # orbax logs errors of its threads with a traceback and raises them besides
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    sys.unraisablehook = _without_echo


def _without_echo(unraisable: Any) -> None:
    """`sys.unraisablehook` without what tensorstore says of a failed write that nobody waits for any more."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def run_main(main: Callable[[Sequence[str]], int]) -> None:
    """Calls `main(argv)` and exits with its code; a UserError is one line on stderr and exit code 2."""
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = USER_ERROR
    sys.exit(code)
