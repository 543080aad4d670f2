r"""One smooth path to track: what a clone's small errors grow into when nothing corrects them.

The path is x = .05 + .9 s, y = .5 + A (sin 2 pi s + 1/2 sin 6 pi s), s = t / 99: one mode, no obstacle. It never
crosses itself, so that a policy of the position alone can follow it. Success says no more than that the end was
reached; look at the metric "deviation" over time. The expert is described in `_tracking`.
Source: the first, second and fourth experiment of "Behavioral Cloning Breaks in Predictable Ways".
"""

from __future__ import annotations

import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.envs.synthetic._tracking_task import TrackedPath, tracking_config


def default_config() -> ConfigDict:
    """As `tracking_config`, and amplitude: A."""
    return ConfigDict({**tracking_config(), "amplitude": 0.2})


class SmoothPath(TrackedPath):
    """See the module docstring."""

    def __init__(self, cfg: ConfigDict):
        check_range("env.amplitude", cfg.amplitude, 0.0, 0.4, open_low=True)
        super().__init__(cfg, ("path",))

    def point(self, params: PyTree, mode: Array, phase: Array) -> Array:
        """Path [..., 2] at `phase` [...]; `mode` [...] is 0."""
        angle = 2 * jnp.pi * phase
        y = 0.5 + params["amplitude"] * (jnp.sin(angle) + 0.5 * jnp.sin(3 * angle))
        return jnp.stack(jnp.broadcast_arrays(0.05 + 0.9 * phase, y, mode)[:2], axis=-1)

    def boxes(self, params: PyTree) -> tuple[Array, Array]:
        """No obstacle: ([0, 2], [0, 2])."""
        return jnp.zeros((0, 2)), jnp.zeros((0, 2))


@register("env", default_config)
def build(cfg: ConfigDict) -> SmoothPath:
    """Builds the task; see the module docstring."""
    return SmoothPath(cfg)
