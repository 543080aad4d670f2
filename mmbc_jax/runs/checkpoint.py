"""Checkpoints with orbax: the whole training state beside a JSON description of what it belongs to.

A checkpoint holds the R runs and nothing of the devices that wrote it: keys as their integers, leaves whole. So it
can be restored on any mesh and by any number of processes, all of which see the directory.
"""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mmbc_jax.core.errors import CheckpointError
from mmbc_jax.core.files import seal
from mmbc_jax.core.keys import RANDOM
from mmbc_jax.core.types import PyTree
from mmbc_jax.runs.mesh import Mesh, host
from mmbc_jax.runs.packing import (
    check_alike,
    data_of,
    empty_like,
    packed,
    revived,
    room_for,
    stored,
    unpacked,
)

FORMAT = 5
Meta = dict[str, Any]
_OWN_CRC = "meta_crc32"
_STEP = re.compile(r"0|[1-9][0-9]{0,17}")  # the name of a checkpoint


class DamagedError(CheckpointError):
    """A checkpoint that was not what it is now when it was written; the one before it may be whole."""


class StageCheckpoints:
    """The checkpoints of one stage, in `<workdir>/checkpoints/<stage>/<step>/`.

    Saving is asynchronous and atomic: a directory gets its final name only when it is whole, so the
    newest listed one can always be restored. A thread of its own computes the checksum and writes while the
    device goes on; several processes, whose writing has to keep in step, leave the writing to orbax's threads.
    What goes wrong there is raised by the next call.

    Args:
      directory: of the stage.
      keep: how many of the newest to keep.
      read_only: never change anything there.
      mesh: of the states that are saved and restored; all its processes call every method.
    """

    def __init__(self, directory: Path, keep: int = 2, read_only: bool = False, mesh: Mesh | None = None):
        self.directory, self._mesh = Path(directory).absolute(), mesh or Mesh()
        self._alone = jax.process_count() == 1
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else keep,
            enable_async_checkpointing=not (read_only or self._alone),
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options, item_names=("state", "meta"))
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def save(
        self, step: int, state: PyTree, meta: Meta | Callable[[], Meta], runs: int | None = None
    ) -> None:
        """Starts writing a checkpoint; the state may be donated as soon as this returns.

        Args:
          step: its name.
          state: with leading axis R, or on a mesh with its additional rows.
          meta: what it says of itself, or a function that says so in the thread that writes.
          runs: R; None for all rows.
        """
        self.wait()  # so that no more than one copy of the state is held
        if self._alone:
            # On a CPU device-to-host is a view: without a copy the next epoch would overwrite what is being written.
            # `device_put` compiles nothing, where `jnp.copy` compiles a program for every shape of a state.
            snapshot = jax.tree.map(lambda leaf: jax.device_put(data_of(leaf), may_alias=False), state)
            self._writing = self._thread.submit(self._write, step, snapshot, meta, runs)
        else:
            self._write(step, state, meta, runs)

    def _write(self, step: int, snapshot: PyTree, meta: Meta | Callable[[], Meta], runs: int | None) -> None:
        if self._mesh.devices is not None:
            snapshot = jax.tree.map(lambda leaf: host(leaf)[:runs], snapshot)
        snapshot = jax.tree.map(stored, snapshot)
        said = meta() if callable(meta) else meta
        about = {
            "format": FORMAT,
            "random": RANDOM,
            "version": version("mmbc-jax"),
            "crc32": checksum(snapshot),
            **said,
        }
        about["arrays"] = _described(snapshot)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(packed(snapshot)),
                meta=ocp.args.JsonSave({**about, _OWN_CRC: seal(about)}),
            ),
        )

    def wait(self) -> None:
        """Blocks until everything saved is on disk."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and releases the manager's threads."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._manager.close()

    def latest(self) -> int | None:
        """Step of the newest whole checkpoint; None where there is none."""
        self.wait()
        return self._manager.latest_step()

    def put_aside(self, step: int) -> Path:
        """Renames a damaged checkpoint, so that its step can be saved again; returns where it is."""
        self.wait()
        names = (
            f"damaged-{step}{tail}" for tail in itertools.chain([""], (f"-{i}" for i in itertools.count(2)))
        )
        aside = next(path for path in map(self.directory.joinpath, names) if not path.exists())
        (self.directory / str(step)).rename(aside)
        self._manager.reload()
        return aside

    def restore(self, step: int, template: PyTree) -> PyTree:
        """The state saved at `step`, on the mesh.

        Args:
          step: as from `latest`.
          template: shapes and types of its leaves, with leading axis R.

        Raises:
          CheckpointError: it is damaged, or its arrays are not those of `template`.
        """
        where = self.directory / str(step)
        meta = _read_meta(where)
        stored, expected = meta["arrays"], _described(jax.tree.map(empty_like, template))
        differ = sorted(name for name in {*stored, *expected} if stored.get(name) != expected.get(name))
        if differ:
            was, now = (arrays.get(differ[0], "no such array") for arrays in (stored, expected))
            raise CheckpointError(
                f"checkpoint {where}, {_written_by(meta)}, does not fit this configuration: "
                f"{differ[0]} is {was} there, {now} here"
            )
        try:
            empty = jax.tree.map(empty_like, template)
            wanted = ocp.args.Composite(state=ocp.args.StandardRestore(room_for(empty)))
            saved = unpacked(self._manager.restore(step, args=wanted).state, empty)
            jax.tree.map(check_alike, saved, template)
            if checksum(saved) != meta["crc32"]:
                raise ValueError("its checksum is wrong")
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DamagedError(f"checkpoint {where} is damaged ({first[:300]})") from error
        return self._mesh.place(jax.tree.map(revived, saved, template))


def checksum(state: PyTree) -> int:
    """CRC-32 over the bytes of all leaves: the array format itself does not notice a changed byte.

    Of whole leaves, so that it is the same on every process and mesh.
    """
    crc = 0
    for leaf in jax.tree.leaves(state):
        crc = zlib.crc32(np.asarray(data_of(leaf)).tobytes(), crc)
    return crc


def checkpoint_steps(directory: Path) -> list[int]:
    """Steps of the whole checkpoints in a stage's directory, oldest first; empty where there is none."""
    return sorted(int(path.name) for path in Path(directory).glob("*") if _STEP.fullmatch(path.name))


def read_meta(directory: Path, step: int | None = None) -> tuple[int, dict[str, Any]]:
    """A step of a stage's checkpoint directory, the newest unless said, and what it says of itself.

    Raises:
      CheckpointError: there is no whole checkpoint, or its description is damaged.
    """
    directory = Path(directory)
    steps = checkpoint_steps(directory)
    if not steps:
        raise CheckpointError(f"{directory} holds no checkpoint")
    step = steps[-1] if step is None else step
    return step, _read_meta(directory / str(step))


def _read_meta(checkpoint: Path) -> dict[str, Any]:
    try:
        meta = json.loads((checkpoint / "meta" / "metadata").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"checkpoint {checkpoint} is damaged: {error}") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("format"), int):
        raise DamagedError(f"checkpoint {checkpoint} is damaged: it does not say what it is")
    if meta["format"] != FORMAT:
        raise CheckpointError(
            f"checkpoint {checkpoint}, {_written_by(meta)}, has format {meta['format']!r}; this is mmbc_jax "
            f"{version('mmbc-jax')}, which reads {FORMAT}: use the version that wrote it, or train anew"
        )
    said = meta.pop(_OWN_CRC, None)
    if said != seal(meta):
        raise DamagedError(f"checkpoint {checkpoint} is damaged: the checksum of its description is wrong")
    if meta.get("random") != RANDOM:
        raise CheckpointError(
            f"checkpoint {checkpoint} was trained with random numbers of {meta.get('random')!r}; this version draws "
            f"those of {RANDOM!r}, under which its seeds are other runs"
        )
    return meta


def _written_by(meta: Meta) -> str:
    return f"written by mmbc_jax {meta.get('version', 'of an unknown version')}"


def _described(state: PyTree) -> dict[str, str]:
    """{path of a leaf: its type and shape}, as it is stored."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def find_stage(path: Path, stages: tuple[str, ...]) -> tuple[Path, str]:
    """The stage directory that `path` points at.

    Args:
      path: a work directory, its `checkpoints`, or one stage's directory.
      stages: stage names from the last to the first; the first found is taken.

    Returns:
      (directory of the stage, its name).

    Raises:
      CheckpointError: nothing there.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist; a work directory or <workdir>/checkpoints/<stage> is needed"
        )
    for root in (path / "checkpoints", path):
        for stage in stages:
            if checkpoint_steps(root / stage):
                return root / stage, stage
    if path.name in stages and checkpoint_steps(path):
        return path, path.name
    raise CheckpointError(f"{path} holds no checkpoint of a stage ({', '.join(stages)})")
