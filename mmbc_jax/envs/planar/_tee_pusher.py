r"""Where a disc is led that pushes the T of Push-T onto its goal, on a demanded way to it: no search, no memory.

The block keeps no speed and the disc does not grip it, so a contact with unit push n, r from the block's centre of
gravity, only ever moves the block along one twist. With m the moment, a = r x n and k = 1 + a^2 / m, a disc that goes
by d along n displaces it by d (n, a / m) / k. In the metric |(x, w)|^2 = |x|^2 + m w^2 the error (x, w) to the goal
loses the most, delta^2 / k, at

  d = delta = n x + a w,

what the contact's own point is off. `POINTS` are contacts on every face; their twists span all directions positively.
Each control step takes the contact of the largest (delta / sqrt(k)) / (steps to get there + `PUSH_STEPS`): where the
disc already is costs least, which keeps a plan without remembering it.

On the way there the disc leaves away from the centre of gravity, goes round the block on its convex hull grown by
`CLEARANCE`, and comes in along the normal of the contact's face. Before the first contact the way round and the side
are the mode's. The disc obeys a linear law: a feedback with both poles at `POLE` leads it to a point in fewer steps
than a command of that point does, and without overshooting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array
from mmbc_jax.envs.planar import _quasistatic as physics
from mmbc_jax.envs.planar._tee import CENTRE, OUTER, placed

CLEARANCE = 22.0  # px
SPEED = 30.0  # px per control step, on the way
STRIDE = 40.0  # px, the furthest point that the disc is led to at once
FURTHEST = 30.0  # px, of one push
PUSH_STEPS = 12.0
POLE = 0.2
NEAR = 8.0  # px beside a contact's normal, within which the disc goes straight in
SIDE = 28.0  # px that the first contact keeps from the block's axis
LEAST_TURN = 0.2  # rad gone round at the first contact
FIRST = 10.0  # px that any first contact is worth
FIRST_PUSH = 3.0  # px, the least
_EDGE = (1.0, 511.0)  # px, where the disc can be
_AROUND = 90.0  # px on the way round per rad
_BLOCKED = 600.0  # px that it is worth to avoid one of `_ARCS`, where the world ends too near to the block
_BACK = 0.3  # rad that an entry may lie behind without the disc going all the way round to it
_TURN = 2.0 * np.pi
_ARCS = 32


def _faces() -> tuple[np.ndarray, np.ndarray]:
    """Points on the faces in the block's frame and outward normals, [n, 2] each."""
    rows = [
        *((x, 0.0, 0.0, -1.0) for x in np.linspace(-56.0, 56.0, 9)),
        *((s * x, 30.0, 0.0, 1.0) for s in (-1.0, 1.0) for x in (36.0, 46.0, 56.0)),
        *((x, 120.0, 0.0, 1.0) for x in (-11.0, 0.0, 11.0)),
        *((s * 15.0, y, s, 0.0) for s in (-1.0, 1.0) for y in (52.0, 68.0, 84.0, 100.0, 115.0)),
        *((s * 60.0, y, s, 0.0) for s in (-1.0, 1.0) for y in (5.0, 15.0, 25.0)),
    ]
    table = np.asarray(rows)
    return table[:, :2], table[:, 2:]


def _farthest(inside: Callable[[np.ndarray], np.ndarray], count: int) -> np.ndarray:
    """[count] the largest length within [0, 500] px that is `inside`, by bisection."""
    low, high = np.zeros(count), np.full(count, 500.0)
    for _ in range(50):
        middle = 0.5 * (low + high)
        held = inside(middle)
        low, high = np.where(held, middle, low), np.where(held, high, middle)
    return low


def hull_radius(angles: np.ndarray, grown: float) -> np.ndarray:
    """[n] px from the centre of gravity to the convex hull grown by `grown`, in the directions `angles`."""
    corners = np.asarray(OUTER)[[0, 1, 2, 4, 5, 3]] - CENTRE  # the inside on the left of each side
    ways = np.roll(corners, -1, 0) - corners

    def inside(radius: np.ndarray) -> np.ndarray:
        off = radius[:, None, None] * _rays(angles)[:, None] - corners
        share = np.clip((off * ways).sum(-1) / (ways**2).sum(-1), 0.0, 1.0)
        near = np.linalg.norm(off - share[..., None] * ways, axis=-1).min(-1) < grown
        return near | (ways[:, 0] * off[..., 1] - ways[:, 1] * off[..., 0] >= 0.0).all(-1)

    return _farthest(inside, len(angles))


def _rays(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], -1)


def _gains() -> tuple[float, float]:
    """(p, v): the target lies p off the wanted point per px that the disc does, and v per px/s (Ackermann)."""
    law = physics.DISC_LAW
    led = np.asarray([1.0 - law[0, 0], -law[1, 0]])
    wanted = np.linalg.matrix_power(law - POLE * np.eye(2), 2)
    p, v = np.asarray([0.0, 1.0]) @ np.linalg.inv(np.stack([led, law @ led], -1)) @ wanted
    return -float(p), -float(v)


POINTS, OUT = _faces()
TOUCHING = POINTS + physics.RADIUS * OUT - CENTRE  # the disc at each contact, from the centre of gravity
_ARM = (POINTS[:, 1] - CENTRE[1]) * OUT[:, 0] - (POINTS[:, 0] - CENTRE[0]) * OUT[:, 1]
_ANGLES = np.linspace(-np.pi, np.pi, 257)
_WAY = hull_radius(_ANGLES, physics.RADIUS + CLEARANCE)
_DEPTH = _farthest(
    lambda out: (
        np.hypot(*(at := TOUCHING + out[:, None] * OUT).T)
        < np.interp(np.arctan2(at[:, 1], at[:, 0]), _ANGLES, _WAY)
    ),
    len(OUT),
)
ENTRIES = TOUCHING + _DEPTH[:, None] * OUT  # where the normals leave the way round
_ENTRY_ANGLE, _ANGLE = (np.arctan2(at[:, 1], at[:, 0]) for at in (ENTRIES, TOUCHING))
_ARC_ANGLES = (np.arange(_ARCS) + 0.5) / _ARCS * _TURN - np.pi
_ARC_POINTS = hull_radius(_ARC_ANGLES, physics.RADIUS + 3.0)[:, None] * _rays(_ARC_ANGLES)
_GAINS = _gains()


class Scene(NamedTuple):
    """What a step is decided by.

    Attributes:
      disc: [2] px from the block's centre of gravity, in the block's frame; its `angle` [rad] and `radius` [px].
      centre: [2] px, the centre of gravity in the world.
      frame: [2, 2] takes directions of the block's frame into the world.
      free: [] bool, whether the disc has not touched the block yet.
      sign: [] of the turn that is demanded before.
      swept: [] rad that the disc has gone round the block that way.
    """

    disc: Array
    angle: Array
    radius: Array
    centre: Array
    frame: Array
    free: Array
    sign: Array
    swept: Array

    def world(self, points: Array | np.ndarray) -> Array:
        """[..., 2] points of the block's frame, from its centre of gravity, in the world."""
        return self.centre + points @ self.frame.T


def led_to(
    body: physics.Body, swept: Array, free: Array, goal: Array, mode: Array, moment: Array | float
) -> Array:
    """[2] px, the target of one control step; may lie outside of the world.

    Args:
      body: disc and block.
      swept: [] rad that the disc has gone round the block so far.
      free: [] bool, whether it has not touched the block yet.
      goal: [3] pose.
      mode: [] int, 2 side + turn.
      moment: of inertia [px^2].
    """
    c, s = jnp.cos(body.block[2]), jnp.sin(body.block[2])
    frame = jnp.stack([jnp.stack([c, -s]), jnp.stack([s, c])])
    centre = body.block[:2] + frame @ jnp.asarray(CENTRE)
    disc = (body.disc - centre) @ frame
    sign = jnp.where(mode % 2 == 1, 1.0, -1.0)
    scene = Scene(
        disc, jnp.arctan2(disc[1], disc[0]), jnp.hypot(*disc), centre, frame, free, sign, sign * swept
    )
    delta, gain = _worth(body.block, goal, moment)
    steps, ahead, straight = _ways(scene)
    beyond = scene.world(TOUCHING + 4.0 * OUT)
    reachable = ((beyond > _EDGE[0]) & (beyond < _EDGE[1])).all(-1)
    wrong = free & (jnp.where(mode >= 2, 1.0, -1.0) * TOUCHING[:, 0] < SIDE)
    score = (gain + FIRST * free) / (steps + PUSH_STEPS)
    # Where no contact is left, the nearest on the right side rather than none.
    best = jnp.argmax(jnp.where(reachable & ~wrong, score, -1.0 - steps - 1e4 * wrong))
    depth = jnp.clip(delta[best], FIRST_PUSH * free, FURTHEST)
    push = jnp.asarray(TOUCHING)[best] - jnp.asarray(OUT)[best] * depth
    wanted = jnp.where(straight[best], push, _round(scene, ahead[best], jnp.asarray(ENTRIES)[best]))
    # A start on the block settles the side, not the turn.
    aside = disc + sign * jnp.stack([-disc[1], disc[0]])
    wanted = jnp.clip(scene.world(jnp.where(free & body.touched, aside, wanted)), *_EDGE) - body.disc
    wanted = wanted * jnp.minimum(1.0, STRIDE / jnp.maximum(jnp.hypot(*wanted), 1e-6))
    return body.disc + (1.0 - _GAINS[0]) * wanted + _GAINS[1] * body.disc_velocity


def _worth(block: Array, goal: Array, moment: Array | float) -> tuple[Array, Array]:
    """delta [n] px of each contact, and delta / sqrt(k), 0 where it would have to pull."""
    turn = _wrapped(goal[2] - block[2])
    here, there = placed(block, [CENTRE])[0], placed(goal, [CENTRE])[0]
    c, s = jnp.cos(block[2]), jnp.sin(block[2])
    x, y = there - here
    delta = -OUT @ jnp.stack([c * x + s * y, c * y - s * x]) + _ARM * turn
    return delta, jnp.maximum(delta, 0.0) / jnp.sqrt(1.0 + _ARM**2 / moment)


def _ways(scene: Scene) -> tuple[Array, Array, Array]:
    """Of every contact, [n] each: control steps to it, signed angle to its entry, whether to go straight in."""
    off = scene.disc - TOUCHING
    above, beside = (off * OUT).sum(-1), off[:, 0] * OUT[:, 1] - off[:, 1] * OUT[:, 0]
    arcs = scene.world(_ARC_POINTS)
    blocked = ((arcs < _EDGE[0]) | (arcs > _EDGE[1])).any(-1)

    def along(sign: Array | float, first: float) -> tuple[Array, Array]:
        """Angle >= first to each entry, and what the way costs [px]."""
        left = first + jnp.mod(sign * (_ENTRY_ANGLE - scene.angle) - first, _TURN)
        passed = jnp.mod(sign * (_ARC_ANGLES - scene.angle), _TURN) < left[:, None]
        return left, jnp.abs(left) * _AROUND + (blocked * passed).sum(-1) * _BLOCKED

    (plus, plus_far), (minus, minus_far) = along(1.0, 0.0), along(-1.0, 0.0)
    ahead, far = jnp.where(plus_far <= minus_far, plus, -minus), jnp.minimum(plus_far, minus_far)
    left, left_far = along(scene.sign, -_BACK)
    short = scene.swept + left + scene.sign * _wrapped(_ANGLE - _ENTRY_ANGLE) < LEAST_TURN
    ahead = jnp.where(scene.free, scene.sign * (left + _TURN * short), ahead)
    far = jnp.where(scene.free, left_far + _AROUND * _TURN * short, far)
    turned = scene.swept + scene.sign * _wrapped(_ANGLE - scene.angle) >= LEAST_TURN
    straight = (jnp.abs(beside) < NEAR) & (above > -4.0) & (above < _DEPTH + 1.0) & (turned | ~scene.free)
    leave = jnp.maximum(jnp.interp(scene.angle, _ANGLES, _WAY) - scene.radius, 0.0)
    steps = jnp.where(straight, jnp.maximum(above, 0.0) / SPEED, (leave + far + _DEPTH) / SPEED + 2.0)
    return steps, ahead, straight


def _round(scene: Scene, ahead: Array, entry: Array) -> Array:
    """[2] the next point on the way to an entry that is `ahead` rad round the block."""
    # As far round as the hull can be seen from here, less a margin; outwards first from within.
    most = 0.4 + 0.8 * jnp.arccos(jnp.minimum(110.0 / scene.radius, 1.0))
    outside = jnp.clip(1.0 - (_radius(scene, scene.angle) - scene.radius) / CLEARANCE, 0.0, 1.0)
    step = jnp.clip(ahead, -most, most) * outside
    to = scene.angle + step
    chord = _radius(scene, scene.angle + 0.5 * step) / jnp.cos(0.5 * step)
    reach = jnp.maximum(_radius(scene, to), jnp.where(jnp.abs(step) < 0.5, chord, 0.0))
    point = reach * jnp.stack([jnp.cos(to), jnp.sin(to)])
    return jnp.where((jnp.abs(ahead) < 0.2) & (outside > 0.8), entry, point)


def _radius(scene: Scene, angle: Array) -> Array:
    """[] px from the centre of gravity to the way round, which bends where the world ends."""
    ray = scene.frame @ jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    room = jnp.where(ray > 0.0, _EDGE[1] - scene.centre, scene.centre - _EDGE[0])
    room = room / jnp.maximum(jnp.abs(ray), 1e-6)
    return jnp.minimum(jnp.interp(_wrapped(angle), _ANGLES, _WAY), room.min())


def _wrapped(angle: Array | np.ndarray) -> Array:
    angle = jnp.asarray(angle)
    return angle - _TURN * jnp.round(angle / _TURN)
