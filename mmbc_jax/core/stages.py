"""The contract of a stage: what one part of a run trains, what it needs, and how it is measured."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Protocol

from mmbc_jax.core.learning import Subject
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, Key, Metrics, PyTree, Rollouts, Variables

NEEDS = ("demonstrations", "environment", "expert")


@dataclasses.dataclass(frozen=True)
class Cloned:
    """A cloned policy as offline metrics and instruments look at it, of one run.

    Attributes:
      policy: the policy.
      variables: as it is used: the averaged weights.
      hp: its traced scalars, as for `Policy.loss`.
      family: the name of its plug-in.
    """

    policy: Policy
    variables: Variables
    hp: dict[str, Array]
    family: str


class PlaysEpisodes(Protocol):
    """What evaluates one run in the environment (see `evaluation.evaluator.Evaluator`)."""

    def run(self, subject: Subject, env_params: PyTree) -> Rollouts:
        """Episodes of a subject; `env_params` are those of the environment, None for its defaults. Pure."""
        ...


class Stage(Protocol):
    """One stage of a run.

    Attributes:
      needs: those of `NEEDS` without which it cannot run.
      parents: stages whose final state it can start from, the preferred one first.
    """

    needs: ClassVar[frozenset[str]]
    parents: ClassVar[tuple[str, ...]]

    @property
    def name(self) -> str:
        """As in `stages` of the configuration."""
        ...

    @property
    def num_modes(self) -> int:
        """|Z| of what it trains; 1 where no mode is commanded."""
        ...

    def policy(self) -> Policy | None:
        """The policy that it clones or steers; None where there is none."""
        ...

    def init(self, key: Key, hparams: Hparams, parent: TrainState | None, shared: PyTree) -> TrainState:
        """The first state of one run; see `Learner.init`."""
        ...

    def train_step(self, state: TrainState, shared: PyTree) -> tuple[TrainState, Metrics]:
        """One training step of one run, pure."""
        ...

    def subject(self, state: TrainState, key: Key) -> Subject:
        """What is evaluated of a state; also with a leading axis R on both."""
        ...

    def evaluator(self, command: int | None = None) -> PlaysEpisodes:
        """What plays its episodes; `command` is z of every episode, None to spread them evenly."""
        ...

    def cloned(self, state: TrainState) -> Cloned | None:
        """What it cloned, of one run's state; None where it trains something else."""
        ...
