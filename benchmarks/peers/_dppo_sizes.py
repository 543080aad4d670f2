"""The numbers of DPPO's iteration on Avoid, for both sides."""

from __future__ import annotations

import dataclasses

GAMMA, LAMBDA, DENOISING_DISCOUNT, CLIP, LEAST_STD, VALUE_WEIGHT = 0.99, 0.95, 0.95, 0.1, 0.1, 0.5
ACTOR_RATE, CRITIC_RATE = 1e-5, 1e-3


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of an iteration.

    Attributes:
      envs: that act side by side.
      decisions: of each, a chunk each.
      tuned: denoising steps that are trained, the last ones.
      epochs: passes.
      batches: gradient steps in a pass.
    """

    envs: int = 50
    decisions: int = 25
    tuned: int = 10
    epochs: int = 10
    batches: int = 2
