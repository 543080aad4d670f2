"""Reading demonstrations from a file the user has: `load(path, cfg)` picks the loader by suffix."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.errors import DataError
from mmbc_jax.core.files import local_path
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.types import EnvSpec
from mmbc_jax.data._checks import place
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.data.loaders._columns import Loader, ReaderOptions

__all__ = ["VARIABLE", "ReaderOptions", "check_fits", "load", "loaders", "resolve", "there"]

VARIABLE = "MMBC_DATA"
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*[A-Za-z0-9]")
_ARRAYS = {
    ".npy": "read it with np.load",
    ".csv": "read it with np.loadtxt",
    ".mat": "read it with scipy.io.loadmat",
    ".pt": "read it with torch.load where you trust it",
    ".pth": "read it with torch.load where you trust it",
    ".parquet": "read it with pandas.read_parquet",
    ".tfrecord": "read it with TensorFlow",
    ".json": "read it with json.load",
    ".jsonl": "read it line by line with json.loads",
    ".bag": "read it with rosbags",
    ".mcap": "read it with mcap",
}
# A recorded action may pass the environment's bounds by this share of their range before it is refused.
_BOUND_SLACK = 0.01


def resolve(path: str | Path) -> Path:
    """The file behind a path in a config: environment variables and `~` expanded.

    Configs name data as `$MMBC_DATA/pusht/demos.npz`, so that they work on every machine.

    Raises:
      DataError: a variable is not set, or nothing exists there.
    """
    text = os.path.expandvars(str(path))
    if "$" in text:
        raise DataError(
            f"{path}: the environment variable is not set; "
            f"export {VARIABLE}=/folder/with/the/demonstrations, or give a full path"
        )
    text = str(local_path(text, "config.data.path")) if text else text
    if not text or not Path(text).exists():
        folder = os.environ.get(VARIABLE)
        hint = f"{VARIABLE} is {folder!r}" if folder else f"{VARIABLE} is not set"
        if _HUB.fullmatch(text):
            fetch = f"hf download --repo-type dataset {text} --local-dir {text.partition('/')[2]}"
            hint += f"; a data set of the Hugging Face Hub is fetched by `{fetch}`"
        raise DataError(
            f"no data at {text!r} (working folder {os.getcwd()}, {hint}); "
            f"give a full path, or set {VARIABLE} and write ${VARIABLE}/<file>"
        )
    return Path(text)


def there(path: str | Path) -> bool:
    """Whether a path in a config leads to something."""
    try:
        resolve(path)
    except DataError:
        return False
    return True


def loaders() -> dict[str, Loader]:
    """{suffix: loader} of every loader of the package."""
    return {suffix: one for one in _built() for suffix in one.suffixes}


def _built() -> list[Loader]:
    return [registry.find("loader", name)(ConfigDict()) for name in registry.available("loader")]


def load(path: str | Path, cfg: ConfigDict | ReaderOptions | None = None) -> Episodes:
    """Reads and checks a file of demonstrations.

    Args:
      path: a file or folder that one of `loaders` reads; environment variables are expanded.
      cfg: the section `data.reader`, whose missing fields keep their defaults, or checked options; None for the
        defaults.

    Returns:
      Episodes in physical units.

    Raises:
      DataError: no such file, a suffix without a reader, damaged content, or content that is not
        demonstrations; the message names the file and what is allowed.
      ConfigError: an option that does not fit the file.
    """
    file = resolve(path)
    loader = _loader(file)
    if isinstance(cfg, ReaderOptions):
        options = cfg
    else:
        section = ReaderOptions.to_config()
        section.update({key: value for key, value in (cfg or {}).items() if key in section})
        options = ReaderOptions.from_config(section, "data.reader")
    return loader.read(file, options)


def _loader(file: Path) -> Loader:
    """The loader of an existing file or folder."""
    if file.is_dir():
        built = _built()
        for one in built:
            if one.folder(file):
                return one
        allowed = ", ".join(one.folders for one in built if one.folders)
        raise DataError(f"{file} is a folder that no reader knows; allowed: {allowed}")
    known = loaders()
    if file.suffix not in known:
        raise DataError(
            f"{file}: no reader for suffix {file.suffix!r}; allowed: {', '.join(sorted(known))}{_way(file)}"
        )
    if not file.is_file():
        raise DataError(f"{file} is neither a file nor a folder")
    return known[file.suffix]


def _way(file: Path) -> str:
    """How a file that has no reader becomes one that has, as the end of a sentence; '' where that is not known."""
    inside = next((folder for folder in file.parents if (folder / "meta" / "info.json").is_file()), None)
    if inside is not None:
        return f"; it belongs to a LeRobotDataset: give its folder, {inside}"
    if file.suffix in _ARRAYS:
        return (
            f"; {_ARRAYS[file.suffix]} and save it with np.savez('demos.npz', observations=..., actions=..., "
            "terminals=...), one row per step, terminals 1 at the last of each episode"
        )
    return ""


def check_fits(episodes: Episodes, env_spec: EnvSpec, chunk_len: int) -> None:
    """Checks that demonstrations can train a policy for an environment.

    Args:
      episodes: physical units.
      env_spec: the environment's sizes, action bounds (infinite where it has none) and mode count.
      chunk_len: H.

    Raises:
      DataError: other entries or sizes of the observations, another action size, actions outside the bounds, labels
        the environment does not know, or no episode as long as a chunk.
    """
    source, name = episodes.source, env_spec.name
    got, want = _shapes(episodes.spec), _shapes(env_spec.obs)
    if got != want:
        raise DataError(
            f"{source}: observations have {got}, environment {name!r} has {want.removeprefix('size ')}"
        )
    if episodes.action.shape[1] != env_spec.action_dim:
        raise DataError(
            f"{source}: actions have size {episodes.action.shape[1]}, environment {name!r} has "
            f"{env_spec.action_dim}"
        )
    if episodes.mode is not None and env_spec.num_modes and episodes.mode.max() >= env_spec.num_modes:
        i = int(episodes.mode.argmax())
        raise DataError(
            f"{source}: mode of episode {i} is {episodes.mode[i]}, environment {name!r} has modes "
            f"0 to {env_spec.num_modes - 1}"
        )
    _check_bounds(episodes, env_spec)
    longest = int(episodes.lengths.argmax())
    if chunk_len > episodes.lengths[longest]:
        raise DataError(
            f"{source}: a chunk of {chunk_len} actions is longer than every episode; the longest, episode "
            f"{longest}, has {episodes.lengths[longest]} steps"
        )


def _shapes(spec: ObsSpec) -> str:
    """The entries of an observation in words: "size 4", or "image [64, 64, 3], state [2]"."""
    if spec.plain:
        return f"size {spec.size}"
    return ", ".join(f"{name} {list(entry.shape)}" for name, entry in spec.entries)


def _check_bounds(episodes: Episodes, env_spec: EnvSpec) -> None:
    low, high = (np.asarray(bound, np.float64) for bound in (env_spec.action_low, env_spec.action_high))
    width = high - low
    slack = np.where(np.isfinite(width), _BOUND_SLACK * width, 0.0)
    outside = (episodes.action < low - slack) | (episodes.action > high + slack)
    if outside.any():
        row, column = (int(i) for i in np.argwhere(outside)[0])
        raise DataError(
            f"{episodes.source}: action of {place(episodes, row)}, column {column} is "
            f"{episodes.action[row, column]:g}, environment {env_spec.name!r} allows "
            f"{low[column]:g} to {high[column]:g}; are the units the environment's?"
        )
