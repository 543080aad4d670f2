"""The work directory: which run it belongs to, and what a killed process left in it."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mmbc_jax.core.errors import DataError, DivergenceError, UserError, WorkdirError
from mmbc_jax.core.files import plain, read_sealed, write_sealed
from mmbc_jax.runs.lock import LOCK, WorkdirLock

# What a process that was killed in the middle of a write leaves behind; nothing ever reads it.
_LEFTOVERS = (
    ".*.tmp",
    "stages/*/.*.tmp",
    "figures/.*.tmp",
    "checkpoints/*/*.orbax-checkpoint-tmp*",
    "best/*/*.orbax-checkpoint-tmp*",
)

Change = tuple[str, Any, Any]
"""(dotted field, old, new)."""
LENGTHS = ("bc.steps", "discover.iterations", "finetune.iterations")
"""The fields that `--extend` may raise for a run that is there."""
# What may differ where a run continues: figures are the same on any devices, and what `budget` scaled is compared.
MAY_DIFFER = ("mesh", "budget")


# What a run writes before it has trained anything: another configuration may have the directory for it.
_BEFORE_TRAINING = (
    "config.json",
    "data.json",
    "demonstrations.npz",
    "modes.json",
    "metrics.jsonl",
    "lanes",
    "tensorboard",
    "checkpoints",
)
_TRAINED = ("checkpoints/*/[0-9]*", "stages/*/result.json", "summary.json")


def open_workdir(workdir: Path) -> None:
    """Makes the directory, or checks that a run may be there.

    Args:
      workdir: created where it does not exist.

    Raises:
      WorkdirError: it is a file, holds files that are no run, or cannot be written. Nothing in it was changed.
    """
    workdir = Path(workdir)
    try:
        if workdir.exists() and not workdir.is_dir():
            raise WorkdirError(f"{workdir} is a file; give another --workdir")
        workdir.mkdir(parents=True, exist_ok=True)
        if not (workdir / "config.json").exists() and _others(workdir):
            raise WorkdirError(
                f"{workdir} is not empty and holds no run (no config.json); give another --workdir"
            )
        if not os.access(workdir, os.W_OK):
            raise WorkdirError(f"{workdir} is not writable; give another --workdir")
    except OSError as error:
        raise _unusable(workdir, error) from error


@contextmanager
def opened(workdir: Path, lock: WorkdirLock) -> Iterator[None]:
    """Holds a directory, and leaves none behind where a UserError comes before anything is trained in a new one.

    Raises:
      WorkdirError: as `open_workdir`, or another process has it.
    """
    workdir = Path(workdir)
    new = not (workdir.is_dir() and _others(workdir))
    made = [folder for folder in (workdir, *workdir.parents) if not folder.exists()]
    open_workdir(workdir)
    abandoned = False
    try:
        with lock.held():
            try:
                yield
            except DivergenceError:  # whose curves are to be seen
                raise
            except UserError:
                if abandoned := new and not has_trained(workdir):
                    _remove(workdir, _BEFORE_TRAINING)
                raise
    finally:
        if abandoned:
            with suppress(OSError):  # something else has come into one of them
                for folder in made:
                    folder.rmdir()


def has_trained(workdir: Path) -> bool:
    """Whether anything in a directory has been trained to a checkpoint or a result."""
    return any(any(workdir.glob(pattern)) for pattern in _TRAINED)


def _others(workdir: Path) -> set[Path]:
    own = {*workdir.glob(".config.json.*.tmp"), *workdir.glob(f"{LOCK}*")}
    return set(workdir.iterdir()) - own


def _unusable(workdir: Path, error: OSError) -> WorkdirError:
    return WorkdirError(f"{workdir} cannot be used ({error.strerror or error}); give another --workdir")


def claim_workdir(
    workdir: Path,
    config: ConfigDict,
    clean: bool = True,
    extends: Callable[[list[Change]], bool] = lambda changes: False,
) -> None:
    """Makes the directory this run's, or checks that it already is, and removes half-written files.

    Args:
      workdir: created where it does not exist; otherwise empty, a run with the same configuration, on whatever
        devices, or one that has not trained anything yet, whose place this one takes.
      config: resolved.
      clean: remove what a killed process left half-written.
      extends: whether differences from the configuration that is there only lengthen its run.

    Raises:
      WorkdirError: it holds another run's configuration or files that are no run at all, or it cannot be
        written. Nothing in it was changed.
    """
    workdir = Path(workdir)
    open_workdir(workdir)
    path = workdir / "config.json"
    try:
        if not path.exists():
            write_sealed(path, config)
        elif changes := _changes(read_sealed(path), plain(config)):
            if not has_trained(workdir):
                _remove(workdir, _BEFORE_TRAINING)
            elif not extends(changes):
                raise _another(workdir, changes)
            write_sealed(path, config)
        if clean:
            _remove(workdir, _LEFTOVERS)
    except OSError as error:
        raise _unusable(workdir, error) from error
    except DataError as error:
        raise WorkdirError(f"{error}; give another --workdir") from error


def put_aside(workdir: Path) -> Path | None:
    """Renames a work directory of this program to `<name>.old-<n>` beside it, so that its place is free.

    Returns:
      Where it is now; None where there was nothing, or an empty folder.

    Raises:
      WorkdirError: it is no work directory, another process has it, or it cannot be renamed. Nothing was changed.
    """
    workdir = Path(workdir)
    if not workdir.exists() or (workdir.is_dir() and not _others(workdir)):
        return None
    try:
        whole = read_sealed(workdir / "config.json")
    except (OSError, DataError) as error:
        raise WorkdirError(
            f"--overwrite: {workdir} is no work directory (no config.json that a run has written), and stays as it "
            "is; give another --workdir"
        ) from error
    if workdir.is_symlink() or not {"stages", "env", "bc"} <= set(whole):
        raise WorkdirError(
            f"--overwrite: {workdir} is no work directory, and stays as it is; give another --workdir"
        )
    with WorkdirLock(workdir).held():
        pass
    aside = next(
        path
        for n in itertools.count(1)
        if not (path := workdir.with_name(f"{workdir.name}.old-{n}")).exists()
    )
    try:
        workdir.rename(aside)
    except OSError as error:
        raise _unusable(workdir, error) from error
    return aside


def differences(workdir: Path, config: ConfigDict) -> list[str]:
    """`a.b: old -> new` of what keeps a configuration from continuing the run in a work directory."""
    return worded(_changes(read_sealed(Path(workdir) / "config.json"), plain(config)))


def _changes(old: Any, new: Any) -> list[Change]:
    was, now = ({name: x[name] for name in x if name not in MAY_DIFFER} for x in (old, new))
    return changed(was, now)


def _another(workdir: Path, changes: list[Change]) -> WorkdirError:
    hint = "; --extend trains it on" if only_longer(changes) else ""
    return WorkdirError(
        f"{workdir} holds a run with another configuration ({'; '.join(worded(changes[:4]))}); "
        f"give another --workdir, or repeat that run's command to continue it{hint}; --overwrite puts it aside"
    )


def _remove(workdir: Path, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        for path in workdir.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def changed_fields(old: Any, new: Any, prefix: str = "") -> list[str]:
    """`a.b: old -> new` for every leaf in which two nested dictionaries differ."""
    return worded(changed(old, new, prefix))


def worded(changes: Sequence[Change]) -> list[str]:
    """`a.b: old -> new` of each."""
    return [f"{field}: {was!r} -> {now!r}" for field, was, now in changes]


def only_longer(changes: Sequence[Change]) -> bool:
    """Whether differences only lengthen a run."""
    return all(field in LENGTHS and now > was for field, was, now in changes)


def changed(old: Any, new: Any, prefix: str = "") -> list[Change]:
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
