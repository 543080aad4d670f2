"""Calls of command lines that must be refused: exit code 2, one line on stderr, in time, and nothing written."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import pytest

from mmbc_jax import cli, train
from mmbc_jax.runs import setup
from mmbc_jax.runs.programs import Programs
from mmbc_jax.runs.sections import check_config
from tests.toys.landscape import toy_config

SECONDS = 10.0
CONFIG = Path(__file__).parent / "given.py"

given = toy_config  # what `given.py` returns


def get_config():
    return given()


@contextlib.contextmanager
def giving(change: Callable) -> Iterator[None]:
    """`given.py` returns the toy configuration as `change` leaves it."""

    def make():
        config = toy_config()
        change(config)
        return config

    with mock.patch(f"{__name__}.given", make):
        yield


def checked(argv: Sequence[str]) -> int:
    """What `train` does with its arguments before it builds anything."""
    config, _, _ = train.parse(argv)
    check_config(config)
    return 0


def contents(folder: Path) -> dict[str, object]:
    """Everything below a folder: bytes of files, targets of links."""
    found: dict[str, object] = {}
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            if path.is_symlink():
                found[str(path)] = os.readlink(path)
            else:
                found[str(path)] = path.read_bytes() if path.is_file() else path.stat().st_mode
    return found


def never(*_: object, **__: object) -> None:
    raise AssertionError("got as far as compiling")


def refusal(main: Callable[[Sequence[str]], int], argv: Sequence[object], folder: Path | None = None) -> str:
    """The line that a command line says on stderr; fails where it is not refused as it must be.

    Args:
      main: of the command line.
      argv: its arguments.
      folder: that must stay as it is.
    """
    before = contents(folder) if folder else {}
    out, err = io.StringIO(), io.StringIO()
    start = time.perf_counter()
    with (
        mock.patch.object(sys, "argv", ["command", *map(str, argv)]),
        mock.patch.object(Programs, "epoch", never),
        mock.patch.object(Programs, "evaluate", never),
        mock.patch.object(setup, "record", never),
        mock.patch.dict(os.environ, {"JAX_COMPILATION_CACHE_DIR": ""}),
        warnings.catch_warnings(record=True) as warned,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(SystemExit) as exit_:
            cli.run_main(main)
    seconds, said = time.perf_counter() - start, err.getvalue()
    assert exit_.value.code == 2, said
    assert said.startswith("error: "), said
    assert said.count("\n") == 1, said
    assert len(said) < 1500, said[:200]
    assert out.getvalue() == ""
    assert not warned, [str(one.message) for one in warned]
    assert seconds < SECONDS
    assert not folder or contents(folder) == before
    return said


def failures(
    main: Callable, cases: dict[str, tuple[Sequence[object], str]], folder: Path | None = None
) -> list[str]:
    """One line for every case {name: (arguments, what the line must hold)} that is not refused as it must be."""
    found = []
    for name, (argv, said) in cases.items():
        try:
            line = refusal(main, argv, folder)
            if said not in line:
                found.append(f"{name}: {line.strip()} says nothing of {said}")
        except (Exception, pytest.fail.Exception) as error:
            found.append(f"{name}: {type(error).__name__}: {str(error).strip().splitlines()[:1]}")
    return found
