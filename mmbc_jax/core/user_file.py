"""Python files of the user: read as they are now, and whatever their code does wrong said in one line."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmbc_jax.core import interrupts
from mmbc_jax.core.errors import UserError, cut, nearest
from mmbc_jax.core.files import local_path


class _Unkept(importlib.machinery.SourceFileLoader):
    """Reads a file as it is now: no bytecode is left beside it, nor found there."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


@contextlib.contextmanager
def user_code(path: str | Path) -> Iterator[None]:
    """Whatever the code of a user's file raises, SystemExit too, becomes a UserError that names file and line."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and interrupts.received():
            raise  # the user's own, and not one that the file raises
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = frames[-1].lineno if frames else getattr(error, "lineno", None)
        where = f" at line {line}" if line else ""
        try:
            said = f"{type(error).__name__}: {error}"
        except Exception:
            said = type(error).__name__
        raise UserError(f"--config {path} fails{where}: {cut(said)}") from error


def load_module(path: str | Path) -> Any:
    """The module of a config file.

    Raises:
      UserError: no such file, or its code fails; the message names the line.
    """
    path = local_path(path, "--config")
    if not path.is_file():
        siblings = [str(p) for p in Path("configs").rglob("*.py")] if Path("configs").is_dir() else []
        raise UserError(f"--config {path} is not a file; {nearest(str(path), siblings)}")
    name = f"mmbc_jax_config_{path.stem}"
    spec = importlib.util.spec_from_loader(name, _Unkept(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with user_code(path):
        spec.loader.exec_module(module)
    return module
