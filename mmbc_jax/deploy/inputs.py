"""What a policy is asked with, checked: observations, commands and keys, each error in one sentence."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.errors import UserError, cut, shown
from mmbc_jax.core.observations import ObsEntry, ObsSpec
from mmbc_jax.deploy.decision import DRAWN


class RequestError(UserError, ValueError):
    """An observation, a command or a key that a policy cannot take."""


def as_rows(spec: ObsSpec, obs: Any) -> tuple[dict[str, Any], int, bool]:
    """Observations as rows.

    Args:
      spec: of one observation.
      obs: one, or a batch with one leading axis; NumPy's arrays, JAX's, or nested lists of numbers.

    Returns:
      ({entry: [B, *shape]}, B, whether it was one without a leading axis).

    Raises:
      RequestError: an entry is missing, or of another shape or type; or a number is not finite.
    """
    if (
        spec.plain and type(obs) is np.ndarray and obs.dtype == np.float32
    ):  # nothing to mend: the usual case, in a loop
        name, entry = spec.entries[0]
        if obs.shape == entry.shape and entry.kind == "vector" and obs.size and _finite(obs):
            return {name: obs[None]}, 1, True
    if spec.plain:
        obs = {spec.entries[0][0]: obs}
    wanted = [name for name, _ in spec.entries]
    if not isinstance(obs, Mapping) or set(obs) != set(wanted):
        what = (
            f"entries {', '.join(map(str, obs))}" if isinstance(obs, Mapping) else f"a {type(obs).__name__}"
        )
        raise RequestError(f"the observation is {cut(what)}, must be a dict of {', '.join(wanted)}")
    rows, sizes = {}, {}
    for name, entry in spec.entries:
        array = _array(name, entry, obs[name])
        axes = array.ndim - len(entry.shape)
        if axes not in (0, 1) or array.shape[axes:] != entry.shape or 0 in array.shape:
            raise RequestError(
                f"observation {name} has shape {list(array.shape)}, must be {list(entry.shape)}, or that with one "
                "leading axis for a batch"
            )
        sizes[name] = array.shape[:axes]
        rows[name] = array if axes else array[None]
    if len(set(sizes.values())) > 1:
        raise RequestError(f"entries of the observation have batches {sizes}, must have the same")
    (batch,) = set(sizes.values())
    return rows, batch[0] if batch else 1, not batch


def _array(name: str, entry: ObsEntry, value: Any) -> Any:
    """A value of an entry, of the entry's type."""
    own = type(value) is not np.ndarray and isinstance(value, jax.Array)  # the latter takes a microsecond
    try:
        array = value if own else np.asarray(value)
    except ValueError as error:
        raise RequestError(f"observation {name} is no array of numbers: {cut(str(error))}") from error
    if entry.kind != "vector":
        if array.dtype != entry.dtype:
            raise RequestError(f"observation {name} has type {array.dtype}, must be {np.dtype(entry.dtype)}")
        return array
    if array.dtype.kind not in "fiub":
        raise RequestError(f"observation {name} has type {array.dtype}, must be numbers")
    array = array.astype(np.float32) if array.dtype != np.float32 else array
    if not own and not _finite(array):
        raise RequestError(f"observation {name} holds numbers that are not finite")
    return array


def _finite(array: np.ndarray) -> bool:
    """Whether all numbers are; most are told by one product, at a third of the time."""
    flat = array.ravel()
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(flat).all())


def padded(rows: dict[str, Any], size: int) -> dict[str, Any]:
    """The rows [B, ...], the last one repeated up to `size`."""

    def longer(array: Any) -> Any:
        more = size - len(array)
        if not more:
            return array
        lib: Any = jnp if isinstance(array, jax.Array) else np
        return lib.concatenate([array, lib.repeat(array[-1:], more, axis=0)])

    return {name: longer(array) for name, array in rows.items()}


def as_commands(z: Any, there: np.ndarray, stage: str, batch: int, size: int) -> np.ndarray:
    """[size] int32 commands, `DRAWN` where none is given.

    Args:
      z: None, one for all, or [B].
      there: [Z] whether there is such a command.
      stage: that it is asked of, for the message.
      batch: B.
      size: rows, at least B.

    Raises:
      RequestError: no such command, or it was merged into another.
    """
    if z is None:
        return _same(DRAWN, size)
    if type(z) is int and 0 <= z < len(there) and there[z]:
        return _same(z, size)
    commands = np.full(size, DRAWN, np.int32)
    asked = np.asarray(z)
    if asked.dtype.kind not in "iu" or asked.shape not in ((), (batch,)):
        raise RequestError(f"z = {shown(z)} must be a whole number, or one for each of {batch} observations")
    for one in asked.reshape(-1).tolist():
        if not 0 <= one < len(there) or not there[one]:
            known = np.flatnonzero(there).tolist()
            why = " (merging left these)" if not there.all() else ""
            raise RequestError(f"z = {one}: stage {stage} has z {', '.join(map(str, known))}{why}")
    commands[:batch] = asked
    return commands


@functools.lru_cache(maxsize=4096)
def _same(z: int, size: int) -> np.ndarray:
    commands = np.full(size, z, np.int32)
    commands.flags.writeable = False
    return commands


def as_words(key: Any) -> np.ndarray:
    """[2] uint32 of a key: one of JAX's, its words, or a seed from 0 to 2^32 - 1.

    Raises:
      RequestError: it is none of these.
    """
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        words = np.asarray(jax.random.key_data(key))
    elif isinstance(key, (int, np.integer)) and not isinstance(key, bool) and 0 <= key < 2**32:
        words = np.array(
            [0, key], np.uint32
        )  # of `core.keys.seeded`, which takes ten times as long to say so
    else:
        words = np.asarray(key)
    if words.shape != (2,) or words.dtype != np.uint32:
        raise RequestError(
            f"key = {shown(key)} must be a key of jax.random.key, or a seed from 0 to 2^32 - 1"
        )
    return words
