"""Shared fixtures. Key reuse, annotated shapes and the contracts of plug-ins are checked in every test."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

import jaxtyping

# Each worker keeps to a core of its own: threads of one that wait on the cores of another cost a tenth of the suite.
if hasattr(os, "sched_setaffinity") and "PYTEST_XDIST_WORKER" in os.environ:
    cores = sorted(os.sched_getaffinity(0))
    if int(os.environ["PYTEST_XDIST_WORKER_COUNT"]) >= len(cores):
        os.sched_setaffinity(0, {cores[int(os.environ["PYTEST_XDIST_WORKER"][2:]) % len(cores)]})

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is compilation: of programs that run once, and of the same small ones in every process.
# `make test-all` sets 0 and tests what a user runs, to the letter.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1":
    os.environ.setdefault(
        "XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    )
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"mmbc_jax_tests_{os.getuid()}")
)

import jax
import pytest

# Tracing makes and keeps millions of small objects: looking through them at Python's own thresholds takes a tenth.
gc.set_threshold(100_000, 50, 100)

if "MMBC_TESTS_SHARED" not in os.environ:  # the workers have it from the process that starts them
    os.environ["MMBC_TESTS_SHARED"] = tempfile.mkdtemp(prefix="mmbc_jax_tests_")
    atexit.register(shutil.rmtree, os.environ["MMBC_TESTS_SHARED"], ignore_errors=True)

jax.config.update("jax_debug_key_reuse", True)
# Before the package is imported: the functions of these rooms check what they are given and what they return.
CHECKER = (
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"  # an int is a float, as to mypy
)
jaxtyping.install_import_hook("mmbc_jax.ops", CHECKER)

from tests import contracts  # noqa: E402
from tests.toys import products  # noqa: E402

contracts.install()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before `-m` is looked at: what a test spares of its members is slow."""
    products.leave(items, whole=not any("::" in one for one in config.args))


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
