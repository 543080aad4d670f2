r"""Two loops, bottom or top: see `_circle`; the observation is the position."""

from __future__ import annotations

from ml_collections import ConfigDict

from mmbc_jax.core.registry import register
from mmbc_jax.envs.synthetic._circle import Circles, circle_config


@register("env", circle_config)
def build(cfg: ConfigDict) -> Circles:
    """Builds the task; see the module docstring."""
    return Circles(cfg)
