"""Checkpoints with orbax: the whole training state beside a JSON description of what it belongs to."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from mmbc_jax.core.errors import CheckpointError
from mmbc_jax.core.types import Array, PyTree

FORMAT = 2


class StageCheckpoints:
    """The checkpoints of one stage, in `<workdir>/checkpoints/<stage>/<step>/`.

    Saving is asynchronous and atomic: a directory gets its final name only when it is whole, so the
    newest listed one can always be restored.

    Args:
      directory: of the stage.
      keep: how many of the newest to keep.
      read_only: never change anything there.
    """

    def __init__(self, directory: Path, keep: int = 2, read_only: bool = False):
        self.directory = Path(directory).absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else keep,
            enable_async_checkpointing=not read_only,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options, item_names=("state", "meta"))

    def save(self, step: int, state: PyTree, meta: dict[str, Any]) -> None:
        """Starts writing a checkpoint; the state may be donated as soon as this returns."""
        # On a CPU device-to-host is a view: without a copy the next epoch would overwrite what is being written.
        snapshot = jax.tree.map(jnp.copy, state)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(snapshot),
                meta=ocp.args.JsonSave({"format": FORMAT, "crc32": checksum(snapshot), **meta}),
            ),
        )

    def wait(self) -> None:
        """Blocks until everything saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and releases the manager's threads."""
        self._manager.wait_until_finished()
        self._manager.close()

    def latest(self) -> int | None:
        """Step of the newest whole checkpoint; None where there is none."""
        return self._manager.latest_step()

    def restore(self, step: int, template: PyTree) -> PyTree:
        """The state saved at `step`, with the shapes and types of `template`.

        Raises:
          CheckpointError: it is damaged, or its arrays are not those of `template`.
        """
        expected = _read_meta(self.directory / str(step))["crc32"]
        try:
            state = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(template))
            ).state
            if checksum(state) != expected:
                raise ValueError("its checksum is wrong")
            return jax.tree.map(_uncommitted, state)
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise CheckpointError(
                f"checkpoint {self.directory / str(step)} cannot be restored: it is damaged or its arrays do "
                f"not fit this configuration ({first[:300]})"
            ) from error


def checksum(state: PyTree) -> int:
    """CRC-32 over the bytes of all leaves: the array format itself does not notice a changed byte."""
    crc = 0
    for leaf in jax.tree.leaves(state):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        crc = zlib.crc32(np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes(), crc)
    return crc


def _uncommitted(leaf: Array) -> Array:
    """The array as a computation would have left it.

    Restored ones are pinned to their device; programs for pinned arguments are other programs, and a resumed
    run would find none of its own in the compilation cache.
    """
    if len(leaf.sharding.device_set) > 1:
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = jnp.array(np.asarray(jax.random.key_data(leaf)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jnp.array(np.asarray(leaf))


def checkpoint_steps(directory: Path) -> list[int]:
    """Steps of the whole checkpoints in a stage's directory, oldest first; empty where there is none."""
    return sorted(int(path.name) for path in Path(directory).glob("*") if path.name.isdigit())


def read_meta(directory: Path) -> tuple[int, dict[str, Any]]:
    """Newest step of a stage's checkpoint directory and what it says of itself.

    Raises:
      CheckpointError: there is no whole checkpoint, or its description is damaged.
    """
    directory = Path(directory)
    steps = checkpoint_steps(directory)
    if not steps:
        raise CheckpointError(f"{directory} holds no checkpoint")
    return steps[-1], _read_meta(directory / str(steps[-1]))


def _read_meta(checkpoint: Path) -> dict[str, Any]:
    try:
        meta = json.loads((checkpoint / "meta" / "metadata").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint {checkpoint} is damaged: {error}") from error
    if not isinstance(meta, dict) or "format" not in meta:
        raise CheckpointError(f"checkpoint {checkpoint} is damaged: it does not say what it is")
    if meta["format"] != FORMAT:
        raise CheckpointError(
            f"checkpoint {checkpoint} has format {meta['format']!r}; this version reads {FORMAT}"
        )
    return meta


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
