"""Shared fixtures. Key reuse, annotated shapes and the contracts of plug-ins are checked in every test."""

from __future__ import annotations

import os
from pathlib import Path

import jaxtyping

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is compilation. `make test-all` sets 0 and tests what a user runs, to the letter.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

jax.config.update("jax_debug_key_reuse", True)
# Before the package is imported: the functions of these rooms check what they are given and what they return.
CHECKER = (
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"  # an int is a float, as to mypy
)
jaxtyping.install_import_hook("mmbc_jax.ops", CHECKER)

from tests import contracts  # noqa: E402

contracts.install()


def data_folder() -> Path | None:
    """The folder of recorded demonstrations: $MMBC_DATA, or a `shared/data` beside the repository."""
    candidates = [os.environ.get("MMBC_DATA"), Path(__file__).parents[2] / "shared" / "data"]
    return next((Path(c) for c in candidates if c and Path(c).is_dir()), None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded demonstrations; skips where it is absent."""
    folder = data_folder()
    if folder is None:
        pytest.skip("no recorded demonstrations: set MMBC_DATA to their folder")
    return folder
