r"""How the episodes of an evaluation are played, where that is not how the policy was trained.

Temporal ensembling (Zhao et al. 2023, ACT): at every control step the actions that the last plans had for it are
averaged, a plan that is a decisions old with weight exp(m a). It smooths one way of doing a task; plans of several
ways it mixes into none of them. Then `hold` is the remedy: every decision of an episode draws the same noise, so that
a policy whose noise chooses the way keeps to it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core.keys import seeded
from mmbc_jax.core.types import Array, Key


@dataclasses.dataclass(frozen=True)
class Playing:
    """See the module docstring.

    Attributes:
      command: z of every episode; None to spread them evenly.
      deterministic: the likeliest action is played instead of a drawn one.
      hold: all decisions of an episode draw with one key.
      ensemble: m of temporal ensembling; None to play every plan as it is.
      starts: seed of the start states, then the same for all stages, runs and seeds; None for those of the run's key.
    """

    command: int | None = None
    deterministic: bool = False
    hold: bool = False
    ensemble: float | None = None
    starts: int | None = None

    @staticmethod
    def of(settings: Any, command: int | None, seed: int) -> Playing:
        """From the section `evaluation`; `seed` is that of the start states where they are to be the same."""
        ensemble = settings.ensemble if settings.ensemble >= 0.0 else None
        starts = seed if settings.paired else None
        return Playing(command, settings.deterministic, settings.hold, ensemble, starts)

    def reset_keys(self, key: Key, episodes: int) -> Key:
        """[B] keys of the start states."""
        if self.starts is not None:
            key = seeded(self.starts)
        return jax.random.split(key, episodes)

    def no_plans(self, shape: Callable[[], tuple[int, ...]], exec_len: int) -> Array:
        """[n, B, H, A] room for the plans that still have something to say, the newest first.

        Args:
          shape: says (B, H, A) of a plan; asked only where plans are kept, since it costs a trace of the policy.
          exec_len: h.
        """
        if self.ensemble is None:
            return jnp.zeros((0,))
        plan = shape()
        return jnp.zeros((math.ceil(plan[1] / exec_len) - 1, *plan))

    def executed(self, chunk: Array, plans: Array, decision: Array, exec_len: int) -> tuple[Array, Array]:
        """What is executed of a new plan.

        Args:
          chunk: [B, H, A] the plan.
          plans: [n, B, H, A] those before it, the newest first.
          decision: [] how many decisions came before.
          exec_len: h.

        Returns:
          (chunk [B, >= h, A] to execute, plans for the next decision).
        """
        if self.ensemble is None or not len(plans):
            return chunk, plans
        length, total, weight = chunk.shape[1], chunk[:, :exec_len], jnp.ones(exec_len)
        for age in range(1, len(plans) + 1):
            ahead = age * exec_len + jnp.arange(exec_len)
            known = (ahead < length) & (age <= decision)
            factor = jnp.where(known, math.exp(self.ensemble * age), 0.0)
            total = total + factor[:, None] * plans[age - 1][:, jnp.minimum(ahead, length - 1)]
            weight = weight + factor
        return total / weight[:, None], jnp.concatenate([chunk[None], plans[:-1]])


AS_TRAINED = Playing()
