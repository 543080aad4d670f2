"""Stages that a run takes over from an earlier one (`start_from`)."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from mmbc_jax.core.errors import CheckpointError
from mmbc_jax.core.files import plain
from mmbc_jax.runs.checkpoint import find_stage, read_meta
from mmbc_jax.runs.grid import Grid
from mmbc_jax.runs.workdir import changed_fields

_TAKEN = ("bc", "discover")
_CLONE_SECTIONS = ("env", "policy", "prior", "sampler", "chunk")


def find_sources(config: ConfigDict, names: tuple[str, ...], grid: Grid) -> dict[str, Path]:
    """{stage: directory of its checkpoints} of the stages left out here that `start_from` provides.

    Args:
      config: resolved.
      names: stages that run.
      grid: whose seeds must be there.

    Raises:
      CheckpointError: nothing is there, or it belongs to another configuration.
    """
    if not config.start_from:
        return {}
    found = {}
    for name in _TAKEN:
        if name in names:
            continue
        try:
            found[name], _ = find_stage(Path(config.start_from), (name,))
        except CheckpointError:
            if name == "bc":
                raise
    for name, directory in found.items():
        _check_source(config, names, grid, name, directory)
    return found


def _check_source(config: ConfigDict, names: tuple[str, ...], grid: Grid, name: str, directory: Path) -> None:
    _, meta = read_meta(directory)
    ours = plain(config)
    sections = list(_CLONE_SECTIONS)
    if name == "discover":
        sections += ["actor", "discriminator", "reward", "learner"]
    if name == "bc" and "dagger" in names:
        sections += ["data"]  # whose windows were normalised as the clone's were
    for section in sections:
        differ = changed_fields(meta["config"].get(section), ours[section], section)
        if differ:
            raise CheckpointError(f"checkpoint {directory} belongs to another configuration: {differ[0]}")
    theirs = meta["config"]["finetune"]["num_modes"]
    if name == "discover" and theirs != ours["finetune"]["num_modes"]:
        raise CheckpointError(
            f"checkpoint {directory} has finetune.num_modes = {theirs}, not {ours['finetune']['num_modes']}"
        )
    missing = set(grid.seeds) - {seed for _, seed in meta["runs"]}
    if missing or len({point for point, _ in meta["runs"]}) > 1:
        raise CheckpointError(
            f"checkpoint {directory} holds (point, seed) runs {meta['runs']}; "
            f"one point with seeds {list(grid.seeds)} is needed"
        )
