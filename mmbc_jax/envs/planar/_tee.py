r"""The T of Push-T: two boxes in one frame, where its points are in the world, and the area that two T's share.

The bar is [-60, 60] x [0, 30] and the stem [-15, 15] x [30, 120] in the frame of the block, in px. A pose is (x, y,
angle) of that frame's origin, the middle of the bar's outer side; the block turns about `CENTRE`.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array

BOXES = (((0.0, 15.0), (60.0, 15.0)), ((0.0, 75.0), (15.0, 45.0)))
"""(centre, half sides) of the bar and of the stem."""
OUTER = ((-60.0, 0.0), (60.0, 0.0), (60.0, 30.0), (-60.0, 30.0), (15.0, 120.0), (-15.0, 120.0))
"""Corners of the convex hull, and the two of the bar within it: what can touch a wall."""
OUTLINE = (
    *((-60.0, 0.0), (60.0, 0.0), (60.0, 30.0), (15.0, 30.0)),
    *((15.0, 120.0), (-15.0, 120.0), (-15.0, 30.0), (-60.0, 30.0)),
)
"""The corners in order, the area on the left of each side."""
CENTRE = (0.0, 45.0)
"""Centre of gravity: the unweighted mean of the centres of the boxes."""
AREA = 6300.0
"""Of the T [px^2]."""
_TINY = 1e-6  # px, of a side along an axis


def placed(pose: Array, points: Sequence[tuple[float, float]]) -> Array:
    """[n, 2] points of the block's frame in the world, under `pose` [3]."""
    c, s = jnp.cos(pose[2]), jnp.sin(pose[2])
    x, y = np.asarray(points, np.float32).T
    return jnp.stack([pose[0] + c * x - s * y, pose[1] + s * x + c * y], -1)


def coverage(pose: Array, goal: Array) -> Array:
    """[] share of the T at `goal` [3] that the T at `pose` [3] covers."""
    c, s = jnp.cos(goal[2]), jnp.sin(goal[2])
    x, y = pose[0] - goal[0], pose[1] - goal[1]
    corners = placed(jnp.stack([c * x + s * y, c * y - s * x, pose[2] - goal[2]]), OUTLINE)
    return sum((_within(corners, *box) for box in BOXES), jnp.zeros(())) / AREA


def _within(corners: Array, centre: tuple[float, float], half: tuple[float, float]) -> Array:
    r"""[] area of a polygon P, corners [n, 2] anticlockwise, within the box |x| <= a, |y| <= b about `centre`.

    With g(x, y) = clip(x, -a, a) 1[|y| <= b], dg/dx is the box's indicator, so by Green's theorem

      area = \oint_{dP} g dy.

    Along a side g is linear between the points where the side crosses x = -a, x = a and y = -b, y = b.
    """
    start = corners - jnp.asarray(centre)
    way = jnp.roll(start, -1, 0) - start
    way = jnp.where(jnp.abs(way) < _TINY, _TINY, way)
    cuts = jnp.stack([(-np.asarray(half) - start) / way, (np.asarray(half) - start) / way])
    low, high = jnp.clip(cuts.min(0), 0.0, 1.0), jnp.clip(cuts.max(0), 0.0, 1.0)  # [n, 2] shares of the side
    first, last = low[:, 1], high[:, 1]
    shares = jnp.stack([first, jnp.clip(low[:, 0], first, last), jnp.clip(high[:, 0], first, last), last])
    x = jnp.clip(start[:, 0] + shares * way[:, 0], -half[0], half[0])
    return (0.5 * (x[1:] + x[:-1]) * jnp.diff(shares, axis=0) * way[:, 1]).sum()


def fitted(points: Sequence[tuple[float, float]], seen: Array) -> Array:
    """[3] the pose under which points of the block's frame lie nearest to `seen` [n, 2], by least squares."""
    local = np.asarray(points, np.float32)
    middle, centre = local.mean(0), seen.mean(0)
    a, b = local - middle, seen - centre
    angle = jnp.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a * b).sum())
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack(
        [centre[0] - c * middle[0] + s * middle[1], centre[1] - s * middle[0] - c * middle[1], angle]
    )
