"""The work directory: which run it belongs to, and what a killed process left in it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mmbc_jax.core.errors import WorkdirError
from mmbc_jax.core.files import plain, read_json, write_json

# What a process that was killed in the middle of a write leaves behind; nothing ever reads it.
_LEFTOVERS = (".*.tmp", "stages/*/.*.tmp", "figures/.*.tmp", "checkpoints/*/*.orbax-checkpoint-tmp*")

_DEVICES = (
    "mesh"  # the section that may differ where a run continues: its figures are the same on any devices
)


def claim_workdir(workdir: Path, config: ConfigDict, clean: bool = True) -> None:
    """Makes the directory this run's, or checks that it already is, and removes half-written files.

    Args:
      workdir: created where it does not exist; otherwise empty, or a run with the same configuration, on
        whatever devices.
      config: resolved.
      clean: remove what a killed process left half-written.

    Raises:
      WorkdirError: it holds another run's configuration or files that are no run at all, or it cannot be
        written. Nothing in it was changed.
    """
    workdir = Path(workdir)
    path = workdir / "config.json"
    try:
        if path.exists():
            _check_same(workdir, read_json(path), plain(config))
        elif workdir.exists() and not workdir.is_dir():
            raise WorkdirError(f"{workdir} is a file; give another --workdir")
        elif workdir.exists() and set(workdir.iterdir()) - set(workdir.glob(".config.json.*.tmp")):
            raise WorkdirError(
                f"{workdir} is not empty and holds no run (no config.json); give another --workdir"
            )
        else:
            workdir.mkdir(parents=True, exist_ok=True)
            write_json(path, config)
        if not os.access(workdir, os.W_OK):
            raise WorkdirError(f"{workdir} is not writable; give another --workdir")
        if clean:
            _remove_leftovers(workdir)
    except OSError as error:
        raise WorkdirError(f"{workdir} cannot be used ({error.strerror}); give another --workdir") from error
    except json.JSONDecodeError as error:
        raise WorkdirError(f"{path} is damaged ({error}); give another --workdir") from error


def _check_same(workdir: Path, old: Any, new: Any) -> None:
    was, now = ({name: x[name] for name in x if name != _DEVICES} for x in (old, new))
    fields = changed_fields(was, now)
    if fields:
        raise WorkdirError(
            f"{workdir} holds a run with another configuration ({'; '.join(fields[:4])}); "
            "give another --workdir, or repeat that run's command to continue it"
        )


def _remove_leftovers(workdir: Path) -> None:
    for pattern in _LEFTOVERS:
        for path in workdir.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def changed_fields(old: Any, new: Any, prefix: str = "") -> list[str]:
    """`a.b: old -> new` for every leaf in which two nested dictionaries differ."""
    return [f"{field}: {was!r} -> {now!r}" for field, was, now in changed(old, new, prefix)]


def changed(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted field, old, new) of every leaf in which two nested dictionaries differ; None where one lacks it."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted({*old, *new}):
            found += changed(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    same = (
        list(old) == list(new)
        if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple))
        else old == new
    )
    return [] if same else [(prefix, old, new)]
