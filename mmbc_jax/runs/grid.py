"""The grid of a sweep: which runs exist, and which stages they share."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import math
import zlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmbc_jax.core.config import at, resolve_path
from mmbc_jax.core.errors import ConfigError, nearest
from mmbc_jax.core.keys import seeded
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.state import Hparams
from mmbc_jax.core.texts import listed_parts
from mmbc_jax.core.types import Key
from mmbc_jax.runs.mesh import MODES

MOST_RUNS = 2**20  # of a sweep: points times seeds


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepOptions(Options):
    """Runs side by side."""

    grid: str = option("", 'swept traced scalars, "section.field=1,2; section.field=3,4" for a full product')
    mode: str = option(
        "vmap",
        "how runs share a device: all at once, or in turn; shard: over devices; auto: over all devices, and on a "
        "single one as a short measurement says, so that last bits depend on it",
        choices=MODES,
    )


@dataclasses.dataclass(frozen=True)
class Grid:
    """S points x N seeds.

    Attributes:
      paths: dotted config paths that are swept; empty for a single point.
      points: S tuples of values, one value per path.
      seeds: N seeds.
    """

    paths: tuple[str, ...]
    points: tuple[tuple[float, ...], ...]
    seeds: tuple[int, ...]

    @property
    def size(self) -> int:
        """S N."""
        return len(self.points) * len(self.seeds)

    def values(self, point: int) -> dict[str, float]:
        """{path: value} of one point."""
        return dict(zip(self.paths, self.points[point], strict=True))


@dataclasses.dataclass(frozen=True)
class StageRuns:
    """The distinct runs of one stage.

    Attributes:
      runs: R (point, seed index) pairs, the first point standing for all that share the run.
      index: [S, N] run that each (point, seed) uses.
    """

    runs: tuple[tuple[int, int], ...]
    index: np.ndarray


def config_grid(config: ConfigDict) -> Grid:
    """The grid of a configuration; short paths (`ppo.clip`) are written out.

    Raises:
      ConfigError: as `parse_grid`, or a path is named twice.
    """
    grid = parse_grid(config.sweep.grid, config.seeds, config.first_seed)
    paths = tuple(resolve_path(config, path) for path in grid.paths)
    twice = [path for path in paths if paths.count(path) > 1]
    if twice:
        raise ConfigError("sweep.grid", config.sweep.grid, f"without naming {twice[0]} twice")
    return dataclasses.replace(grid, paths=paths)


def parse_grid(text: str, seeds: int, first_seed: int) -> Grid:
    """Reads `"finetune.mi_coef=0,0.1,0.3; bc.learning_rate=1e-3,3e-4"` (a full product).

    Raises:
      ConfigError: not of that form, a value that is no number, or one that comes twice.
    """
    paths: list[str] = []
    values: list[list[float]] = []
    for part in listed_parts(text):
        path, eq, listed = part.partition("=")
        read = [_number(item) for item in listed.split(",")]
        numbers = [number for number in read if number is not None]
        if not (eq and numbers and path.strip()) or len(numbers) < len(read):
            raise ConfigError(
                "sweep.grid", part.strip(), 'of the form "section.field=1,2,3; section.field=4,5"'
            )
        # equal as the traced scalars that they become: such points would be one run under two names
        with np.errstate(over="ignore"):
            distinct = len(np.unique(np.asarray(numbers, np.float32)))
        if distinct < len(numbers):
            raise ConfigError("sweep.grid", text, f"without a value of {path.strip()} that comes twice")
        paths.append(path.strip())
        values.append(numbers)
    size = math.prod(map(len, values)) * seeds
    if size > MOST_RUNS:
        raise ConfigError("sweep.grid", text, f"at most {MOST_RUNS} runs; its points times seeds are {size}")
    points = tuple(itertools.product(*values))
    return Grid(tuple(paths), points, tuple(range(first_seed, first_seed + seeds)))


def _number(text: str) -> float | None:
    """The number that Python reads in a text; None where it reads none."""
    try:
        value = ast.literal_eval(text.strip())
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError):
        return None


def check_grid(grid: Grid, traced: Sequence[str]) -> None:
    """Raises ConfigError where a swept path is not a traced scalar (see `Hparams`)."""
    for path in grid.paths:
        if path not in traced:
            raise ConfigError("sweep.grid", path, f"a traced scalar: {nearest(path, traced)}")


def stage_runs(grid: Grid, traced: Sequence[str]) -> StageRuns:
    """The distinct runs of a stage that depends on the scalars `traced` (its own and its ancestors').

    Points that differ only in other scalars share one run.
    """
    columns = [i for i, path in enumerate(grid.paths) if path in traced]
    runs: dict[tuple[tuple[float, ...], int], int] = {}
    order: list[tuple[int, int]] = []
    index = np.zeros((len(grid.points), len(grid.seeds)), np.int32)
    for point, values in enumerate(grid.points):
        for seed in range(len(grid.seeds)):
            identity = (tuple(values[i] for i in columns), seed)
            if identity not in runs:
                runs[identity] = len(order)
                order.append((point, seed))
            index[point, seed] = runs[identity]
    return StageRuns(tuple(order), index)


def parent_index(parent: StageRuns, child: StageRuns) -> np.ndarray:
    """[R_child] the run of `parent` that each run of `child` starts from."""
    return np.array([parent.index[point, seed] for point, seed in child.runs], np.int32)


def hparams(
    config: ConfigDict,
    grid: Grid,
    runs: StageRuns,
    scalars: Mapping[str, str],
    constants: Mapping[str, float],
) -> Hparams:
    """[R] float32 traced scalars.

    Args:
      config: resolved.
      grid: whose values replace the config's.
      runs: R of them.
      scalars: {name in the state: dotted path in the config}.
      constants: {name in the state: value} of those that no sweep varies.
    """
    result = {name: jnp.full(len(runs.runs), float(value), jnp.float32) for name, value in constants.items()}
    for name, path in scalars.items():
        default = float(at(config, path))
        column = grid.paths.index(path) if path in grid.paths else -1
        values = [default if column < 0 else grid.points[point][column] for point, _ in runs.runs]
        result[name] = jnp.asarray(values, jnp.float32)
    return result


def run_keys(label: str, seeds: Sequence[int]) -> Key:
    """[R] keys, one per run: a function of the seed and of what they are for, the same for all points of a seed.

    So sweep points differ in the swept scalar alone, and no two purposes share a key.
    """
    fold = zlib.crc32(label.encode())
    return jax.vmap(lambda seed: jax.random.fold_in(seeded(seed), fold))(np.array(seeds, np.uint32))
