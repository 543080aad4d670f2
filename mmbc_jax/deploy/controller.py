r"""From chunks to one action per control step: the loop around a policy on a robot.

A receding horizon: of every chunk the first `execute` actions are played, then the policy is asked again. Commands,
keys and ensembling are those of the evaluator (`evaluation.evaluator`, `evaluation.playing`), so a loop that starts
with the evaluator's key plays its episodes again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mmbc_jax.core.keys import wrapped
from mmbc_jax.deploy.history import Past
from mmbc_jax.deploy.inputs import RequestError, as_rows, as_words
from mmbc_jax.deploy.realtime import RealTime
from mmbc_jax.evaluation.playing import Playing

if TYPE_CHECKING:
    from mmbc_jax.deploy.deployed import Deployed
_COMMAND, _EPISODES = (
    2**29,
    2**30,
)  # what keys of commands and of later episodes are folded with; no decision is


@dataclasses.dataclass
class Controller:
    """One action per control step, for one robot or a batch of them.

    Attributes:
      policy: that is asked.
      execute: h, actions that are played of a chunk; None for as many as in training.
      ensemble: m >= 0 of temporal ensembling, as `evaluate --ensemble`: what earlier plans had for a control step
        counts with weight exp(m a), a decisions ago; None plays every plan as it is.
      hold_mode: a command that is drawn is kept until `reset`; else it is drawn anew at every decision.
      hold_noise: all decisions until `reset` draw with one key, as `evaluate --hold`: a clone without commands, whose
        noise chooses the way, keeps to it.
      realtime: `act` goes on with the old chunk while the next one is sampled; see `RealTime`.
      z: command until another is given to `reset`; None to draw one.
      key: of all that is left to chance; a seed, or a key of JAX's; None for the policy's own stream.
      deterministic: the likeliest actions; None as the policy was loaded.
    """

    policy: Deployed
    execute: int | None = None
    ensemble: float | None = None
    hold_mode: bool = True
    hold_noise: bool = False
    realtime: bool = False
    z: Any = None
    key: Any = None
    deterministic: bool | None = None

    def __post_init__(self) -> None:
        spec = self.policy.spec
        self.execute = spec.execute if self.execute is None else self.execute
        check_settings(self.execute, spec.predict, self.ensemble, self.realtime)
        playing, every = Playing(ensemble=self.ensemble), self.execute
        self._no_plans = lambda plan: playing.no_plans(lambda: plan.shape, every)
        self._ensembled = jax.jit(lambda plan, plans, n: playing.executed(plan, plans, n, every))
        self._runner = RealTime(spec.predict, every) if self.realtime else None
        self._episode, self._decision = 0, 0
        self.reset()

    def reset(self, z: Any = None, key: Any = None) -> None:
        """Begins an episode: nothing of the last one is remembered.

        Args:
          z: command of this episode; None for the controller's own, or one that is drawn.
          key: of this episode; None for the controller's own in its first, then others that follow from it.
        """
        if self._runner is not None:
            self._runner.reset()
        self._episode += self._decision > 0  # one in which nothing was decided was none
        self._words = self._key_of_episode(key)
        self._given = self.z if z is None else z
        self._drawn: Any = None
        self._past = Past(self.policy.spec.single, self.policy.spec.observe)
        self._decision, self._at, self._single = 0, 0, True
        self._chunk: Any = None
        self._plans: Any = None

    def _key_of_episode(self, key: Any) -> np.ndarray:
        if key is not None:
            return as_words(key)
        if self.key is None:
            return self.policy.keys.take()
        own = as_words(self.key)
        return own if self._episode == 0 else np.asarray(_folded(own, _EPISODES + self._episode))

    @property
    def command(self) -> Any:
        """z that is followed, one or [B]; None before the first action, and where every decision draws its own."""
        if self._given is not None or self._drawn is None:
            return self._given
        return int(self._drawn[0]) if self._single else self._drawn

    def act(self, obs: Any) -> Any:
        """The action of this control step.

        Args:
          obs: what this control step observes, as `policy.spec.single` has it, physical units; one, or [B, ...].

        Returns:
          [A] or [B, A] in physical units, within the bounds.
        """
        rows, batch, self._single = as_rows(self.policy.spec.single, obs)
        seen = self._past.seen(rows)
        if self._runner is not None:
            action = self._runner.act(functools.partial(self._planned, seen, batch))
        else:
            if self._chunk is None or self._at == self.execute:
                self._chunk, self._at = self._executed(self._planned(seen, batch)()), 0
            action = self._chunk[:, self._at]
            self._at += 1
        bounded = self.policy.bounded(action) if self._joined_later else action
        return bounded[0] if self._single else bounded

    def warm_up(self, batch: int = 1) -> Controller:
        """Compiles what `act` runs for a batch of observations now, which else the first does; returns itself."""
        obs = jax.tree.map(np.asarray, self.policy.spec.obs.dummy(batch))
        self.policy.plan(obs, None, 0, self.deterministic, bounded=not self._joined_later)
        return self

    @property
    def _joined_later(self) -> bool:
        """Whether plans that overlap are joined, and cut to the bounds after that."""
        return self.ensemble is not None or self.realtime

    @property
    def delay(self) -> int:
        """Control steps that the last chunk took to sample; 0 where `act` waits for chunks."""
        return 0 if self._runner is None else self._runner.delay

    @property
    def waits(self) -> int:
        """How often `act` had to wait although it was to act in real time: the chunk before had run out."""
        return 0 if self._runner is None else self._runner.waits

    def close(self) -> None:
        """Ends the thread that samples, where there is one."""
        if self._runner is not None:
            self._runner.stop()

    def _planned(self, seen: Any, batch: int) -> Callable[[], Any]:
        """A function that samples the plan [B, H, A] of a decision, which may run in a thread; called in order."""
        words = np.asarray(_words_of(self._words, self._decision, self.hold_noise))
        self._decision += 1
        z = self._given
        if z is None and self.hold_mode:
            if self._drawn is None:
                self._drawn = self.policy.draw(np.asarray(_folded(self._words, _COMMAND)), (batch,))
            z = self._drawn
        bounded = not self._joined_later
        return lambda: self.policy.plan(seen, z, words, self.deterministic, bounded=bounded)[0]

    def _executed(self, plan: Any) -> Any:
        """[B, h, A] of a new plan and those before it."""
        if self.ensemble is None:
            return plan
        if self._plans is None:
            self._plans = self._no_plans(plan)
        executed, self._plans = self._ensembled(plan, self._plans, self._decision - 1)
        return executed if isinstance(plan, jax.Array) else np.asarray(executed)


def check_settings(execute: Any, predict: int, ensemble: float | None, realtime: bool) -> None:
    """Raises RequestError where a controller cannot play chunks of `predict` actions so."""
    if isinstance(execute, bool) or not isinstance(execute, int) or not 1 <= execute <= predict:
        raise RequestError(f"execute = {execute!r} must be from 1 to {predict}, the length of a chunk")
    if ensemble is not None and not ensemble >= 0.0:
        raise RequestError(f"ensemble = {ensemble!r} must be at least 0, or None")
    if ensemble is not None and realtime:
        raise RequestError(
            "ensemble and realtime do not go together: each says how plans that overlap are joined"
        )
    if execute == predict and (realtime or ensemble is not None):
        name = "realtime" if realtime else "ensemble"
        raise RequestError(
            f"{name}: plans do not overlap: execute = {execute} must be below {predict}, the length of a chunk"
        )


@jax.jit
def _folded(words: Any, number: Any) -> Any:
    return jax.random.key_data(jax.random.fold_in(wrapped(words), number))


@functools.partial(jax.jit, static_argnums=2)
def _words_of(words: Any, decision: Any, hold: bool) -> Any:
    """Words of a decision's key, as `Evaluator.run` makes them of its own: the first half of a split."""
    key = wrapped(words)
    return jax.random.key_data(jax.random.fold_in(key if hold else jax.random.fold_in(key, decision), 0))
