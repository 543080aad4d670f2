"""An obstacle whose place is traced: a disc in the plane that nothing may touch, none where its radius is 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from mmbc_jax.core.options import Options
from mmbc_jax.core.types import Array

BLOCK = ("block_x", "block_y", "block_radius")
"""Names of its parameters: centre and radius in units of the plotted position."""
_TINY = 1e-12  # squared length of a way that is a point


def gap(params: Mapping[str, Array], start: Array, end: Array) -> Array:
    """[] least distance between the straight way from `start` [2] to `end` [2] and the disc; infinite where none is.

    min_u |start + u (end - start) - c| - r over u in [0, 1]; negative inside.
    """
    centre = jnp.stack([params["block_x"], params["block_y"]])
    way, radius = end - start, params["block_radius"]
    u = jnp.clip(((centre - start) * way).sum() / jnp.maximum((way * way).sum(), _TINY), 0.0, 1.0)
    distance = jnp.sqrt(jnp.square(start + u * way - centre).sum())
    return jnp.where(radius > 0.0, distance - radius, jnp.inf)


def check_block(options: Any, default: Options) -> None:
    """Raises ConfigError where a block is placed that has no radius; `default` has the options' defaults."""
    moved = [name for name in BLOCK[:2] if getattr(options, name) != getattr(default, name)]
    if moved and not options.block_radius:
        raise options.error(moved[0], "a block of block_radius above 0: there is none to place")


def draw_block(ax: Any, options: Any) -> None:
    """The disc, hatched, where there is one."""
    if options.block_radius:
        from matplotlib.patches import Circle

        place, look = (options.block_x, options.block_y), {"facecolor": "none", "edgecolor": "tab:red"}
        ax.add_patch(Circle(place, options.block_radius, hatch="////", zorder=1, **look))
