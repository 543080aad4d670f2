r"""64 x 64 RGB images of the planar path tasks, drawn on the device.

Pixel (i, j) covers x in [j, j + 1] / 64 and y in 1 - [i, i + 1] / 64: row 0 is the top of the world [0, 1]^2. On a
white ground obstacles are grey and the point is a black disc,

  image = ground (1 - a),   a = clip(r + 1/2 - d, 0, 1),

d the distance in pixels of a pixel's centre from the point and r = 2.5. The soft border makes the image a continuous
function of the position: the centroid of a is the position within a twentieth of a pixel, where the disc lies within
the image and off black. Obstacles are drawn by the share of the pixel that they cover.

The ground depends on the episode's parameters alone and is drawn once (`ground`); a frame (`render`) copies it and
redraws the 8 x 8 pixels around the point, so its cost is that of writing 12,288 bytes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mmbc_jax.core.types import Array

SIZE = 64
SHAPE = (SIZE, SIZE, 3)
RADIUS = 2.5  # of the disc, in pixels
WHITE, GREY, GOAL = (255, 255, 255), (160, 160, 160), (140, 220, 140)
_PATCH = 8  # pixels a side; a disc of radius 3 anywhere in the two central ones fits


def ground(centres: Array, halves: Array, goal: tuple[Array, Array] | None = None) -> Array:
    """The image without the point.

    Args:
      centres: [n, 2] of the obstacles, which are axis-aligned boxes.
      halves: [n, 2] half their sides; a negative one is no obstacle.
      goal: centre [2] and radius [] of a disc that is green, under the obstacles: what a context asks for.

    Returns:
      [64, 64, 3] uint8.
    """
    image = jnp.broadcast_to(jnp.array(WHITE, jnp.float32), SHAPE)
    if goal is not None:
        image = _blend(image, _disc(_pixels(goal[0]), SIZE * goal[1], jnp.arange(SIZE)[:, None]), GOAL)
    middle, half = _pixels(centres), SIZE * halves[:, ::-1]
    edge = jnp.arange(SIZE)[:, None, None]
    covered = jnp.minimum(middle + half, edge + 1) - jnp.maximum(middle - half, edge)
    covered = jnp.maximum(covered, 0.0)  # [64, n, 2] of each row and column
    boxes = (covered[:, None, :, 0] * covered[..., 1]).max(-1)
    return _rounded(_blend(image, boxes, GREY))


def render(position: Array, image: Array) -> Array:
    """Draws the point.

    Args:
      position: [..., 2] in the world [0, 1]^2.
      image: [..., 64, 64, 3] uint8, the ground; leading axes broadcast with the position's.

    Returns:
      [..., 64, 64, 3] uint8.
    """
    return jnp.vectorize(_draw, signature="(p),(h,w,c)->(h,w,c)")(position, image)


def _draw(position: Array, image: Array) -> Array:
    """`image` [64, 64, 3] with the point at `position` [2]."""
    centre = _pixels(position)
    corner = jnp.clip(jnp.floor(centre).astype(jnp.int32) - _PATCH // 2, 0, SIZE - _PATCH)
    at = (corner[0], corner[1], 0)
    patch = jax.lax.dynamic_slice(image, at, (_PATCH, _PATCH, 3))
    disc = _disc(centre, RADIUS, jnp.arange(_PATCH)[:, None] + corner)
    return jax.lax.dynamic_update_slice(image, _rounded(patch * (1.0 - disc[..., None])), at)


def _pixels(position: Array) -> Array:
    """[..., 2] row and column of `position` [..., 2], in pixels from the top left corner."""
    return SIZE * jnp.stack([1.0 - position[..., 1], position[..., 0]], axis=-1)


def _disc(centre: Array, radius: Array | float, pixels: Array) -> Array:
    """[n, n] share of a soft disc; `centre` [2] in pixels, `pixels` [n, 1 or 2] their rows and columns."""
    row, column = jnp.broadcast_to((pixels + 0.5 - centre) ** 2, (pixels.shape[0], 2)).T
    return jnp.clip(radius + 0.5 - jnp.sqrt(row[:, None] + column), 0.0, 1.0)


def _blend(image: Array, share: Array, colour: tuple[int, int, int]) -> Array:
    """`image` [n, n, 3] covered to `share` [n, n] by `colour`."""
    return image + share[..., None] * (jnp.array(colour, jnp.float32) - image)


def _rounded(image: Array) -> Array:
    """Nearest uint8."""
    return (image + 0.5).astype(jnp.uint8)
