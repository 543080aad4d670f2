"""What a run will need, said before anything compiles; and what ran out, said in one line."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mmbc_jax.core.disk import folder_bytes, room_bytes
from mmbc_jax.core.errors import ConfigError, UserError
from mmbc_jax.core.memory import free_bytes
from mmbc_jax.core.types import PyTree
from mmbc_jax.runs.grid import Grid
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.stages import BaseStage
from mmbc_jax.runs.templates import dummy_shared, template_of

_FEW_RUNS, _SMALL = 64, 8192  # up to here nothing is worth the second that an estimate takes
_NO_SIZES = ("first_seed", "data.seed", "bc.steps")
_NO_NETWORKS = (
    "seeds",
    "bc",
    "dagger",
    "data",
    "evaluation",
    "discover",
    "finetune",
    "nonfinite_limit",
    "mesh",
)
_LENGTHS = (
    "steps",
    "iterations",
    "steps_per_epoch",
    "capacity",
    "steps_per_round",
)  # of time, or checked by itself
_BATCHES = ("batch_size", "num_envs", "episodes")  # of a learner's section
# Text by which the libraries under us report what the system's error number does not reach us for.
_DISK = ("No space left on device", "Disk quota exceeded", "ENOSPC")
_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "Unable to allocate", "bad_alloc")
_DISK_NUMBERS = (errno.ENOSPC, errno.EDQUOT)


def check_sizes(
    setup: Setup, stages: Iterable[BaseStage], grid: Grid, workdir: str | os.PathLike[str] | None = None
) -> None:
    """Raises ConfigError where what a run holds cannot fit the memory there is, or its checkpoints the disk.

    Lower bounds: the states of a stage's runs with the copy that a checkpoint writes, the episodes of an evaluation,
    a batch, the largest product in a training step, and recorded demonstrations; other scratch and the results of an
    epoch come on top. Nothing is allocated, and
    a configuration without large numbers is not looked at.

    Args:
      setup: of the run.
      stages: that it trains.
      grid: of the run.
      workdir: where its checkpoints go: of every stage as many as are kept, and one more while that is written; None
        where none are.

    Raises:
      ConfigError: naming the field, what it needs and what there is.
    """
    numbers = dict(_integers(setup.config))
    if grid.size <= _FEW_RUNS and max(numbers.values()) <= _SMALL:
        return
    limit, room, written = available_bytes(), 0 if workdir is None else room_bytes(workdir), 0
    for path, count, each in _batches(setup, grid):
        named = "seeds" if grid.size > 1 and count * each / grid.size < limit / 8 else path
        _check(named, numbers.get(named, 0), count * each, limit, f"{count:,} {path} of {each:,} bytes each")
    for stage in stages:
        runs = len(stage.runs(grid).runs)
        one = 2 * tree_bytes(template_of(stage, 1, own_scale=False))
        path = "seeds" if runs > 1 and one < limit / 8 else _largest(numbers)
        _check(path, numbers[path], runs * one, limit, f"the states of {runs} runs of stage {stage.name}")
        written += runs * one // 2 * (setup.config.checkpoint.keep + 1)
        kept = f"{setup.config.checkpoint.keep} checkpoints a stage, up to {stage.name}, and one that is written,"
        _check(path, numbers[path], written, room, kept, "on the disk")
        path = _batch_field(numbers, stage)
        largest = runs * product_bytes(stage)
        _check(
            path, numbers[path], largest, limit, f"one product of matrices in a step of stage {stage.name}"
        )


def _batches(setup: Setup, grid: Grid) -> Iterator[tuple[str, int, int]]:
    """(field, items, bytes of one) of what has a size of its own in the configuration."""
    config, spec = setup.config, setup.policy_spec
    decision = 4 * (spec.obs.size + spec.chunk_size)
    yield "bc.batch_size", config.bc.batch_size * grid.size, decision
    if setup.env is not None:
        yield "evaluation.episodes", config.evaluation.episodes * grid.size, decision
        length = setup.env_spec.episode_length
        recorded = 0 if config.data.path else config.data.episodes
        yield "data.episodes", recorded * length, 4 * (setup.obs.size + setup.action_dim)


def _check(path: str, value: int, need: int, limit: int, what: str, where: str = "of memory") -> None:
    if limit and need > limit:
        raise ConfigError(
            path,
            value,
            f"lower: {what} need at least {need / 2**30:.1f} GiB, and {limit / 2**30:.1f} GiB {where} are there",
        )


def _integers(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, int]]:
    """(dotted field, value) of the whole numbers in a configuration, of a tuple its largest."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _integers(value, f"{prefix}{name}.")
        else:
            items = value if isinstance(value, (tuple, list)) else (value,)
            whole = [item for item in items if isinstance(item, int) and not isinstance(item, bool)]
            if whole and f"{prefix}{name}" not in _NO_SIZES:
                yield f"{prefix}{name}", max(whole)


def product_bytes(stage: BaseStage) -> int:
    """Bytes of the largest product of matrices in a training step of one run, which no compiler can do without."""
    one = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), template_of(stage, 1, own_scale=False)
    )
    shared = dummy_shared(stage.setup) if "demonstrations" in stage.needs else ()
    return max(_products(jax.make_jaxpr(stage.train_step)(one, shared).jaxpr), default=0)


def _products(jaxpr: Any) -> Iterator[int]:
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield from (tree_bytes(out.aval) for out in equation.outvars)
        for inner in jax.tree.leaves(
            equation.params.values(), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            if hasattr(inner, "jaxpr") or hasattr(inner, "eqns"):
                yield from _products(getattr(inner, "jaxpr", inner))


def _batch_field(numbers: dict[str, int], stage: BaseStage) -> str:
    """The field with the largest number of those that products of a stage grow with."""
    own = [f"{stage.section}.{name}" for name in _BATCHES] + ["bc.batch_size"] * (not stage.learner.env_steps)
    return max(
        [_largest(numbers), *(path for path in own if path in numbers)], key=lambda path: numbers[path]
    )


def _suspect(config: ConfigDict | None) -> str:
    """The largest size that a configuration asks for, as the beginning of what to do about it."""
    sizes = {} if config is None else dict(_integers(config))
    sizes = {path: value for path, value in sizes.items() if path.rpartition(".")[2] not in _LENGTHS}
    if not sizes:
        return ""
    path = max(sizes, key=lambda one: sizes[one])
    return f"the largest size is config.{path} = {sizes[path]}; "


def _largest(numbers: dict[str, int]) -> str:
    """The field with the largest number of those that networks and learners are made of."""
    made = {path: value for path, value in numbers.items() if path.split(".")[0] not in _NO_NETWORKS}
    return max(made, key=lambda path: made[path])


def tree_bytes(tree: PyTree) -> int:
    """Bytes of the arrays of a pytree, or of their shapes."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        itemsize = (
            8 if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.dtype(leaf.dtype).itemsize
        )
        total += int(np.prod(leaf.shape, dtype=object)) * itemsize
    return total


def available_bytes() -> int:
    """Memory of the device, or of the machine where that is the CPU, that is free; 0 where nobody says."""
    stats: Any = jax.local_devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return free_bytes()


def _in_gib(text: str) -> str:
    """The text with a number of bytes as XLA says it, "allocating 210400056400 bytes", in GiB."""
    return re.sub(r"allocating (\d+) bytes", lambda found: f"{int(found[1]) / 2**30:,.1f} GiB at once", text)


def _on_disk(workdir: str | os.PathLike[str], config: ConfigDict | None) -> str:
    """How much, by what is there already, and which fields ask for less; "" before there is a checkpoint."""
    sizes = [folder_bytes(one) for one in Path(workdir).glob("checkpoints/*/[0-9]*")]
    if config is None or not sizes:
        return ""
    keep, mb = config.checkpoint.keep, 2**20
    return (
        f" (a checkpoint takes {max(sizes) / mb:,.1f} MB here, and of every stage config.checkpoint.keep = {keep} "
        f"are kept while one more is written; so far the run takes {folder_bytes(workdir) / mb:,.1f} MB; fewer "
        "config.seeds and points of a sweep, config.figures=() and config.videos=none take less)"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def ran_out(
    error: BaseException, workdir: str | os.PathLike[str], config: ConfigDict | None = None
) -> UserError | None:
    """What an error of the system means to the user, where it says that something is full; None for any other.

    Args:
      error: whatever was raised.
      workdir: that was being written to.
      config: of the run, whose largest size is named.
    """
    for one in _chain(error):
        text = _in_gib(str(one))
        number = one.errno if isinstance(one, OSError) else None
        if number == errno.EFBIG or "File too large" in text:
            return UserError(
                f"a file in {workdir} has reached the size that this shell allows (ulimit -f); raise it, and repeat "
                "the command, which continues"
            )
        if number in _DISK_NUMBERS or any(sign in text for sign in _DISK):
            return UserError(
                f"the disk of {workdir} is full; everything up to the newest checkpoint is safe: free some space"
                f"{_on_disk(workdir, config)} and repeat the command, which continues"
            )
        if number in (errno.EROFS, errno.EACCES, errno.EPERM):
            return UserError(f"{one.filename or workdir} cannot be written ({one.strerror})")  # type: ignore[attr-defined]
        if isinstance(one, MemoryError) or any(sign in text for sign in _MEMORY):
            return UserError(
                f"out of memory: {text.splitlines()[0][:200] if text else 'an array could not be allocated'}; "
                f"{_suspect(config)}lower seeds, learner.num_envs, evaluation.episodes, bc.batch_size or the widths "
                "of networks, or set sweep.mode=map"
            )
    return None
