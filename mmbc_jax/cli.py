"""What the command lines share: arguments, one-line errors, the compilation cache."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax

from mmbc_jax.core import interrupts
from mmbc_jax.core.errors import DIVERGED, INTERRUPTED, USER_ERROR, UserError
from mmbc_jax.core.interrupts import CTRL_C

_OTHERS_WRITE = 0o002
_PIPE_CLOSED = 141  # 128 + SIGPIPE
_LONGEST = 1200  # characters of an error
_NO_DEVICE = "Unable to initialize backend"  # as JAX says of a device that it does not know,
_FINDS_DEVICES = "xla_bridge.py"  # and where it fails on one that it knows and does not find

__all__ = [
    "CTRL_C",
    "DIVERGED",
    "INTERRUPTED",
    "USER_ERROR",
    "Parser",
    "add_checkpoint",
    "check_seed",
    "compilation_cache",
    "quiet",
    "run_main",
]


class _Once(argparse.Action):
    """Stores a value once: of two the user can mean only one."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        given = namespace.__dict__.setdefault("_given", {})
        if given.setdefault(self.dest, values) != values:
            parser.error(f"{option_string} is given twice: {given[self.dest]}, then {values}")
        setattr(namespace, self.dest, values)


class _Version(argparse.Action):
    """Prints the versions of this package, of Python and of JAX, and ends."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        try:
            own = importlib.metadata.version("mmbc-jax")
        except importlib.metadata.PackageNotFoundError:
            own = "(not installed)"
        print(f"mmbc_jax {own}, Python {platform.python_version()}, jax {importlib.metadata.version('jax')}")
        parser.exit()


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are UserErrors, and that guesses no abbreviations."""

    def __init__(self, prog: str, description: str | None):
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self.register("action", None, _Once)
        self.add_argument("--version", action=_Version, nargs=0, help="print versions and end")

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}; see {self.prog} --help")

    def known(self, argv: Sequence[str], hint: str = "") -> argparse.Namespace:
        """What the arguments say; raises UserError, which ends in `hint`, where one of them is not known."""
        flags, unknown = self.parse_known_args(argv)
        if unknown:
            raise UserError(f"unknown argument {unknown[0]!r}{hint}")
        return flags


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that name one trained policy; see `deploy.deployed.load`."""
    parser.add_argument(
        "--checkpoint", required=True, help="work directory, or <workdir>/checkpoints/<stage>"
    )
    parser.add_argument(
        "--stage", help="which stage; default: the last one trained, plain and baseline aside"
    )
    parser.add_argument("--step", type=int, help="which of its checkpoints; default: the newest")
    parser.add_argument("--seed", type=int, help="which of the runs side by side; default: the first")
    parser.add_argument("--point", type=int, default=0, help="which point of a sweep; default: 0")


def check_seed(seed: int | None) -> None:
    """Raises UserError where `--seed` is given and is none that a generator takes."""
    if seed is not None and not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed} must be at least 0 and below 2^32")


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
    warnings.filterwarnings("ignore", message="Brax System, pip[e]?lines and environments are not actively")
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
    """Calls `main(argv)` and exits with its code; a UserError is one line on stderr and exit code 2.

    Nothing that it writes can be written by everybody; else its folders and files are as the umask says.
    """
    os.umask(os.umask(_OTHERS_WRITE) | _OTHERS_WRITE)
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        code = _say(str(error))
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _PIPE_CLOSED
    except KeyboardInterrupt:
        code = _say("interrupted", CTRL_C)
        if interrupts.received():
            interrupts.leave()
    except (RuntimeError, AssertionError) as error:
        last = Path(traceback.extract_tb(error.__traceback__)[-1].filename).name
        if not (str(error).startswith(_NO_DEVICE) or last == _FINDS_DEVICES):
            raise
        why = str(error) or "JAX finds no such device"
        code = _say(f"$JAX_PLATFORMS = {os.environ.get('JAX_PLATFORMS', '')!r}: {why}")
    sys.exit(code)


def _say(error: str, code: int = USER_ERROR) -> int:
    line = " ".join(error.split())
    print(f"error: {line if len(line) <= _LONGEST else line[:_LONGEST] + ' ...'}", file=sys.stderr)
    return code
