r"""Two binary decisions, one after the other: four modes LL, LR, RL, RR.

From (.5, 0) upwards to y = 1, the 60 positions uniform in y. Between y = .4 and .45 the path moves sideways by
-/+ `first_shift`, between .7 and .75 by another -/+ `second_shift`. Obstacles of half size (.06, .05) at
(.5, .55) and (.5 -/+ first_shift, .88). Source: https://arxiv.org/abs/2605.22493.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.envs.synthetic._noisy_path import NoisyPath, NoisyPathOptions

FORKS, TRANSITION = (0.4, 0.7), 0.05
HALF_SIZE = (0.06, 0.05)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequentialOptions(NoisyPathOptions):
    """Options of the task."""

    noise: float = option(0.012, "standard deviation of the positions", low=0.0)
    first_shift: float = option(0.25, "sideways, at the first fork", low=0.0, high=0.5, open_low=True)
    second_shift: float = option(0.15, "sideways, at the second fork", low=0.0, open_low=True)

    def check(self) -> None:
        """The paths stay in the world."""
        if self.second_shift > 0.5 - self.first_shift:
            raise self.error("second_shift", f"at most 0.5 - first_shift = {0.5 - self.first_shift:g}")


class Sequential(NoisyPath):
    """See the module docstring; mode = 2 * (first to the right) + (second to the right)."""

    shifts = (1, 2)

    def __init__(self, options: SequentialOptions):
        super().__init__(options, ("LL", "LR", "RL", "RR"))

    def default_params(self) -> PyTree:
        """noise [], first_shift [], second_shift []."""
        names = ("noise", "first_shift", "second_shift")
        return {name: jnp.asarray(getattr(self.options, name)) for name in names}

    def point(self, params: PyTree, mode: Array, phase: Array) -> Array:
        """Mean path [..., 2] of `mode` [...] at `phase` [...]."""
        first, second = (jnp.clip((phase - fork) / TRANSITION, 0.0, 1.0) for fork in FORKS)
        x = 0.5 + (2 * (mode // 2) - 1) * params["first_shift"] * first
        x = x + (2 * (mode % 2) - 1) * params["second_shift"] * second
        return jnp.stack(jnp.broadcast_arrays(x, phase), axis=-1)

    def boxes(self, params: PyTree) -> tuple[Array, Array]:
        """(centres [3, 2], half sizes [3, 2])."""
        x = 0.5 + jnp.array([0.0, -1.0, 1.0]) * params["first_shift"]
        centres = jnp.stack([x, jnp.array([0.55, 0.88, 0.88])], axis=-1)
        return centres, jnp.broadcast_to(jnp.array(HALF_SIZE), centres.shape)


@register("env", SequentialOptions)
def build(options: SequentialOptions) -> Sequential:
    """Builds the task; see the module docstring."""
    return Sequential(options)
