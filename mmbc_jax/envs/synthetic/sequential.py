r"""Two binary decisions, one after the other: four modes LL, LR, RL, RR.

From (.5, 0) upwards to y = 1, the 60 positions uniform in y. Between y = .4 and .45 the path moves sideways by
-/+ `first_shift`, between .7 and .75 by another -/+ `second_shift`. Obstacles of half size (.06, .05) at
(.5, .55) and (.5 -/+ first_shift, .88). Source: https://arxiv.org/abs/2605.22493.
"""

from __future__ import annotations

import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.envs.synthetic._path_task import NoisyPath

FORKS, TRANSITION = (0.4, 0.7), 0.05
HALF_SIZE = (0.06, 0.05)


def default_config() -> ConfigDict:
    """noise: standard deviation of the positions; first_shift, second_shift: sideways, at the two forks."""
    return ConfigDict({"noise": 0.012, "first_shift": 0.25, "second_shift": 0.15})


class Sequential(NoisyPath):
    """See the module docstring; mode = 2 * (first to the right) + (second to the right)."""

    shifts = (1, 2)

    def __init__(self, cfg: ConfigDict):
        check_range("env.noise", cfg.noise, 0.0)
        check_range("env.first_shift", cfg.first_shift, 0.0, 0.5, open_low=True)
        check_range("env.second_shift", cfg.second_shift, 0.0, 0.5 - cfg.first_shift, open_low=True)
        super().__init__(cfg, ("LL", "LR", "RL", "RR"), self.POINTS)

    def default_params(self) -> PyTree:
        """noise [], first_shift [], second_shift []."""
        return {name: jnp.asarray(self.cfg[name]) for name in default_config()}

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


@register("env", default_config)
def build(cfg: ConfigDict) -> Sequential:
    """Builds the task; see the module docstring."""
    return Sequential(cfg)
