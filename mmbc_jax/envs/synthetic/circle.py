r"""Two loops, bottom or top: see `_circle`; the observation is the position."""

from __future__ import annotations

from mmbc_jax.core.registry import register
from mmbc_jax.envs.synthetic._circle import CircleOptions, Circles


@register("env", CircleOptions)
def build(options: CircleOptions) -> Circles:
    """Builds the task; see the module docstring."""
    return Circles(options)
