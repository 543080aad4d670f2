"""What all stages share: their learner, their traced scalars, and where they start from."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import jax

from mmbc_jax.core import registry
from mmbc_jax.core.acting import played_by
from mmbc_jax.core.config import at
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.keys import seeded
from mmbc_jax.core.learning import Learner, Parts, Subject
from mmbc_jax.core.protocols import HasExpert, Policy, demonstrates
from mmbc_jax.core.stages import Cloned
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Key, Metrics, PyTree
from mmbc_jax.evaluation.evaluator import Evaluator, make_evaluator
from mmbc_jax.evaluation.playing import Playing
from mmbc_jax.nn.precision import networks_in
from mmbc_jax.runs.grid import Grid, StageRuns, hparams, stage_runs
from mmbc_jax.runs.loop import Schedule
from mmbc_jax.runs.setup import Setup


@dataclasses.dataclass(frozen=True)
class BaseStage(abc.ABC):
    """A stage of a run; see `core.stages.Stage`.

    Attributes:
      setup: of the run.
      name: of the stage.
      parent: the stage it starts from; None for none.
      others: names of all stages that this run has or takes over.
    """

    setup: Setup
    name: str
    parent: BaseStage | None
    others: tuple[str, ...]

    needs: ClassVar[frozenset[str]] = frozenset()
    parents: ClassVar[tuple[str, ...]] = ()
    lengths: ClassVar[tuple[str, ...]] = ()  # paths of the fields that say how long it trains

    @property
    def num_modes(self) -> int:
        """|Z| of what it trains; 1 where no mode is commanded."""
        return 1

    @abc.abstractmethod
    def policy(self) -> Policy | None:
        """The policy that it clones or steers; None where there is none."""

    @property
    @abc.abstractmethod
    def parts(self) -> Parts:
        """What its learner is built from."""

    @property
    @abc.abstractmethod
    def section(self) -> str:
        """Path of the section that selects its learner."""

    @property
    @abc.abstractmethod
    def schedule(self) -> Schedule:
        """Its epochs."""

    @property
    def policy_sections(self) -> tuple[str, ...]:
        """Sections of the policies that it clones or steers."""
        return ()

    @property
    def learner_name(self) -> str:
        """Of the plug-in behind `section`."""
        return at(self.setup.config, self.section).name

    @property
    def scalars(self) -> Mapping[str, str]:
        """{name in the state's hparams: dotted path in the config} of its own traced scalars."""
        return {}

    @property
    def constants(self) -> Mapping[str, float]:
        """Traced scalars that the stage itself sets."""
        return {}

    def cloned(self, state: TrainState) -> Cloned | None:
        """What it cloned, of one run's state; None where it trains something else."""
        return None

    @property
    def program(self) -> str:
        """Stages whose text is the same train with the same compiled program."""
        return self.name

    @cached_property
    def learner(self) -> Learner:
        """Its learner."""
        plugin = registry.find("learner", self.learner_name, self.section)
        with networks_in(self.setup.config.precision):
            return plugin(at(self.setup.config, self.section), self.parts, section=self.section)

    @property
    def logs(self) -> Mapping[str, str]:
        """The metrics of its learner and reward that are not averaged over a row; see `core.learning.COMBINE`."""
        return {**getattr(self.parts.reward, "logs", {}), **self.learner.logs}

    @property
    def traced(self) -> tuple[str, ...]:
        """Config paths of the scalars that its result depends on, those of its ancestors among them."""
        return tuple(dict.fromkeys((*(self.parent.traced if self.parent else ()), *self.scalars.values())))

    @property
    def env_steps(self) -> int:
        """Control steps that its training takes, at most."""
        return self.schedule.epochs * self.schedule.steps_per_epoch * self.learner.env_steps

    def check(self) -> None:
        """Builds what it is made of.

        Raises:
          ConfigError: something it needs is not there, or an option cannot work.
        """
        config, env = self.setup.config, self.setup.env
        if env is None and {"environment", "expert"} & self.needs:
            raise ConfigError("stages", tuple(config.stages), f"without {self.name}: env.name is empty")
        if "expert" in self.needs and not demonstrates(env):
            reason = f"without {self.name}: environment {config.env.name!r} has no expert"
            raise ConfigError("stages", tuple(config.stages), reason)
        if "demonstrations" in self.needs and not config.data.path:
            _check_scripted(self.setup)
        self.learner  # noqa: B018  (builds it, so that its section is checked)

    def init(self, key: Key, hparams: Hparams, parent: TrainState | None, shared: PyTree) -> TrainState:
        """The first state of one run; see `Learner.init`."""
        return self.learner.init(key, hparams, parent, shared)

    def train_step(self, state: TrainState, shared: PyTree) -> tuple[TrainState, Metrics]:
        """One training step of one run, pure."""
        return self.learner.train_step(state, shared)

    def subject(self, state: TrainState, key: Key) -> Subject:
        """What is evaluated of a state; also with a leading axis R on both."""
        return self.learner.subject(state, key)

    def evaluator(self, command: int | None = None, headless: bool = False) -> Evaluator:
        """What plays its episodes: under z = `command`, None to spread them evenly; or without a steering head."""
        parts = dataclasses.replace(played_by(self.learner, self.parts), env=self.setup.played_env)
        setup, settings = self.setup, self.setup.config.evaluation
        playing = Playing.of(settings, command, setup.config.data.seed)
        return make_evaluator(
            parts, setup.env_spec, settings.episodes, settings.paths, self.num_modes, playing, headless
        )

    def runs(self, grid: Grid) -> StageRuns:
        """The distinct runs of this stage in a grid."""
        return stage_runs(grid, self.traced)

    def make_hparams(self, grid: Grid, runs: StageRuns) -> Hparams:
        """[R] traced scalars."""
        constants = {"stage.patience": self.setup.config.nonfinite_limit, **self.constants}
        return hparams(self.setup.config, grid, runs, self.scalars, constants)

    def start(self, keys: Key, hp: Hparams, parent: PyTree, shared: PyTree) -> PyTree:
        """The first state with leading axis R, of keys [R], hparams [R] and the parent's state [R] or None."""
        axes = (0, 0, None if parent is None else 0, None)
        return jax.vmap(self.init, in_axes=axes)(keys, hp, parent, shared)

    def template(self, hp: Hparams, parent: PyTree, shared: PyTree) -> PyTree:
        """Shapes and types of its state with leading axis R, for restoring."""
        runs = len(next(iter(hp.values())))
        keys = jax.eval_shape(lambda: jax.random.split(seeded(0), runs))
        return jax.eval_shape(self.start, keys, hp, parent, shared)


def make_schedule(
    setup: Setup, epochs: int, rows: int, steps_per_row: int, buffered: bool = False
) -> Schedule:
    """A schedule with the configured evaluations and checkpoints, rarer ones of a state with a replay buffer."""
    config: Any = setup.config
    checkpoint = config.checkpoint
    return Schedule(
        epochs=epochs,
        rows=rows,
        steps_per_row=steps_per_row,
        eval_every=config.evaluation.every_epochs,
        save_every=checkpoint.buffer_every_epochs if buffered else checkpoint.every_epochs,
        nonfinite_limit=config.nonfinite_limit,
    )


def _check_scripted(setup: Setup) -> None:
    """Raises ConfigError where demonstrations cannot be recorded, or are shorter than a chunk."""
    config = setup.config
    if not isinstance(setup.env, HasExpert):
        raise ConfigError(
            "data.path", "", f"a file of demonstrations: environment {config.env.name!r} has no expert"
        )
    length = setup.env_spec.episode_length
    if config.chunk.predict > length:
        raise ConfigError("chunk.predict", config.chunk.predict, f"at most the episode length {length}")
