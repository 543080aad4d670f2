r"""One smooth path to track: what a clone's small errors grow into when nothing corrects them.

The path is x = .05 + .9 s, y = .5 + A (sin 2 pi s + 1/2 sin 6 pi s), s = t / 99: one mode, no obstacle. It never
crosses itself, so that a policy of the position alone can follow it. Success says no more than that the end was
reached; look at the metric "deviation" over time. The expert is described in `_tracking_task`.
Source: the first, second and fourth experiment of "Behavioral Cloning Breaks in Predictable Ways".
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.envs.synthetic._tracking_task import TrackedPath, TrackedPathOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothPathOptions(TrackedPathOptions):
    """Options of the task."""

    amplitude: float = option(0.2, "A", low=0.0, high=0.4, open_low=True)


class SmoothPath(TrackedPath):
    """See the module docstring."""

    def __init__(self, options: SmoothPathOptions):
        super().__init__(options, ("path",))

    def point(self, params: PyTree, mode: Array, phase: Array) -> Array:
        """Path [..., 2] at `phase` [...]; `mode` [...] is 0."""
        angle = 2 * jnp.pi * phase
        y = 0.5 + params["amplitude"] * (jnp.sin(angle) + 0.5 * jnp.sin(3 * angle))
        return jnp.stack(jnp.broadcast_arrays(0.05 + 0.9 * phase, y, mode)[:2], axis=-1)

    def boxes(self, params: PyTree) -> tuple[Array, Array]:
        """No obstacle: ([0, 2], [0, 2])."""
        return jnp.zeros((0, 2)), jnp.zeros((0, 2))


@register("env", SmoothPathOptions)
def build(options: SmoothPathOptions) -> SmoothPath:
    """Builds the task; see the module docstring."""
    return SmoothPath(options)
