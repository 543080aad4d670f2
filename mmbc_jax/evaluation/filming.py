"""Episodes of which every control step is kept, to be looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core.learning import Subject
from mmbc_jax.core.types import Array, Key, PyTree, State
from mmbc_jax.envs import wrappers
from mmbc_jax.evaluation.evaluator import Evaluator


@dataclasses.dataclass(frozen=True)
class Filming:
    """Plays as an evaluator does, one control step at a time.

    Attributes:
      evaluator: whose way of acting and playing it is.
      env: bare, of the same observations.
      observe: observations that a decision sees.
    """

    evaluator: Evaluator
    env: Any
    observe: int

    def run(
        self, subject: Subject, commands: Array, keep: Callable[[State], PyTree]
    ) -> tuple[PyTree, Array, Array, Array]:
        """Plays an episode a command.

        Args:
          subject: the run.
          commands: [B] int32 z.
          keep: function of the state of one instance to what is kept of it.

        Returns:
          (kept [T + 1, B, ...] at every control step, held after the end; success [B] bool; mode [B] int32, -1 for
          a failure; steps [B] int32 until the end).
        """
        one = self.evaluator
        env = wrappers.make(self.env, 1, gamma=1.0, autoreset=None, observe=self.observe)
        key_reset, key_decide = jax.random.split(subject.key)
        key_hold, key_decide = jax.random.split(key_decide) if one.playing.hold else (key_decide, key_decide)
        state = env.reset(one.playing.reset_keys(key_reset, len(commands)))
        obs = subject.normalizer.normalize_obs(state.obs)
        plans = one.playing.no_plans(
            lambda: jax.eval_shape(one.act, subject, key_reset, obs, commands).shape, one.exec_len
        )

        def decide(carry: tuple[State, Array], xs: tuple[Key, Array]) -> tuple[tuple[State, Array], PyTree]:
            state, plans = carry
            key, _ = jax.random.split(xs[0])  # as the evaluator, whose other key is for q
            key = jax.random.clone(key_hold) if one.playing.hold else key
            obs = subject.normalizer.normalize_obs(state.obs)
            chunk = one.act(subject, key, obs, commands)
            chunk, plans = one.playing.executed(chunk, plans, xs[1], one.exec_len)
            actions = subject.normalizer.to_box(chunk)[:, : one.exec_len]

            def step(state: State, action: Array) -> tuple[State, PyTree]:
                return env.step(state, action[:, None]), jax.vmap(keep)(state)

            state, kept = jax.lax.scan(step, state, jnp.moveaxis(actions, 1, 0))
            return (state, plans), kept

        decisions = -(-one.length // one.exec_len)
        keys = (jax.random.split(key_decide, decisions), jnp.arange(decisions))
        (last, _), kept = jax.lax.scan(decide, (state, plans), keys)
        final = jax.vmap(keep)(last)
        kept = jax.tree.map(lambda x, y: jnp.concatenate([x.reshape(-1, *x.shape[2:]), y[None]]), kept, final)
        success = (last.metrics["success"] > 0) & (last.done > 0)
        mode = jnp.where(success, last.info["final_mode"], -1)
        return kept, success, mode, last.info["final_steps"]
