"""Stages trained by reinforcement: `discover`, `finetune`, `plain`.

What tells them apart is data: the weights of the two rewards, the horizon that episodes start with, and whether the
intrinsic reward goes on learning are traced scalars. So stages with the same parts share a compiled program.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import ClassVar

from mmbc_jax.core import registry
from mmbc_jax.core.config import at
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.files import plain
from mmbc_jax.core.learning import Parts
from mmbc_jax.core.protocols import Policy
from mmbc_jax.runs.loop import Schedule
from mmbc_jax.runs.sections import STAGE_PARTS
from mmbc_jax.runs.stages._stage import BaseStage, make_schedule


@dataclasses.dataclass(frozen=True)
class TuningStage(BaseStage):
    """A stage that is trained by reinforcement, on a clone or without one."""

    needs: ClassVar[frozenset[str]] = frozenset({"environment"})
    parents: ClassVar[tuple[str, ...]] = ("bc",)

    @property
    def num_modes(self) -> int:
        """|Z|."""
        return self.setup.config.finetune.num_modes

    @property
    def iterations(self) -> int:
        """Training steps."""
        return self.setup.config[self.name].iterations

    @property
    def policy_sections(self) -> tuple[str, ...]:
        """That of the reference."""
        return ("policy",) if self.parent else ()

    def policy(self) -> Policy | None:
        """The reference; None where no stage before this one cloned it."""
        return self.setup.policy if self.parent else None

    @property
    def parts(self) -> Parts:
        """Its environment, reference, actor and intrinsic reward."""
        return self.setup.tune_parts(self.name, self.num_modes, self.policy())

    @property
    def section(self) -> str:
        """`learner`, or its own."""
        return self.setup.part(self.name, "learner")

    @property
    def scalars(self) -> Mapping[str, str]:
        """Those of the learner."""
        fields = registry.find("learner", self.learner_name, self.section).hparams
        return {f"learner.{field}": f"{self.section}.{field}" for field in fields}

    @property
    def program(self) -> str:
        """What it is made of, as text."""
        config = self.setup.config
        parts = [plain(at(config, self.setup.part(self.name, kind))) for kind in STAGE_PARTS]
        return json.dumps([self.num_modes, self.parent is not None, *parts], sort_keys=True)

    @property
    def schedule(self) -> Schedule:
        """Epochs of the learner's `iterations_per_epoch`."""
        per_epoch = self._per_epoch
        return make_schedule(self.setup, self.iterations // per_epoch, per_epoch, 1, self.learner.buffered)

    @property
    def _per_epoch(self) -> int:
        return at(self.setup.config, self.section).get("iterations_per_epoch", 1)

    def check(self) -> None:
        """As of every stage; and an epoch, which is compiled once, must go into the stage a whole number of times."""
        super().check()
        config, per_epoch = self.setup.config, self._per_epoch
        if self.name in config and "iterations" in config[self.name] and self.iterations % per_epoch:
            raise ConfigError(
                f"{self.name}.iterations",
                self.iterations,
                f"a multiple of {self.section}.iterations_per_epoch = {per_epoch}, "
                "since an epoch is compiled once",
            )


@dataclasses.dataclass(frozen=True)
class DiscoverStage(TuningStage):
    """Stage `discover`: the intrinsic reward alone, over a growing horizon."""

    lengths: ClassVar[tuple[str, ...]] = ("discover.iterations",)

    @property
    def constants(self) -> Mapping[str, float]:
        """See the module docstring."""
        return {
            "stage.iterations": self.iterations,
            "stage.env_coef": 0.0,
            "stage.start_horizon": self.setup.config.discover.start_horizon,
            "stage.train_reward": 1.0,
            "stage.mi_coef": 1.0,
            "stage.tune_reference": float(self.setup.config.discover.tune_reference),
        }

    def check(self) -> None:
        """As of every stage; and episodes start no longer than they may become."""
        super().check()
        start, length = self.setup.config.discover.start_horizon, self.setup.env_spec.episode_length
        if start > length:
            raise ConfigError("discover.start_horizon", start, f"at most the episode length {length}")


@dataclasses.dataclass(frozen=True)
class FinetuneStage(TuningStage):
    """Stage `finetune`: the environment's reward plus lambda times the intrinsic one."""

    parents: ClassVar[tuple[str, ...]] = ("discover", "bc")
    lengths: ClassVar[tuple[str, ...]] = ("finetune.iterations",)

    @property
    def scalars(self) -> Mapping[str, str]:
        """Those of the learner, and lambda."""
        return {**super().scalars, "stage.mi_coef": "finetune.mi_coef"}

    @property
    def constants(self) -> Mapping[str, float]:
        """See the module docstring."""
        return {
            "stage.iterations": self.iterations,
            "stage.env_coef": 1.0,
            "stage.start_horizon": self.setup.env_spec.episode_length,
            "stage.train_reward": self.setup.config.finetune.train_discriminator,
            "stage.tune_reference": 1.0,
        }


@dataclasses.dataclass(frozen=True)
class PlainStage(TuningStage):
    """Stage `plain`: lambda = 0 and one mode, with the steps of discovery too where there is one."""

    lengths: ClassVar[tuple[str, ...]] = ("finetune.iterations", "discover.iterations")

    @property
    def num_modes(self) -> int:
        """1: no mode is commanded."""
        return 1

    @property
    def iterations(self) -> int:
        """Those of finetune, and of discover where there is one."""
        config = self.setup.config
        return config.finetune.iterations + (config.discover.iterations if "discover" in self.others else 0)

    @property
    def constants(self) -> Mapping[str, float]:
        """See the module docstring."""
        return {
            "stage.iterations": self.iterations,
            "stage.env_coef": 1.0,
            "stage.start_horizon": self.setup.env_spec.episode_length,
            "stage.train_reward": 0.0,
            "stage.mi_coef": 0.0,
            "stage.tune_reference": 1.0,
        }
