"""The devices of a run: an axis `runs`, whose members never speak to each other, and an axis `batch` inside a run.

Everything here does nothing where there is one device: no constraint, no transfer, the same programs.

Rows: a state has R rows, one per run. Where the devices of `runs` do not divide R, a state on the mesh has more: the
additional ones repeat run 0, and are dropped from whatever leaves the mesh (metrics, episodes, checkpoints).

Processes: all of them run the same program on the same configuration, and each holds its share of a state. Values
that leave the mesh are whole on every process. Files are written by process 0 alone (`is_writer`).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mmbc_jax.core.config import check_choice, check_range
from mmbc_jax.core.errors import ConfigError, UserError
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.sharding import BATCH_AXIS
from mmbc_jax.core.types import Array, PyTree

MODES = ("auto", "vmap", "map", "shard")
RUNS_AXIS = "runs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshOptions(Options):
    """Devices that a run is spread over."""

    runs: int = option(
        0,
        "devices that share the runs; 0 for all with sweep.mode=shard or several processes, no more than there are "
        "runs with auto, else one",
        low=0,
    )
    batch: int = option(1, "devices that share the environments, or the batch, of each run", low=1)
    cores: str = option(
        "auto",
        "CPU cores of stages that learn in an environment: one each, in processes of their own side by side (own); "
        "all of them, in turn (shared); or one each where there are several and enough to train (auto)",
        choices=("auto", "own", "shared"),
    )


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Devices of a run; see the module docstring.

    Attributes:
      mode: how the runs of one device are computed, one of `MODES`; "shard" computes them as "vmap" does, "auto" as
        `runs.mode_choice` chooses.
      devices: the mesh (`runs`, `batch`); None for the one default device.
    """

    mode: str = "vmap"
    devices: jax.sharding.Mesh | None = None

    @property
    def runs(self) -> int:
        """Devices on the axis `runs`."""
        return self.devices.shape[RUNS_AXIS] if self.devices else 1

    @property
    def batch(self) -> int:
        """Devices on the axis `batch`."""
        return self.devices.shape[BATCH_AXIS] if self.devices else 1

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files."""
        return jax.process_index() == 0

    def padded(self, runs: int) -> int:
        """Rows that R runs take on the mesh: the next multiple of the devices on `runs`."""
        return -(-runs // self.runs) * self.runs

    def state(self, tree: PyTree) -> PyTree:
        """The sharding of each leaf [R, ...] of a state: runs over `runs`.

        Under `env_state`, dimension 1 (environments, or rows of a replay buffer) is spread over `batch` where that
        divides it. Parameters and optimiser states are the same on all devices of `batch`.
        """
        leading = jax.tree.map(lambda _: self._sharding(RUNS_AXIS), tree)
        if getattr(tree, "env_state", None) is None or self.batch == 1:
            return leading
        return leading.replace(env_state=jax.tree.map(self._environments, tree.env_state))

    def everywhere(self) -> NamedSharding:
        """The sharding of what every device holds whole."""
        return self._sharding()

    def place(self, tree: PyTree) -> PyTree:
        """A tree with leading axis R on the mesh, with its additional rows; what is there already stays.

        Args:
          tree: of arrays of this process, equal in all processes, or of arrays on the mesh.
        """
        if self.devices is None:
            return tree
        return jax.tree.map(lambda leaf, at: _put(self._pad(leaf), at), tree, self.state(tree))

    def share(self, tree: PyTree) -> PyTree:
        """A tree that all runs read, whole on every device of the mesh; what is there already stays."""
        if self.devices is None:
            return tree
        return jax.tree.map(lambda leaf: _put(leaf, self.everywhere()), tree)

    def fetch(self, tree: PyTree, runs: int) -> PyTree:
        """The first `runs` rows of a tree on the mesh, whole on every process: NumPy arrays, and local keys.

        To be called by all processes. With one device the tree itself, which has no other rows.
        """
        if self.devices is None:
            return tree

        def local(leaf: Array) -> Any:
            data: Any = host(leaf)[:runs]
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf)) if is_key(leaf) else data

        return jax.tree.map(local, tree)

    @contextmanager
    def writer_first(self) -> Iterator[None]:
        """Process 0 goes through the block before the others enter it: it writes what they then find there."""
        if jax.process_count() > 1 and not self.is_writer:
            multihost_utils.sync_global_devices("writer first")
        try:
            yield
        finally:
            if jax.process_count() > 1 and self.is_writer:
                multihost_utils.sync_global_devices("writer first")

    def any_process(self, flag: bool) -> bool:
        """Whether `flag` is set in any process, such as a signal that reached one of them; called by all."""
        if jax.process_count() == 1:
            return flag
        return bool(multihost_utils.process_allgather(np.asarray(flag)).any())

    def _sharding(self, *axes: str | None) -> NamedSharding:
        assert self.devices is not None
        return NamedSharding(self.devices, PartitionSpec(*axes))

    def _environments(self, leaf: Array) -> NamedSharding:
        divides = len(leaf.shape) > 1 and leaf.shape[1] % self.batch == 0
        return self._sharding(RUNS_AXIS, *[BATCH_AXIS] * divides)

    def _pad(self, leaf: Any) -> Any:
        rows = leaf.shape[0]
        more = self.padded(rows) - rows
        return leaf[np.concatenate([np.arange(rows), np.zeros(more, int)])] if more else leaf


def make_mesh(mode: str, runs: int = 0, batch: int = 1, count: int = 1) -> Mesh:
    """The mesh of a configuration.

    Args:
      mode: `sweep.mode`, one of `MODES`.
      runs: devices on axis `runs`; 0 for all that `batch` leaves, where the mode is "shard" or there are several
        processes, and else one.
      batch: devices on axis `batch`.
      count: R, runs that there are to compute; with mode "auto" they take no more devices than that.

    Raises:
      ConfigError: unknown mode, more devices than there are, or processes whose devices would be left out.
    """
    check_choice("sweep.mode", mode, MODES)
    check_range("mesh.runs", runs, 0)
    devices, processes = jax.device_count(), jax.process_count()
    if not 1 <= batch <= devices:
        raise ConfigError("mesh.batch", batch, f"1 to {devices}, the number of devices")
    if not runs:
        most = devices if mode == "shard" or processes > 1 else count if mode == "auto" else 1
        runs = min(devices // batch, most)
    if runs * batch > devices:
        raise ConfigError(
            "mesh.runs", runs, f"at most {devices // batch}, for {batch} of {devices} devices each"
        )
    if processes > 1 and runs * batch < devices:
        raise ConfigError(
            "mesh.runs",
            runs,
            f"as many as give, times mesh.batch = {batch}, all {devices} devices of all processes",
        )
    if runs * batch == 1:
        return Mesh(mode)
    mode = "shard" if mode == "auto" else mode
    axes = {"axis_types": (AxisType.Auto,) * 2}  # explicit ones reject gathers inside a step
    chosen = jax.devices()[: runs * batch]
    return Mesh(mode, jax.make_mesh((runs, batch), (RUNS_AXIS, BATCH_AXIS), devices=chosen, **axes))


def connect() -> None:
    """Joins the processes of a run, before anything else uses JAX; alone where $JAX_COORDINATOR_ADDRESS is not set.

    With $JAX_NUM_PROCESSES and $JAX_PROCESS_ID, or what JAX knows of the cluster (Slurm, Open MPI).

    Raises:
      UserError: one of them is no number.
    """
    if not os.environ.get("JAX_COORDINATOR_ADDRESS"):
        return
    numbers: dict[str, Any] = {}
    for argument, name in (("num_processes", "JAX_NUM_PROCESSES"), ("process_id", "JAX_PROCESS_ID")):
        text = os.environ.get(name, "")
        if text and not text.isdecimal():
            raise UserError(f"${name} = {text!r} is not a whole number")
        numbers[argument] = int(text) if text else None
    jax.distributed.initialize(**numbers)


def is_key(leaf: Any) -> bool:
    """Whether an array is one of typed keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def host(leaf: Any) -> np.ndarray:
    """A copy of a whole array on the host, keys as their integers; called by all processes that hold a part of it."""
    data = jax.random.key_data(leaf) if is_key(leaf) else leaf
    if isinstance(data, jax.Array) and not (data.is_fully_addressable or data.is_fully_replicated):
        return np.asarray(multihost_utils.process_allgather(data, tiled=True))
    return np.array(data)


def _put(leaf: Any, sharding: NamedSharding) -> Array:
    if getattr(leaf, "sharding", None) == sharding:
        return leaf
    if jax.process_count() > 1:
        # A device array of one process would become a broken one across several: it goes by way of the host.
        if is_key(leaf):
            data = jax.device_put(host(leaf), sharding)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        leaf = host(leaf)
    # A copy: the caller's array must outlive the donation of this one.
    return jax.device_put(leaf, sharding, may_alias=False)
