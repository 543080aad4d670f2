"""The base configuration that every file in `configs/` starts from, and its checks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from ml_collections import ConfigDict

from mmbc_jax.core.config import PLUGIN_SECTIONS, check_choice, check_range, plugin, set_field
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.data import load
from mmbc_jax.data.windows import WINDOWS
from mmbc_jax.learners import bc
from mmbc_jax.learners import dagger
from mmbc_jax.runs import epoch
from mmbc_jax.diagnostics import chosen as instruments
from mmbc_jax.learners import ppo as rl
from mmbc_jax.policies.wrappers.coordinates import COORDINATES

STAGES = ("bc", "baseline", "dagger", "discover", "finetune", "plain")


def base_config() -> ConfigDict:
    """Every field with its default.

    stages: which stages run, in the order of `STAGES`: `bc` clones `policy`; `baseline` clones the policy
      named in `baseline` on the same data, for comparison; `dagger` trains the clone further on its own states,
      relabelled by the scripted expert; `discover` finds modes with the MI reward alone;
      `finetune` adds the environment's reward; `plain` is the conventional fine-tuner (lambda = 0, one
      mode) from the same clone with as many environment steps as discover and finetune together.
    seeds, first_seed: N vmapped seeds, counted from `first_seed`.
    start_from: a work directory or checkpoint whose stages stand in for those left out.
    chunk: actions predicted at once (H) and executed before the next decision (h); `coordinates` in
      which the policy models it: "actions", "path" or "whitened" (see `policies.wrappers.coordinates`).
    data: `path` of a file of demonstrations, or empty to record `episodes` from the environment's scripted
      expert under execution noise `noise` (in units of the action range); `holdout` is the share of episodes
      kept for validation; `windows` is "all", or "first" to clone only what starts at an
      episode's first step (open loop: the chunk is the episode).
    evaluation: episodes per evaluation, every how many epochs one runs during training (0: never), how
      many paths are drawn, and samples per window of the offline metrics.
    diagnostics: instruments applied to the clones after their last evaluation (names, or "all"); their
      settings are in `instruments`.
    sweep: `grid` as "section.field=1,2; section.field=3,4" over traced scalars; `mode` vmap, map or shard.
    checkpoint: every how many epochs, and how many to keep.
    nonfinite_limit: updates skipped in a row after which a run stops.
    """
    return ConfigDict(
        {
            "stages": ("bc", "discover", "finetune", "plain"),
            "seeds": 1,
            "first_seed": 0,
            "start_from": "",
            "env": plugin("env", "avoiding"),
            "policy": plugin("policy", "flow"),
            "prior": plugin("prior", "normal"),
            "sampler": plugin("sampler", "euler", steps=5),
            "actor": plugin("actor", "steer"),
            "discriminator": plugin("discriminator", "categorical"),
            "baseline": plugin("policy", "mse"),
            "chunk": ConfigDict({"predict": 8, "execute": 8, "coordinates": "actions"}),
            "data": _data_config(),
            "bc": bc.default_config(),
            "dagger": dagger.default_config(),
            "ppo": rl.default_config(),
            "discover": ConfigDict({"iterations": 20, "start_horizon": 32}),
            "finetune": ConfigDict(
                {"iterations": 120, "mi_coef": 0.5, "num_modes": 32, "train_discriminator": True}
            ),
            "evaluation": ConfigDict({"episodes": 1024, "every_epochs": 0, "paths": 256, "samples": 16}),
            "diagnostics": (),
            "instruments": instruments.default_config(),
            "sweep": ConfigDict({"grid": "", "mode": "vmap"}),
            "checkpoint": ConfigDict({"every_epochs": 1, "keep": 2}),
            "nonfinite_limit": 50,
        }
    )


def _data_config() -> ConfigDict:
    return ConfigDict(
        {
            "path": "",
            "episodes": 2400,
            "noise": 0.3,
            "seed": 0,
            "holdout": 0.1,
            "windows": "all",
            "reader": load.default_config(),
        }
    )


def check_config(config: ConfigDict) -> None:
    """Raises ConfigError for the first field that cannot work; plug-ins check their own sections."""
    _check_fields(config, _known_fields(config))
    if not config.stages:
        raise ConfigError("stages", config.stages, f"at least one of {', '.join(STAGES)}")
    for stage in config.stages:
        check_choice("stages", stage, STAGES)
    if "bc" not in config.stages and not config.start_from:
        raise ConfigError("stages", tuple(config.stages), "to contain bc, or start_from to name a checkpoint")
    check_range("seeds", config.seeds, 1)
    check_range("first_seed", config.first_seed, 0, 2**32 - config.seeds)
    check_range("chunk.predict", config.chunk.predict, 1)
    check_range("chunk.execute", config.chunk.execute, 1, config.chunk.predict)
    check_choice("chunk.coordinates", config.chunk.coordinates, COORDINATES)
    check_range("data.episodes", config.data.episodes, 1)
    check_range("data.noise", config.data.noise, 0.0, 2.0)
    check_range("data.seed", config.data.seed, 0, 2**32 - 1)
    check_range("data.holdout", config.data.holdout, 0.0, 0.9)
    check_choice("data.windows", config.data.windows, WINDOWS)
    bc.check_config(config.bc)
    dagger.check_config(config.dagger)
    rl.check_config(config.ppo)
    check_range("discover.iterations", config.discover.iterations, 1)
    check_range("discover.start_horizon", config.discover.start_horizon, 1)
    check_range("finetune.iterations", config.finetune.iterations, 1)
    check_range("finetune.mi_coef", config.finetune.mi_coef, 0.0)
    check_range("finetune.num_modes", config.finetune.num_modes, 1)
    check_range("evaluation.episodes", config.evaluation.episodes, 1)
    if config.evaluation.episodes < config.finetune.num_modes:
        raise ConfigError(
            "evaluation.episodes",
            config.evaluation.episodes,
            f"at least finetune.num_modes = {config.finetune.num_modes}",
        )
    check_range("evaluation.every_epochs", config.evaluation.every_epochs, 0)
    check_range("evaluation.paths", config.evaluation.paths, 1)
    check_range("evaluation.samples", config.evaluation.samples, 1)
    instruments.build_instruments(config)
    check_choice("sweep.mode", config.sweep.mode, epoch.MODES)
    check_range("checkpoint.every_epochs", config.checkpoint.every_epochs, 1)
    check_range("checkpoint.keep", config.checkpoint.keep, 1)
    check_range("nonfinite_limit", config.nonfinite_limit, 1)
    _check_whole("bc.steps", config.bc.steps, "bc.steps_per_epoch", config.bc.steps_per_epoch)
    _check_whole("bc.steps_per_epoch", config.bc.steps_per_epoch, "bc.steps_per_row", config.bc.steps_per_row)
    for stage in ("discover", "finetune"):
        iterations = config[stage].iterations
        per_epoch = config.ppo.iterations_per_epoch
        _check_whole(f"{stage}.iterations", iterations, "ppo.iterations_per_epoch", per_epoch)


@contextmanager
def naming(section: str) -> Iterator[None]:
    """Errors of a plug-in name the section it was configured in: `baseline.hidden`, not `policy.hidden`."""
    try:
        yield
    except ConfigError as error:
        kind, _, field = error.field.partition(".")
        if kind == section or PLUGIN_SECTIONS.get(section) != kind:
            raise
        raise ConfigError(f"{section}.{field}", error.value, error.allowed) from error


def _known_fields(config: ConfigDict) -> ConfigDict:
    """The base configuration with the plug-ins that `config` names."""
    known = base_config()
    for section, kind in PLUGIN_SECTIONS.items():
        chosen = config.get(section)
        if not isinstance(chosen, ConfigDict) or not isinstance(chosen.get("name"), str):
            raise ConfigError(section, chosen, "a section with the name of a plug-in")
        with naming(section):
            known[section] = plugin(kind, chosen.name)
    return known


def _check_fields(config: ConfigDict, known: ConfigDict, prefix: str = "") -> None:
    """Raises ConfigError for a field that is unknown, missing, of another type, or not finite.

    Overrides are checked when they are applied; this catches what a config file did.
    """
    for name, value in config.items():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(value, ConfigDict) and isinstance(known.get(name), ConfigDict):
            _check_fields(value, known[name], path)
            continue
        set_field(known, name, value, prefix)
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, float) and not math.isfinite(item):
                raise ConfigError(path, value, "finite")
    for name in known:
        if name not in config:
            raise ConfigError(f"{prefix}.{name}" if prefix else name, None, "the field is missing")


def _check_whole(field: str, value: int, unit: str, size: int) -> None:
    if value % size:
        raise ConfigError(field, value, f"a multiple of {unit} = {size}, since an epoch is compiled once")
