"""Stages that a run takes over from an earlier one (`start_from`).

What a clone is must agree: its policy, prior, sampler and predicted chunks, the entries of its observation, the
physical actions that -1 and 1 stand for, and the seeds. Its normaliser travels in its state. Everything else of how
it came about, the environment above all, may differ from this run, and the differences are recorded.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.config import from_plain
from mmbc_jax.core.errors import CheckpointError, ConfigError
from mmbc_jax.core.files import local_path, plain
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.types import EnvSpec
from mmbc_jax.runs.checkpoint import find_stage
from mmbc_jax.runs.described import stage_meta
from mmbc_jax.runs.grid import Grid
from mmbc_jax.runs.sections import TUNING, completed
from mmbc_jax.runs.setup import Setup
from mmbc_jax.runs.workdir import changed, changed_fields

_TAKEN = ("bc", "discover")
_CLONE_SECTIONS = ("policy", "prior", "sampler", "chunk")
_RECORDED = ("env", "data", "bc", "chunk", "precision")
_FREE = ("chunk.execute",)  # a clone predicts the same chunk however much of it is executed


@dataclasses.dataclass(frozen=True)
class Sources:
    """What `start_from` provides.

    Attributes:
      directories: {stage: directory of its checkpoints} of the stages taken over.
      warm: the same of the stages that run here from the weights that they have there.
      differences: {"field", "clone", "run"} of every field of how the clone came about that is another one here.
    """

    directories: dict[str, Path] = dataclasses.field(default_factory=dict)
    warm: dict[str, Path] = dataclasses.field(default_factory=dict)
    differences: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def line(self) -> str:
        """The differences in one line; empty where there are none."""
        shown = [f"{d['field']} {d['clone']!r} -> {d['run']!r}" for d in self.differences]
        return f"start_from: the clone had another {', '.join(shown)}" if shown else ""


def find_sources(setup: Setup, names: tuple[str, ...], grid: Grid) -> Sources:
    """The stages left out here that `start_from` provides, and those that start warm.

    Args:
      setup: of the run.
      names: stages that run.
      grid: whose seeds must be there.

    Raises:
      CheckpointError: nothing is there, or it does not fit this run.
    """
    config = setup.config
    if not config.start_from:
        return Sources()
    if "bc" in names and "bc" not in config.warm_start:
        raise ConfigError(
            "start_from",
            config.start_from,
            "without bc among the stages, which it stands in for, or with warm_start=bc to clone on from its weights",
        )
    path = local_path(config.start_from, "config.start_from")
    warm = {name: find_stage(path, (name,))[0] for name in config.warm_start}
    found = {}
    for name in _TAKEN:
        if name in names or (name == "discover" and "finetune" in warm):
            continue
        try:
            found[name], _ = find_stage(path, (name,))
        except CheckpointError:
            if name == "bc":
                raise
    differences: dict[str, dict[str, Any]] = {}
    for name, directory in (*found.items(), *warm.items()):
        _, meta = stage_meta(directory)
        meta["config"] = plain(completed(from_plain(meta["config"])))
        _check_source(setup, names, grid, name, directory, meta)
        ours, theirs = plain(config), meta["config"]
        for section in _RECORDED:
            for field, clone, run in changed(theirs.get(section), ours[section], section):
                differences[field] = {"field": field, "clone": clone, "run": run}
    return Sources(found, warm, list(differences.values()))


def _check_source(
    setup: Setup, names: tuple[str, ...], grid: Grid, name: str, directory: Path, meta: dict[str, Any]
) -> None:
    ours = plain(setup.config)
    sections = list(_CLONE_SECTIONS)
    if name in setup.config.warm_start and name in TUNING:
        sections += ["actor", "discriminator"]
    elif name == "discover":
        sections += ["actor", "discriminator", "reward", "learner"]
    if name == "baseline":
        sections[0] = "baseline"
    if name == "bc" and "dagger" in names:
        sections += ["env", "data"]  # whose windows were normalised as the clone's were
    for section in sections:
        differ = [
            f"{field}: {was!r} -> {now!r}"
            for field, was, now in changed(meta["config"].get(section), ours[section], section)
            if not (field in _FREE and name == "bc" and "dagger" not in names)
        ]
        if differ:
            raise CheckpointError(f"checkpoint {directory} belongs to another configuration: {differ[0]}")
    if changed_fields(meta["config"]["env"], ours["env"]):
        _check_env(setup, name, directory, meta)
    theirs = meta["config"]["finetune"]["num_modes"]
    if name in ("discover", "finetune") and theirs != ours["finetune"]["num_modes"]:
        raise CheckpointError(
            f"checkpoint {directory} has finetune.num_modes = {theirs}, not {ours['finetune']['num_modes']}"
        )
    missing = set(grid.seeds) - {seed for _, seed in meta["runs"]}
    if missing or len({point for point, _ in meta["runs"]}) > 1:
        raise CheckpointError(
            f"checkpoint {directory} holds (point, seed) runs {meta['runs']}; "
            f"one point with seeds {list(grid.seeds)} is needed"
        )


def _check_env(setup: Setup, name: str, directory: Path, meta: dict[str, Any]) -> None:
    """Raises CheckpointError where the stage cannot act in this run's environment, set otherwise than its own."""
    theirs, env = meta["config"]["env"], setup.config.env
    sizes: dict[str, tuple[Any, Any]] = {
        "observation": (_entries(ObsSpec.from_json(meta["obs"])), _entries(setup.obs)),
        "action_dim": (int(meta["action_dim"]), setup.action_dim),
    }
    if setup.env is not None and theirs["name"] and all(a == b for a, b in sizes.values()):
        own = _spec_of(theirs)
        sizes["action_low"] = own.action_low, setup.env_spec.action_low
        sizes["action_high"] = own.action_high, setup.env_spec.action_high
        if name in ("discover", "finetune"):  # the discriminator has a place for every decision of an episode
            sizes["episode_length"] = own.episode_length, setup.env_spec.episode_length
    elif setup.env is not None and not theirs["name"]:
        sizes["name"] = (
            "''",
            f"{env.name!r}, and actions of a clone without an environment are in its data's units",
        )
    for field, (clone, run) in sizes.items():
        same = np.allclose(clone, run, rtol=1e-5) if field.startswith("action_") else clone == run
        if not same:
            raise CheckpointError(
                f"checkpoint {directory} was trained in another environment (env.name = {theirs['name']!r}, here "
                f"{env.name!r}): env.{field} {clone} -> {run}"
            )


def _entries(spec: ObsSpec) -> dict[str, Any]:
    """What a network sees of an observation: names, kinds and shapes, without the bounds of its values."""
    return {
        name: f"{entry.kind}{list(entry.shape)}"
        + (f" angles {list(entry.angles)}" if entry.angles else "")
        + (f" quaternions {list(entry.quaternions)}" if entry.quaternions else "")
        for name, entry in spec.entries
    }


def _spec_of(section: dict[str, Any]) -> EnvSpec:
    """The sizes of the environment that a section of a checkpoint's configuration names."""
    config: ConfigDict = from_plain(section)
    spec: EnvSpec = registry.build("env", config).spec
    return spec
