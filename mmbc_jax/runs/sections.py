"""The sections of a configuration, the neutral one that every file in `configs/` starts from, and the checks.

A configuration is a ConfigDict of sections. Those that select a plug-in (`env`, `policy`, `prior`, `sampler`,
`actor`, `discriminator`, `reward`, `learner`, `baseline`) hold `name` and its options; the others hold the options
below. A stage names an actor, reward or learner of its own in its section (`plain.actor.name=...`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator

from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.config import at, converted, plugin, plugin_kind, plugin_sections
from mmbc_jax.core.errors import ConfigError, nearest
from mmbc_jax.core.options import Described, Options, describe, option
from mmbc_jax.diagnostics import chosen
from mmbc_jax.policies.wrappers.coordinates import COORDINATES
from mmbc_jax.runs.data_options import DataOptions
from mmbc_jax.runs.grid import SweepOptions
from mmbc_jax.runs.mesh import MeshOptions
from mmbc_jax.runs.run_options import RunOptions

STAGE_PARTS = ("actor", "reward", "learner")
BEST = (
    "success_rate",
    "modes_kept",
    "mode_entropy",
    "commandable",
    "mi_z_mode",
    "sr_m",
    "mc_08",
    "mean_reward",
)
_PLUGINS = {
    "env": "",
    "policy": "flow",
    "prior": "normal",
    "sampler": "euler",
    "actor": "steer",
    "discriminator": "categorical",
    "reward": "mi",
    "learner": "ppo",
    "baseline": "mse",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkOptions(Options):
    """Actions predicted at once, and what a decision sees."""

    predict: int = option(8, "actions predicted at once, H", low=1)
    execute: int = option(8, "actions executed before the next decision, h", low=1)
    observe: int = option(
        1, "observations that a decision sees: the present one and those before it", low=1, high=1024
    )
    coordinates: str = option("actions", "in which the policy models a chunk", choices=COORDINATES)

    def check(self) -> None:
        """Raises ConfigError where more is executed than predicted."""
        if self.execute > self.predict:
            raise self.error("execute", f"at most chunk.predict = {self.predict}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscoverOptions(Options):
    """Stage discover: modes by the intrinsic reward alone."""

    iterations: int = option(20, "training steps", low=1)
    start_horizon: int = option(32, "control steps of the first episodes; they grow to full length", low=1)
    tune_reference: bool = option(
        False, "an actor that trains a copy of the reference, or corrects it, does so here, too"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneOptions(Options):
    """Stage finetune: the environment's reward plus lambda times the intrinsic one."""

    iterations: int = option(100, "training steps", low=1)
    mi_coef: float = option(0.5, "lambda, the weight of the intrinsic reward", low=0.0, traced=True)
    num_modes: int = option(8, "|Z|, commanded modes; of discover too", low=1)
    train_discriminator: bool = option(True, "the intrinsic reward's own parameters go on learning")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainOptions(Options):
    """Stage plain: the conventional fine-tuner; only its parts can be chosen."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationOptions(Options):
    """Evaluation of every stage."""

    episodes: int = option(1024, "per evaluation", low=1)
    every_epochs: int = option(0, "an evaluation during training; 0 for never", low=0)
    paths: int = option(256, "whose positions are kept for figures", low=1)
    samples: int = option(16, "chunks per held-out window in the offline metrics", low=1, high=2**20)
    paired: bool = option(
        False, "all stages and seeds start from the same states; the summary has differences between stages"
    )
    deterministic: bool = option(False, "the likeliest actions are played instead of drawn ones")
    hold: bool = option(
        False, "all decisions of an episode draw the same noise, so that it keeps to its mode"
    )
    ensemble: float = option(
        -1.0,
        "temporal ensembling: weight exp(m a) of a plan that is a decisions old; below 0 for none",
        low=-1.0,
        high=10.0,
    )
    shifts: str = option(
        "",
        "other settings of the environment under which the final states are played too, "
        '"calm: start_noise=0, action_noise=0; late: action_delay=0 1 2 4", of which the last is a sweep',
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointOptions(Options):
    """Checkpoints."""

    every_epochs: int = option(1, "epochs between two", low=1)
    buffer_every_epochs: int = option(
        5, "the same for learners with a replay buffer, whose states are large", low=1
    )
    keep: int = option(2, "how many of the newest are kept", low=1)
    best: str = option(
        "",
        "metric of the evaluations during training whose best checkpoint is kept besides, in best/<stage>; the mean "
        "over runs counts, and the first of equals",
        choices=("", *BEST),
    )


SECTIONS: dict[str, type[Options]] = {
    "chunk": ChunkOptions,
    "data": DataOptions,
    "discover": DiscoverOptions,
    "finetune": FinetuneOptions,
    "plain": PlainOptions,
    "evaluation": EvaluationOptions,
    "sweep": SweepOptions,
    "mesh": MeshOptions,
    "checkpoint": CheckpointOptions,
}
TUNING = ("discover", "finetune", "plain")
CLONING = {"bc": "bc", "dagger": "dagger"}  # sections of learners that are no choice: section -> learner


def learner_options(section: str) -> type[Options]:
    """The options of a learner that is no choice, by its section in `CLONING`."""
    found = registry.find("learner", CLONING[section]).options
    assert found is not None
    return found


def base_config() -> ConfigDict:
    """Every field with its neutral default: no environment, no data, and no task's own numbers."""
    config = RunOptions.to_config()
    for section, name in _PLUGINS.items():
        config[section] = plugin(section, name)
    for section, options in SECTIONS.items():
        config[section] = options.to_config()
    for section in CLONING:
        config[section] = learner_options(section).to_config()
    for stage in TUNING:
        for part in STAGE_PARTS:
            config[stage][part] = plugin(part, "")
    config.instruments = chosen.default_config()
    return config


def options_table(config: ConfigDict) -> list[Described]:
    """Every option of a configuration with the plug-ins that it selects, as rows of a table."""
    rows = describe(RunOptions, "")
    for section in plugin_sections(config):
        kind, name = plugin_kind(section), at(config, section).name
        stated = registry.find(kind, name, section).options if kind and name else None
        rows += describe(stated, section) if stated else []
    for section, options in fixed_sections().items():
        rows += describe(options, section)
    return rows


@functools.cache
def fixed_sections() -> dict[str, type[Options]]:
    """{section: its options} of what a configuration always has, whatever plug-ins it selects."""
    cloning = {section: learner_options(section) for section in CLONING}
    named = {name: registry.find("diagnostic", name).options for name in registry.available("diagnostic")}
    instruments = {f"instruments.{name}": options for name, options in named.items() if options}
    return {**SECTIONS, **cloning, **instruments}


def check_config(config: ConfigDict) -> None:
    """Raises ConfigError for the first field that cannot work; plug-ins check their own sections."""
    _check_fields(config, neutral(config))
    run = RunOptions.from_config(config, "")
    for section in (*fixed_sections(), *plugin_sections(config)):
        check_section(config, section)
    if config.evaluation.ensemble >= 0.0 and config.chunk.execute == config.chunk.predict:
        raise ConfigError(
            "evaluation.ensemble",
            config.evaluation.ensemble,
            f"below 0, since plans do not overlap: chunk.execute = chunk.predict = {config.chunk.predict}",
        )
    if config.checkpoint.best and not config.evaluation.every_epochs:
        raise ConfigError(
            "checkpoint.best",
            config.checkpoint.best,
            "empty, since evaluation.every_epochs is 0",
        )
    chosen.build_instruments(config)
    registry.chosen_names("figure", run.figures, "figures")
    registry.chosen_names("logger", run.loggers, "loggers")
    if "discover" in run.stages or "finetune" in run.stages:
        modes = config.finetune.num_modes
        if config.evaluation.episodes < modes:
            raise ConfigError(
                "evaluation.episodes", config.evaluation.episodes, f"at least finetune.num_modes = {modes}"
            )


def check_section(config: ConfigDict, section: str) -> None:
    """Raises ConfigError for the first option of a section, by its dotted path, that cannot work."""
    stated: type[Options] | None = fixed_sections().get(section)
    if stated is None:
        kind, name = plugin_kind(section), at(config, section).name
        stated = registry.find(kind, name, section).options if kind and name else None
    if stated:
        stated.from_config(at(config, section), section)


def completed(config: ConfigDict) -> ConfigDict:
    """A configuration of an earlier version: options that it did not have yet take their defaults.

    The scale of actions is the one there was: the environment's box.
    """
    config = ConfigDict(config.to_dict())
    if "scale" not in config.data and config.env.name:
        config.data.scale = "box"
    _fill(config, neutral(config))
    return config


def _fill(config: ConfigDict, known: ConfigDict) -> None:
    for name, value in known.items():
        if name not in config:
            config[name] = value
        elif isinstance(value, ConfigDict) and isinstance(config[name], ConfigDict):
            _fill(config[name], value)


def neutral(config: ConfigDict) -> ConfigDict:
    """The neutral configuration with the plug-ins that `config` names."""
    known = base_config()
    for section in list(plugin_sections(known)):
        *parents, leaf = section.split(".")
        holder = config
        for parent in parents:
            holder = holder.get(parent)
        chosen_one = holder.get(leaf) if isinstance(holder, ConfigDict) else None
        if not isinstance(chosen_one, ConfigDict) or not isinstance(chosen_one.get("name"), str):
            raise ConfigError(section, chosen_one, "a section with the name of a plug-in")
        (at(known, ".".join(parents)) if parents else known)[leaf] = plugin(section, chosen_one.name)
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
        if name not in known:
            raise ConfigError(path, "...", f"no such field; {nearest(str(name), known.keys())}")
        converted(path, known[name], value)
        for item in _leaves(value):
            if isinstance(item, float) and not math.isfinite(item):
                raise ConfigError(path, value, "finite")
    for name in known:
        if name not in config:
            raise ConfigError(f"{prefix}.{name}" if prefix else name, None, "the field is missing")


def _leaves(value: object) -> Iterator[object]:
    yield from value if isinstance(value, (tuple, list)) else (value,)
