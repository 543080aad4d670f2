"""Pictures of boxes and a rod on a table seen from above, drawn on the device: x to the right, y up.

A shape covers a pixel by a = clip(1/2 - d, 0, 1), d the distance in pixels of its middle from the shape's border,
negative inside; a line of half width w by a = clip(1/2 + w - |d|, 0, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array

ROWS = 240
RED, GREEN, BLUE, DARK = (214, 39, 40), (44, 160, 44), (31, 119, 180), (40, 40, 40)
LIGHT_RED, LIGHT_GREEN, LIGHT_BLUE, GREY = (255, 190, 190), (180, 230, 180), (190, 220, 245), (200, 200, 200)
_LINE = 1.0  # half the width of a line [pixels]
_FRAME = 210.0

Colour = tuple[int, int, int] | Array
Box = tuple[tuple[float, float], tuple[float, float]]  # middle and half sides in the frame of a pose


class View:
    """A picture that begins white, within a grey frame of a pixel.

    Args:
      low: least x and y that it shows [m].
      high: the largest.
    """

    def __init__(self, low: tuple[float, float], high: tuple[float, float]):
        self._pixel = (high[1] - low[1]) / ROWS  # m
        columns = 2 * round((high[0] - low[0]) / self._pixel / 2)
        self._x = jnp.asarray(low[0] + self._pixel * (np.arange(columns) + 0.5), jnp.float32)[None, :]
        self._y = jnp.asarray(high[1] - self._pixel * (np.arange(ROWS) + 0.5), jnp.float32)[:, None]
        inside = jnp.full((ROWS - 2, columns - 2, 3), 255.0)
        self.image = jnp.pad(inside, ((1, 1), (1, 1), (0, 0)), constant_values=_FRAME)

    def boxes(self, pose: Array, boxes: Sequence[Box], colour: Colour, edge: Colour | None = None) -> None:
        """Fills boxes that are fixed in a pose [3] (m, rad); with `edge` outlines them in that colour."""
        c, s = jnp.cos(pose[2]), jnp.sin(pose[2])
        x, y = self._x - pose[0], self._y - pose[1]
        u, v = c * x + s * y, c * y - s * x
        for (mx, my), (hx, hy) in boxes:
            a, b = jnp.abs(u - mx) - hx, jnp.abs(v - my) - hy
            outside = jnp.sqrt(jnp.maximum(a, 0.0) ** 2 + jnp.maximum(b, 0.0) ** 2)
            gap = (outside + jnp.minimum(jnp.maximum(a, b), 0.0)) / self._pixel
            self._over(0.5 - gap, colour)
            if edge is not None:
                self._over(0.5 + _LINE - jnp.abs(gap), edge)

    def disc(self, centre: Array, radius: float, colour: Colour) -> None:
        """Fills a disc about `centre` [2] m."""
        away = jnp.sqrt((self._x - centre[0]) ** 2 + (self._y - centre[1]) ** 2)
        self._over(0.5 - (away - radius) / self._pixel, colour)

    def bytes(self) -> Array:
        """[240, columns, 3] uint8."""
        return (self.image + 0.5).astype(jnp.uint8)

    def _over(self, share: Array, colour: Colour) -> None:
        share = jnp.clip(share, 0.0, 1.0)[..., None]
        self.image = self.image + share * (jnp.asarray(colour, jnp.float32) - self.image)


class Side(NamedTuple):
    """A block and the target that is called after it.

    Attributes:
      block: colour of the block.
      target: colour of the target.
    """

    block: Colour
    target: Colour


def two_blocks(
    view: View, sides: tuple[Side, Side], half: float, blocks: Array, targets: Array, size: float
) -> None:
    """Draws targets [2, >= 2] m of half side `size` and over them blocks [2, 3] of half side `half`."""
    for target, side in zip(targets, sides, strict=True):
        pose = jnp.concatenate([target[:2], target[2:3] if len(target) > 2 else jnp.zeros(1)])
        view.boxes(pose, [((0.0, 0.0), (size, size))], side.target)
    for block, side in zip(blocks, sides, strict=True):
        view.boxes(block, [((0.0, 0.0), (half, half))], side.block, DARK)
