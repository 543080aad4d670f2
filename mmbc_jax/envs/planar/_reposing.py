r"""An expert that brings a hollow square box to a pose, with a rod from within or from without.

The rod may press against each wall at a few places. Where it presses at r (as seen from the box's centre) by a
displacement d along the wall's normal without slipping, the box moves by

  f = (J D J^T)^-1 d,   delta = D J^T f,   J the rows of the point's motion, D = diag(1, 1, 1 / R^2) (`_sliders`).

With e the error of the pose and <., .> the product with weights (1, 1, W^2), pressing gains <e, delta> a metre and
is best ended after <e, delta> / <delta, delta>. The expert stays at a place as long as it gains more than `STAY` of
what the best place would; else it moves there: within the box straight, from without over the walls.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array

WEIGHT = 0.16  # W [m]; below .12, where the tolerances of the task weigh alike, the last turn comes too late
STAY = 0.5
PLACES = (-0.03, -0.015, 0.0, 0.015, 0.03)  # along a wall [m]
WITHIN, WITHOUT = 0.02, 0.014  # free way before the wall when the rod comes over or down [m]
AT = 0.01  # largest error of where it comes down, along an axis of the box [m]
FLY, PRESS, LEAST = 0.01, 0.01, 0.002  # displacements of a step [m]
NORMALS = np.array([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)])


class Frame(NamedTuple):
    """Sizes of box and rod in m.

    Attributes:
      inner: half width of the cavity.
      outer: half width of the box.
      rod: radius of the rod.
      radius: R of the table's hold.
      top: height of the rod's measured point at which its tip passes the walls.
      low: height at which it presses.
      high: height at which it crosses over them.
    """

    inner: float
    outer: float
    rod: float
    radius: float
    top: float
    low: float
    high: float


def displacement(rod: Array, box: Array, target: Array, within: Array, frame: Frame) -> Array:
    """[3] m of the rod towards the next thing to do; a function of what is observed alone.

    Args:
      rod: [3] m.
      box: [3] pose, m and rad.
      target: [3] likewise.
      within: [] bool whether to press from within.
      frame: see there.
    """
    c, s = jnp.cos(box[2]), jnp.sin(box[2])
    to_box = jnp.stack([jnp.stack([c, s]), jnp.stack([-s, c])])  # from the world's axes to the box's
    here = _times(to_box, rod[:2] - box[:2])
    angle = target[2] - box[2]
    error = jnp.concatenate(
        [_times(to_box, target[:2] - box[:2]), jnp.arctan2(jnp.sin(angle), jnp.cos(angle))[None]]
    )
    sign = jnp.where(within, 1.0, -1.0)  # of the normal along which the rod presses
    wall = jnp.where(within, frame.inner, frame.outer)
    normals = np.repeat(NORMALS, len(PLACES), 0)
    along = np.tile(PLACES, len(NORMALS))
    points = wall * normals + along[:, None] * _left(normals)
    gain, _ = _gain(error, points, sign * normals, frame.radius)
    best = gain.argmax()
    centre = wall - sign * frame.rod  # of the rod where it touches
    free = jnp.where(within, WITHIN, WITHOUT)
    goal = ((centre - sign * free) * normals + along[:, None] * _left(normals))[best]
    # Where it is: the wall that it is nearest to touching, and how much pressing there gains.
    depth = (here * NORMALS).sum(-1)
    aside = (here * _left(NORMALS)).sum(-1)
    slack = sign * (centre - depth)
    close = (slack < free + 0.01) & (slack > -0.01) & (jnp.abs(aside) < frame.outer - 0.01)
    own = wall * NORMALS + aside[:, None] * _left(NORMALS)
    gains, lengths = _gain(error, own, sign * NORMALS, frame.radius)
    gains = jnp.where(close, gains, -jnp.inf)
    face = gains.argmax()
    pressing = gains[face] > STAY * gain[best]
    press = (
        sign
        * jnp.asarray(NORMALS)[face]
        * jnp.clip(jnp.maximum(0.3 * lengths[face], slack[face]), LEAST, PRESS)
    )
    local, height = _phases(rod, here, goal, pressing, press, within, frame)
    lift = jnp.clip(0.5 * (height - rod[2]), -FLY, FLY)
    return jnp.concatenate([_times(to_box.T, local), lift[None]])


def _phases(
    rod: Array, here: Array, goal: Array, pressing: Array, press: Array, within: Array, frame: Frame
) -> tuple[Array, Array]:
    """[2] m in the box's axes and [] m the height to be at."""
    up, down = rod[2] > frame.top + 0.008, rod[2] < frame.top - 0.01
    cavity = jnp.abs(here).max() < frame.inner
    stand = jnp.where(within & ~cavity, jnp.zeros(2), goal)
    toward = 0.5 * (stand - here)
    toward = toward / jnp.maximum(jnp.abs(toward).max() / FLY, 1.0)
    at = jnp.where(
        within, jnp.abs(here).max() < frame.inner - frame.rod - 0.005, jnp.abs(goal - here).max() < AT
    )
    right_side = within == cavity
    # From within the rod stays down and goes straight; from without it goes over the walls.
    move = jnp.where(pressing, press, jnp.where(within, toward, 0.0)) * right_side
    local = jnp.where(down, move, jnp.where(up, toward, 0.0))
    stay_down = right_side & (pressing | within)
    height = jnp.where(down, jnp.where(stay_down, frame.low, frame.high), frame.high)
    coming = at | (~up & ~down & right_side & (pressing | within))
    return local, jnp.where(~down & coming, frame.low, height)


def _gain(error: Array, points: Array, normals: Array, radius: float) -> tuple[Array, Array]:
    """[n] <e, delta> per metre, and [n] m after which to end, pressing at points [n, 2] along normals [n, 2]."""
    x, y = points[:, 0] / radius, points[:, 1] / radius
    a, b, d = 1.0 + y * y, -x * y, 1.0 + x * x
    determinant = a * d - b * b
    fx = (d * normals[:, 0] - b * normals[:, 1]) / determinant
    fy = (a * normals[:, 1] - b * normals[:, 0]) / determinant
    turn = (x * fy - y * fx) / radius
    gain = error[0] * fx + error[1] * fy + WEIGHT**2 * error[2] * turn
    return gain, gain / (fx * fx + fy * fy + WEIGHT**2 * turn * turn)


def _left(x: np.ndarray) -> np.ndarray:
    return np.stack([-x[:, 1], x[:, 0]], -1)


def _times(matrix: Array, x: Array) -> Array:
    """[2] matrix [2, 2] times x [2], in float32 on every device."""
    return (matrix * x).sum(-1)
