"""Stages that clone: `bc` the policy, `baseline` another one on the same data, `dagger` on the clone's own states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from mmbc_jax.core import registry
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Parts
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.stages import Cloned
from mmbc_jax.core.state import TrainState
from mmbc_jax.data.blocks import check_stream
from mmbc_jax.data.jitter import check_displaced
from mmbc_jax.learners.bc import BCOptions, clone
from mmbc_jax.runs.loop import Schedule
from mmbc_jax.runs.stages._stage import BaseStage, make_schedule


@dataclasses.dataclass(frozen=True)
class CloningStage(BaseStage):
    """Stage `bc`."""

    needs: ClassVar[frozenset[str]] = frozenset({"demonstrations"})
    lengths: ClassVar[tuple[str, ...]] = ("bc.steps",)
    policy_section: ClassVar[str] = "policy"
    section: ClassVar[str] = "bc"  # type: ignore[assignment]

    @property
    def learner_name(self) -> str:
        """`bc`: cloning has no other learner."""
        return "bc"

    @property
    def policy_sections(self) -> tuple[str, ...]:
        """The section of the policy that is cloned."""
        return (self.policy_section,)

    def policy(self) -> Policy:
        """The policy that is cloned."""
        return getattr(self.setup, self.policy_section)

    @property
    def parts(self) -> Parts:
        """The policy and the settings of cloning."""
        return self.setup.clone_parts(self.policy())

    @property
    def scalars(self) -> Mapping[str, str]:
        """Those of the optimiser and of the policy."""
        name = self.setup.config[self.policy_section].name
        optimiser = {f"bc.{field}": f"bc.{field}" for field in BCOptions.traced()}
        fields = registry.find("policy", name, self.policy_section).hparams
        return optimiser | {f"policy.{field}": f"{self.policy_section}.{field}" for field in fields}

    @property
    def schedule(self) -> Schedule:
        """`bc.steps` in epochs of `bc.steps_per_epoch`."""
        cfg = self.setup.config.bc
        return make_schedule(
            self.setup,
            cfg.steps // cfg.steps_per_epoch,
            cfg.steps_per_epoch // cfg.steps_per_row,
            cfg.steps_per_row,
        )

    def check(self) -> None:
        """As of every stage; and an epoch, which is compiled once, must go into the stage a whole number of times.

        What can be said of the demonstrations before there are any is said, too.
        """
        super().check()
        setup, cfg = self.setup, self.setup.config.bc
        if setup.config.data.jitter:
            check_displaced(setup.env_spec, setup.config.data.jitter)
        check_stream(setup.config.data.stream, setup.obs, setup.config.chunk.predict, setup.action_dim)
        for field, unit in (("steps", "steps_per_epoch"), ("steps_per_epoch", "steps_per_row")):
            if cfg[field] % cfg[unit]:
                raise ConfigError(
                    f"bc.{field}",
                    cfg[field],
                    f"a multiple of bc.{unit} = {cfg[unit]}, since an epoch is compiled once",
                )

    def cloned(self, state: TrainState) -> Cloned:
        """The clone with its averaged weights."""
        hp = {
            name.removeprefix("policy."): value
            for name, value in state.hparams.items()
            if name.startswith("policy.")
        }
        family = self.setup.config[self.policy_section].name
        return Cloned(self.policy(), clone(state), hp, family)


@dataclasses.dataclass(frozen=True)
class BaselineStage(CloningStage):
    """Stage `baseline`."""

    policy_section: ClassVar[str] = "baseline"


@dataclasses.dataclass(frozen=True)
class DaggerStage(CloningStage):
    """Stage `dagger`: the clone of `bc`, trained further; a training step is a round."""

    needs: ClassVar[frozenset[str]] = frozenset({"demonstrations", "environment", "expert"})
    parents: ClassVar[tuple[str, ...]] = ("bc",)
    lengths: ClassVar[tuple[str, ...]] = ()  # its store of relabelled states is made for the number of rounds
    section: ClassVar[str] = "dagger"  # type: ignore[assignment]

    @property
    def learner_name(self) -> str:
        """`dagger`."""
        return "dagger"

    @property
    def scalars(self) -> Mapping[str, str]:
        """Those of cloning and of DAgger."""
        options = registry.find("learner", "dagger").hparams
        return {**super().scalars, **{f"learner.{field}": f"dagger.{field}" for field in options}}

    @property
    def schedule(self) -> Schedule:
        """A round in an epoch."""
        return make_schedule(self.setup, self.setup.config.dagger.rounds, 1, 1)
