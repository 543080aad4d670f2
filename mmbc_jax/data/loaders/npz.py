"""NumPy archives (.npz): own recordings, replay buffers, D4RL trajectories and named drawings.

Four layouts are told apart by the keys they hold:
  - episodes: `obs` or `state` [n, D], `action` [n, A], `episode_ends` [E] cumulative; optional `mode` [E]
    and `num_modes` []. Further arrays (`image` [n, height, width, channels] uint8, `keypoint`, ...) are read where
    `obs_keys` names them, and `obs.<entry>` are the entries of a dict of observations. What `obs_keys` names and
    `FILE.npz` lacks is looked for in `FILE_images.npz` beside it, which has the same `episode_ends`.
  - trajectories: `observation` [n, D], `action` [n, A], `step_type` [n] with 0 first, 1 middle, 2 last, as
    TF-Agents writes D4RL sets. The row of the last step is kept: D4RL records an action there too.
  - replay buffers: `observations` [n, D], `actions` [n, A] and any of `terminals`, `timeouts`, `truncations`, `dones`
    [n], as users of Gymnasium write them and D4RL does. An episode ends where one of them is set.
  - drawings: one array `<shape>_<i>` [T, 2] per path and nothing else, as in the LAIR set.
    See `_drawings` for how positions become actions.
Pickled arrays are refused in all of them, and so is an array that states other bytes than the file holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmbc_jax.core.errors import ConfigError, DataError, cut, nearest, one_of
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.loaders import _columns
from mmbc_jax.data.loaders._archive import Archive
from mmbc_jax.data.loaders._columns import Loader, ReaderOptions
from mmbc_jax.data.loaders._flags import flags_among, marked_ends
from mmbc_jax.data.loaders._joined import action_key

OBS_KEYS = ("obs", "state", "observation", "observations")
_LAST = 2  # dm_env.StepType.LAST
_DRAWING = re.compile(r"(?P<shape>.+)_(?P<index>[0-9]{1,9})")


def load(path: Path, options: ReaderOptions) -> Episodes:
    """Reads an archive.

    Args:
      path: an existing file.
      options: of the reader.

    Returns:
      Checked episodes in physical units.

    Raises:
      ConfigError: an option that names what the file does not have.
      DataError: the file is damaged, holds pickled arrays, or lacks an array.
    """
    source = str(path)
    with Archive(path) as arrays, contextlib.ExitStack() as stack:
        if arrays and all(_DRAWING.fullmatch(key) and arrays.shape(key)[1:] == (2,) for key in arrays):
            return _drawings(arrays, options, source)
        if "episode_ends" in arrays:
            ends = _columns.integers(arrays["episode_ends"], "episode_ends", source)
        elif marks := flags_among(arrays):
            return _marked(arrays, marks, options, source)
        elif "step_type" in arrays:
            steps = _columns.integers(arrays["step_type"], "step_type", source)
            ends = np.flatnonzero(steps == _LAST) + 1
        else:
            raise DataError(
                f"{source}: no episode_ends (nor step_type, terminals or dones, nor paths <shape>_<i> [T, 2] alone); "
                f"found {cut(', '.join(sorted(arrays)) or 'nothing')}"
            )
        known: Mapping[str, np.ndarray] = arrays
        beside = path.with_name(f"{path.stem}_images{path.suffix}")
        if beside.is_file() and not _named(options) <= set(arrays):
            images = stack.enter_context(Archive(beside))
            if "episode_ends" not in images or not np.array_equal(images["episode_ends"], ends):
                raise DataError(f"{beside}: episode_ends must be there, and be those of {source}")
            known = ChainMap(arrays, images)  # type: ignore[arg-type]
        obs = _columns.select_obs(known.__getitem__, known, options, OBS_KEYS, source)
        return _columns.assemble(arrays.__getitem__, arrays, obs, options.action_key, ends, source)


def _named(options: ReaderOptions) -> set[str]:
    return {_columns.named_selection(text)[1] for text in options.obs_keys}


def _marked(arrays: Archive, marks: list[str], options: ReaderOptions, source: str) -> Episodes:
    """A replay buffer: observations and actions of all steps, and marks of the last ones."""
    key = action_key(options, arrays)
    if key not in arrays:
        raise DataError(f"{source}: no actions under {key!r}; {nearest(key, arrays)}")
    ends, notes = marked_ends(arrays.__getitem__, marks, arrays.shape(key)[0], source)
    obs = _columns.select_obs(arrays.__getitem__, arrays, options, OBS_KEYS, source)
    found = _columns.assemble(arrays.__getitem__, arrays, obs, key, ends, source)
    return dataclasses.replace(found, notes=(*found.notes, *notes))


def _drawings(arrays: Mapping[str, np.ndarray], options: ReaderOptions, source: str) -> Episodes:
    """Paths as episodes: obs = position, action = displacement to the position `stride` points later.

    The last point of a path has no displacement and is not a step. A path keeps every `stride`-th
    point, so with points drawn at 1/dt Hz one step lasts stride * dt.
    """
    shapes: dict[str, list[tuple[int, str]]] = {}
    for key in arrays:
        match = _DRAWING.fullmatch(key)
        assert match is not None
        shapes.setdefault(match["shape"], []).append((int(match["index"]), key))
    for name in options.shapes:
        if name not in shapes:
            raise ConfigError("data.reader.shapes", name, one_of(name, shapes))
    obs, action, ends = [], [], []
    for name in options.shapes or sorted(shapes):
        for _, key in sorted(shapes[name]):
            if key in options.drop:
                continue
            points = _columns.two_dimensional(arrays[key], key, source)[:: options.stride]
            if len(points) < 2:
                raise DataError(
                    f"{source}: {key} has {len(points)} points at stride {options.stride}, needs 2"
                )
            obs.append(points[:-1])
            action.append(np.diff(points, axis=0))
            ends.append(len(points) - 1)
    if not ends:
        raise DataError(f"{source}: every path of {', '.join(options.shapes or shapes)} is dropped")
    return Episodes(np.concatenate(obs), np.concatenate(action), np.cumsum(ends), None, source).validate()


@register("loader", Options)
def build(options: Options) -> Loader:
    """The loader of these files."""
    return Loader((".npz",), load)
