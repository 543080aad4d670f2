"""Episodes under commands that are chosen from outside: for each run its own, or for each episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.commanding import HasCommandValues, HasHead
from mmbc_jax.core.compiling import jit
from mmbc_jax.core.errors import UserError
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Array, Key, PyTree, Rollouts
from mmbc_jax.runs.programs import Programs
from mmbc_jax.runs.stages import BaseStage


@dataclasses.dataclass(frozen=True)
class Commanded:
    """Programs that play every episode of a run under one z; as `evaluation.measure.Player`.

    Attributes:
      programs: that play.
      commands: [R] z of each run.
    """

    programs: Programs
    commands: np.ndarray

    @property
    def shifts(self) -> Mapping[str, PyTree]:
        """Of the programs."""
        return self.programs.shifts

    def evaluate(
        self, stage: BaseStage, state: TrainState, keys: Key, params: PyTree = None
    ) -> tuple[Rollouts | None, list[dict[str, Any]]]:
        """Plays the episodes of an evaluation; see `Programs.evaluate`."""
        episodes = self.programs.setup.config.evaluation.episodes
        commands = np.repeat(self.commands[:, None], episodes, axis=1)
        return self.programs.evaluate(stage, state, keys, params, commands)

    def facts(self, stage: BaseStage, runs: int) -> dict[str, Any]:
        """Of the programs."""
        return self.programs.facts(stage, runs)


def check_head(stage: BaseStage) -> None:
    """Raises UserError where a stage has no steering head to remove."""
    actor = stage.parts.actor
    if not (isinstance(actor, HasHead) and actor.has_head):
        what = "trains no actor" if actor is None else "has an actor without a steering head"
        raise UserError(
            f"--headless: stage {stage.name} {what}; actors with one are steer, denoise, flow_sde, cfm_ratio and "
            "residual, of two modes or more where these command the noise"
        )


def value_program(stage: BaseStage) -> Callable[[TrainState, Key, PyTree], Array]:
    """A program from (state with leading axis R, keys [R], parameters of the environment) to [R, B, Z] values.

    They are those of all commands at the first observations of the episodes that `evaluate` plays with these keys.

    Raises:
      UserError: the learner has no values.
    """
    learner = stage.learner
    if not isinstance(learner, HasCommandValues):
        raise UserError(
            f"--recommand value: learner {stage.learner_name} of stage {stage.name} has no values"
        )
    evaluator, num_modes = stage.evaluator(), stage.num_modes

    def values(state: TrainState, key: Key, params: PyTree) -> Array:
        subject = stage.subject(state, key)
        obs = subject.normalizer.normalize_obs(evaluator.start(subject, params).obs)
        draws = jax.random.split(jax.random.fold_in(key, num_modes), num_modes)

        def under(z: Array, draw: Key) -> Array:
            return learner.command_value(state, draw, obs, jnp.full((evaluator.episodes,), z))

        return jax.vmap(under, out_axes=-1)(jnp.arange(num_modes), draws)

    compiled = jit(jax.vmap(values, in_axes=(0, 0, None)), stage.setup.env_spec)
    return lambda state, keys, params: compiled(state.replace(opt_state={}, env_state={}), keys, params)
