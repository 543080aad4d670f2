r"""96 x 96 RGB images of Push-T, drawn on the device as the original's camera shows them.

The original draws a picture of 512 x 512 pixels with hard edges and takes 96 x 96 samples of it by bilinear
interpolation, sample i at 512 / 96 (i + 1/2) - 1/2. Here a shape covers a sample by

  a = clip(1 - d, 0, 1),

d the distance in px of the sample from the shape's border, negative inside: what interpolation makes of a hard edge
that has the pixels on the border inside. In this order: walls, goal, disc with a brighter core, and the bar and the
stem with an outline 2 px to either side.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array
from mmbc_jax.envs.planar._tee import BOXES

SIZE = 96
SHAPE = (SIZE, SIZE, 3)
GOAL, WALL = (144, 238, 144), (211, 211, 211)
EDGE, BLOCK = (119, 136, 153), (143, 163, 184)
RING, DISC = (65, 105, 225), (78, 126, 255)
_AT = (np.arange(SIZE) + 0.5) * 512.0 / SIZE - 0.5
_LINE = 2.0  # half the width of a line
_CORE = 4.0  # by which a disc's core is smaller


def render(disc: Array, radius: float, block: Array, goal: Array) -> Array:
    """The picture.

    Args:
      disc: [2] px.
      radius: px.
      block: [3] pose.
      goal: [3] pose.

    Returns:
      [96, 96, 3] uint8.
    """
    x, y = jnp.asarray(_AT, jnp.float32)[None, :], jnp.asarray(_AT, jnp.float32)[:, None]
    image = jnp.broadcast_to(_WALLED, SHAPE)
    for gap in _boxes(x, y, goal):
        image = _over(image, _share(gap), GOAL)
    away = jnp.sqrt((x - disc[0]) ** 2 + (y - disc[1]) ** 2)
    image = _over(_over(image, _share(away - radius), RING), _share(away - radius + _CORE), DISC)
    for gap in _boxes(x, y, block):
        image = _over(_over(image, _share(gap - _LINE), EDGE), _share(gap + _LINE), BLOCK)
    return (image + 0.5).astype(jnp.uint8)


def _boxes(x: Array, y: Array, pose: Array) -> list[Array]:
    """Distance [96, 96] of every sample from the bar and from the stem, negative inside."""
    c, s = jnp.cos(pose[2]), jnp.sin(pose[2])
    u, v = c * (x - pose[0]) + s * (y - pose[1]), c * (y - pose[1]) - s * (x - pose[0])
    found = []
    for (mx, my), (hx, hy) in BOXES:
        a, b = jnp.abs(u - mx) - hx, jnp.abs(v - my) - hy
        outside = jnp.sqrt(jnp.maximum(a, 0.0) ** 2 + jnp.maximum(b, 0.0) ** 2)
        found.append(outside + jnp.minimum(jnp.maximum(a, b), 0.0))
    return found


def _share(gap: Array) -> Array:
    return jnp.clip(1.0 - gap, 0.0, 1.0)


def _over(image: Array, share: Array, colour: tuple[int, int, int]) -> Array:
    return image + share[..., None] * (jnp.asarray(colour, jnp.float32) - image)


def _walled() -> np.ndarray:
    """The picture of the walls alone."""
    middles, inside = np.asarray([5.0, 506.0]), (_AT > 5.0 - 2.5) & (_AT < 506.0 + 2.5)
    near = np.clip(1.0 + _LINE - np.abs(_AT[:, None] - middles).min(-1), 0.0, 1.0)
    share = np.maximum(near[:, None] * inside, near * inside[:, None])[..., None]
    return (255.0 + share * (np.asarray(WALL) - 255.0)).astype(np.float32)


_WALLED = _walled()
