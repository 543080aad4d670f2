r"""Two loops that share their start and end: geometry of the circle tasks.

Two circles of radius R around (.5, .5 -/+ R) touch in (.5, .5), where every path starts and, after one full
clockwise turn, ends. In each circle's centre stands a box of half size (.4 R, .25 R), (.08, .05) at R = .2.
Source: https://arxiv.org/abs/2605.22493.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.options import option
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.envs.synthetic._noisy_path import NoisyPath, NoisyPathOptions
from mmbc_jax.envs.synthetic._path_task import PLANE

NAMES = ("bottom", "top")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CircleOptions(NoisyPathOptions):
    """Options of the circle tasks."""

    noise: float = option(0.008, "standard deviation of the positions", low=0.0)
    radius: float = option(0.2, "R", low=0.0, high=0.25, open_low=True)


class Circles(NoisyPath):
    """See the module docstring; mode 0 is the bottom circle, mode 1 the top one."""

    options: CircleOptions

    def __init__(self, options: CircleOptions, vector: ObsSpec = PLANE):
        super().__init__(options, NAMES, vector=vector)

    def default_params(self) -> PyTree:
        """noise [], radius []."""
        return {"noise": jnp.asarray(self.options.noise), "radius": jnp.asarray(self.options.radius)}

    def point(self, params: PyTree, mode: Array, phase: Array) -> Array:
        """Mean path [..., 2] of `mode` [...] at `phase` [...]."""
        side = 2.0 * mode - 1.0
        angle = -side * jnp.pi / 2 - 2 * jnp.pi * phase
        x, y = jnp.cos(angle), side + jnp.sin(angle)
        return 0.5 + params["radius"] * jnp.stack(jnp.broadcast_arrays(x, y), axis=-1)

    def boxes(self, params: PyTree) -> tuple[Array, Array]:
        """(centres [2, 2], half sizes [2, 2])."""
        centres = 0.5 + params["radius"] * jnp.array([(0.0, -1.0), (0.0, 1.0)])
        return centres, jnp.broadcast_to(params["radius"] * jnp.array([0.4, 0.25]), (2, 2))
