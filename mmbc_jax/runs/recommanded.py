"""Re-commanding after a failure, played with trained stages; the rules are those of `evaluation.recommanding`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from mmbc_jax.core.errors import UserError
from mmbc_jax.core.types import PyTree
from mmbc_jax.diagnostics.strengths import pooled
from mmbc_jax.evaluation.recommanding import Play, by_trial, in_turn, kept, random_scores
from mmbc_jax.ops.codes import alive_of
from mmbc_jax.runs.commanded import value_program
from mmbc_jax.runs.programs import Programs
from mmbc_jax.runs.restored import Restored

OWN = "as trained"
"""The setting of the environment that the policy was trained in, beside those of `evaluation.shifts`."""


@dataclasses.dataclass(frozen=True)
class Recommand:
    """What is asked for.

    Attributes:
      rule: "value", "trial" or "both"; commands at random are played besides.
      attempts: n, episodes after each of which the command may change.
      trials: T, episodes in which the rule `trial` tries each command first.
      seed: of the evaluation, and of the random orders; None for training's own keys.
    """

    rule: str
    attempts: int = 4
    trials: int = 5
    seed: int | None = None

    def check(self, restored: Restored) -> None:
        """Raises UserError where it cannot be done with a stage."""
        stage = restored.stage
        if stage.num_modes < 2:
            raise UserError(f"--recommand: stage {stage.name} has one z; there is nothing else to command")
        if restored.setup.config.evaluation.paired:
            raise UserError(
                "--recommand: every attempt begins anew, not from the same starts: --config.evaluation.paired=False"
            )
        if len(restored.grid.points) > 1:
            points = len(restored.grid.points)
            raise UserError(
                f"--recommand: the checkpoint holds {points} points of a sweep, and must hold one"
            )
        if self.rule != "trial":
            value_program(stage)

    def play(self, restored: Restored, plain: Restored | None) -> dict[str, Any]:
        """`{"rule", "attempts", "trials", "settings": {setting: {rule: ...}}}`, each rule as of `_entry`.

        Args:
          restored: a stage of several commands.
          plain: one without, of the same run, to compare with; None for none.
        """
        settings: dict[str, Any] = {}
        for one in (restored, *([plain] if plain else [])):
            programs = one.programs()
            for setting, params in {OWN: None, **programs.shifts}.items():
                settings.setdefault(setting, {}).update(self._rules(one, programs, setting, params))
        return {**dataclasses.asdict(self), "settings": settings}

    def _rules(
        self, restored: Restored, programs: Programs, setting: str, params: PyTree
    ) -> dict[str, dict[str, Any]]:
        stage, runs = restored.stage, len(restored.runs)
        episodes = restored.setup.config.evaluation.episodes
        size = (runs, episodes, stage.num_modes)
        there = _commands(restored)

        def keys(rule: str, label: str) -> Any:
            return restored.keys(f"evaluate/{stage.name}/recommand/{setting}/{rule}/{label}", self.seed)

        def player(rule: str) -> Play:
            def play(label: str, z: np.ndarray) -> np.ndarray:
                played, _ = programs.evaluate(stage, restored.state, keys(rule, label), params, z)
                assert played is not None
                return np.asarray(played.success)

            return play

        def scored(label: str) -> np.ndarray:
            return np.asarray(values(restored.state, keys("value", label), params))

        def entry(counts: np.ndarray, **more: Any) -> dict[str, Any]:
            within = [pooled(each.tolist(), [episodes] * runs) for each in counts]
            return {"stage": stage.name, "within": within, **more}

        if stage.num_modes == 1:
            return {stage.name: entry(kept(player(stage.name), np.zeros(runs, int), episodes, self.attempts))}
        order = random_scores(self.seed or 0, *size)
        found = {"random": entry(in_turn(player("random"), order, self.attempts, there))}
        if self.rule != "trial":
            values: Callable[..., Any] = value_program(stage)
            found["value"] = entry(in_turn(player("value"), scored, self.attempts, there))
        if self.rule != "value":
            wins, best = by_trial(player("trial"), there, episodes, self.trials)
            counts = kept(player("trial"), best, episodes, self.attempts)
            spent = self.trials * int(there.sum(1).max())
            found["trial"] = entry(counts, z=best.tolist(), wins=wins.tolist(), trial_episodes=spent)
        return found


def _commands(restored: Restored) -> np.ndarray:
    """[R, Z] which commands there are: merging leaves fewer than training began with."""
    alive = alive_of(restored.state.params["reward"])
    shape = (len(restored.runs), restored.stage.num_modes)
    return np.ones(shape, bool) if alive is None else np.asarray(alive).reshape(shape) > 0
