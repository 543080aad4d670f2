r"""Where a disc is led that pushes the T of Push-T onto its goal, on a demanded way to it: no search, no memory.

The block keeps no speed and the disc has no friction, so a contact with unit push n, r from the block's centre of
gravity, only ever moves the block along one twist. With m the moment, a = r x n and k = 1 + a^2 / m, a disc that goes
by d along n displaces it by d (n, a / m) / k. In the metric |(x, w)|^2 = |x|^2 + m w^2 the error e = (x, w) to the goal
loses the most, delta^2 / k, after

  delta = n x + a w,

what the contact's own point is off. `POINTS` are contacts on every face. Each step takes the one of the largest
(delta / sqrt(k)) / (steps to get there + `PUSH_STEPS`): the sum of a few such pushes spans every direction, and a
contact that the disc is at already costs least, so that the plan needs no memory to be kept.

On the way the disc goes outwards from the centre of gravity, round the block on its convex hull `CLEARANCE` px away,
and in along the normal of the contact's face. Before the first contact the way round and the side are the mode's.

The disc obeys a linear law, so a feedback with poles at `POLE` leads it to a point faster than a command of that point.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array
from mmbc_jax.envs.planar import _quasistatic as physics
from mmbc_jax.envs.planar._tee import CENTRE, OUTER

CLEARANCE = 10.0  # px
PUSH_STEPS = 6.0
SPEED = 30.0  # px per control step, on the way
STRIDE = 40.0  # px, the furthest point that the disc is led to at once
FURTHEST = 30.0  # px, of one push
POLE = 0.2
NEAR = 8.0  # px beside a contact's normal, within which the disc goes straight in
SIDE = 20.0  # px that the first contact keeps from the block's axis
LEAST_TURN = 0.12  # rad gone round at the first contact
_EDGE = 1.0, 511.0  # px, where the disc can be
_BLOCKED = 600.0  # px: what an arc of the way costs that is outside
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


def _hull(angles: np.ndarray, away: float) -> np.ndarray:
    """[n] distance from the centre of gravity to the convex hull grown by `away`, in the directions `angles`."""
    corners = np.asarray(OUTER)[[0, 1, 2, 4, 5, 3]] - CENTRE  # anticlockwise
    ways = np.roll(corners, -1, 0) - corners
    rays = np.stack([np.cos(angles), np.sin(angles)], -1)
    low, high = np.zeros(len(angles)), np.full(len(angles), 500.0)
    for _ in range(50):
        middle = 0.5 * (low + high)
        off = middle[:, None, None] * rays[:, None] - corners
        share = np.clip((off * ways).sum(-1) / (ways**2).sum(-1), 0.0, 1.0)
        gap = np.linalg.norm(off - share[..., None] * ways, axis=-1).min(-1)
        within = (ways[:, 0] * off[..., 1] - ways[:, 1] * off[..., 0] >= 0.0).all(-1)
        inside = within | (gap < away)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return 0.5 * (low + high)


def _gains() -> tuple[float, float]:
    """(p, v): the target lies p off the wanted point per px that the disc does, and v per px/s, both negative."""
    dt = physics.DT
    once = np.asarray(
        [
            [1.0 - physics.STIFFNESS * dt * dt, dt * (1.0 - physics.BRAKE * dt)],
            [-physics.STIFFNESS * dt, 1.0 - physics.BRAKE * dt],
        ]
    )
    step = np.linalg.matrix_power(once, physics.SUBSTEPS)
    led = np.asarray([1.0 - step[0, 0], -step[1, 0]])
    wanted = (step - POLE * np.eye(2)) @ (step - POLE * np.eye(2))
    row = np.asarray([0.0, 1.0]) @ np.linalg.inv(np.stack([led, step @ led], -1)) @ wanted
    return -float(row[0]), -float(row[1])


POINTS, OUT = _faces()
TOUCHING = POINTS + physics.RADIUS * OUT - CENTRE  # the disc at each contact, from the centre of gravity
_ARM = -(POINTS - CENTRE)[:, 0] * OUT[:, 1] + (POINTS - CENTRE)[:, 1] * OUT[:, 0]
_ANGLES = np.linspace(-np.pi, np.pi, 257)
_WAY = _hull(_ANGLES, physics.RADIUS + CLEARANCE)
_ARC_ANGLES = (np.arange(_ARCS) + 0.5) / _ARCS * _TURN - np.pi
_ARC_POINTS = _hull(_ARC_ANGLES, physics.RADIUS + 3.0)[:, None] * np.stack(
    [np.cos(_ARC_ANGLES), np.sin(_ARC_ANGLES)], -1
)


def _entries() -> np.ndarray:
    """[n, 2] where the normal of each contact leaves the way round."""
    low, high = np.zeros(len(OUT)), np.full(len(OUT), 300.0)
    for _ in range(50):
        middle = 0.5 * (low + high)
        at = TOUCHING + middle[:, None] * OUT
        inside = np.hypot(*at.T) < np.interp(np.arctan2(at[:, 1], at[:, 0]), _ANGLES, _WAY)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return TOUCHING + low[:, None] * OUT


ENTRIES = _entries()
_DEPTH = ((ENTRIES - TOUCHING) * OUT).sum(-1)
_ENTRY_ANGLE = np.arctan2(ENTRIES[:, 1], ENTRIES[:, 0])
_LAST_TURN = (np.arctan2(TOUCHING[:, 1], TOUCHING[:, 0]) - _ENTRY_ANGLE + np.pi) % _TURN - np.pi
_GAIN_P, _GAIN_V = _gains()


def led_to(body: physics.Body, swept: Array, free: Array, goal: Array, mode: Array, moment: Array | float) -> Array:
    """[2] px, the target of one control step; may lie outside of the world.

    Args:
      body: disc and block.
      swept: [] rad that the disc has gone round the block so far.
      free: [] bool, whether it has not touched the block yet.
      goal: [3] pose.
      mode: [] int, 2 side + turn.
      moment: of inertia [px^2].
    """
    turned = jnp.asarray([[1.0, 0.0], [0.0, 1.0]]) * jnp.cos(body.block[2])
    turned = turned + jnp.asarray([[0.0, -1.0], [1.0, 0.0]]) * jnp.sin(body.block[2])  # block to world
    centre = body.block[:2] + turned @ jnp.asarray(CENTRE)
    disc = (body.disc - centre) @ turned
    delta, gain = _worth(body.block, goal, moment)
    offset, beside = _seen_from(disc)
    near = (jnp.abs(beside) < NEAR) & (offset > -4.0) & (offset < _DEPTH + 1.0)
    steps, ahead, straight = _ways(disc, offset, near, swept, free, mode, centre, turned)
    pre = centre + (TOUCHING + 4.0 * OUT) @ turned.T
    reachable = ((pre > _EDGE[0]) & (pre < _EDGE[1])).all(-1)
    score = gain / (steps + PUSH_STEPS)
    side = jnp.where(mode >= 2, 1.0, -1.0) * TOUCHING[:, 0] > SIDE
    allowed = reachable & (side | ~free)
    # Before the first contact any contact of the demanded side will do, the nearest rather than none.
    score = jnp.where(free, (gain + 10.0) / (steps + PUSH_STEPS), score)
    best = jnp.argmax(jnp.where(allowed, score, -1.0 - steps - 1e4 * (free & ~side)))
    at, out, entry = (jnp.asarray(table)[best] for table in (TOUCHING, OUT, ENTRIES))
    push = at - out * jnp.clip(jnp.where(free, jnp.maximum(delta[best], 3.0), delta[best]), 0.0, FURTHEST)
    wanted = jnp.where(straight[best], push, _round(disc, ahead[best], entry, centre, turned))
    # A start on the block settles the side, not the turn.
    sign = jnp.where(mode % 2 == 1, 1.0, -1.0)
    wanted = jnp.where(free & body.touched, disc + sign * jnp.stack([-disc[1], disc[0]]), wanted)
    wanted = jnp.clip(centre + turned @ wanted, *_EDGE)
    off = wanted - body.disc
    wanted = body.disc + off * jnp.minimum(1.0, STRIDE / jnp.maximum(jnp.hypot(*off), 1e-6))
    return wanted + _GAIN_P * (body.disc - wanted) + _GAIN_V * body.disc_velocity


def _worth(block: Array, goal: Array, moment: Array | float) -> tuple[Array, Array]:
    """delta [n] px of each contact, and delta / sqrt(k)."""
    c, s = jnp.cos(block[2]), jnp.sin(block[2])
    w = goal[2] - block[2]
    w = w - _TURN * jnp.round(w / _TURN)
    gc, gs = jnp.cos(goal[2]), jnp.sin(goal[2])
    x = goal[0] - block[0] - CENTRE[1] * (gs - s)
    y = goal[1] - block[1] + CENTRE[1] * (gc - c)
    local = jnp.stack([c * x + s * y, c * y - s * x])
    delta = -OUT @ local + _ARM * w
    return delta, jnp.maximum(delta, 0.0) / jnp.sqrt(1.0 + _ARM**2 / moment)


def _seen_from(disc: Array) -> tuple[Array, Array]:
    """Of the disc, [n] px each: outside of every contact along its normal, and beside that."""
    off = disc - TOUCHING
    return (off * OUT).sum(-1), off[:, 0] * OUT[:, 1] - off[:, 1] * OUT[:, 0]


def _ways(
    disc: Array, offset: Array, near: Array, swept: Array, free: Array, mode: Array, centre: Array, turned: Array
) -> tuple[Array, Array, Array]:
    """Of every contact, [n] each: control steps to it, signed angle to its entry, whether to go straight in."""
    angle = jnp.arctan2(disc[1], disc[0])
    sign = jnp.where(mode % 2 == 1, 1.0, -1.0)
    radius = jnp.hypot(*disc)
    leave = jnp.maximum(jnp.interp(angle, _ANGLES, _WAY) - radius, 0.0)
    world = centre + _ARC_POINTS @ turned.T
    blocked = ((world < _EDGE[0]) | (world > _EDGE[1])).any(-1)

    def along(way: Array | float, first: Array | float) -> tuple[Array, Array]:
        left = way * (_ENTRY_ANGLE - angle)
        left = left - _TURN * jnp.floor((left - first) / _TURN)
        passed = way * (_ARC_ANGLES - angle)
        passed = passed - _TURN * jnp.floor(passed / _TURN)
        cost = (blocked * (passed < left[:, None])).sum(-1) * _BLOCKED
        return left, jnp.abs(left) * 90.0 + cost

    (plus, far_plus), (minus, far_minus) = along(1.0, 0.0), along(-1.0, 0.0)
    ahead, far = jnp.where(far_plus <= far_minus, plus, -minus), jnp.minimum(far_plus, far_minus)
    # With the turn demanded: a little back is not all the way round.
    left, far_left = along(sign, -0.3)
    total = sign * (swept + _LAST_TURN) + left
    again = total < LEAST_TURN
    left, far_left = left + _TURN * again, far_left + 90.0 * _TURN * again
    ahead, far = jnp.where(free, sign * left, ahead), jnp.where(free, far_left, far)
    reached = sign * (swept + jnp.arctan2(TOUCHING[:, 1], TOUCHING[:, 0]) - angle)
    reached = sign * swept + _wrapped(reached - sign * swept) >= LEAST_TURN
    straight = near & (reached | ~free)
    there = (leave + far + _DEPTH) / SPEED + 2.0
    return jnp.where(straight, jnp.maximum(offset, 0.0) / SPEED, there), ahead, straight


def _wrapped(angle: Array) -> Array:
    return angle - _TURN * jnp.round(angle / _TURN)


def _radius(angle: Array, centre: Array, turned: Array) -> Array:
    """[] px from the centre of gravity to the way round, which bends where the world ends."""
    ray = turned @ jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    room = jnp.where(ray > 0.0, _EDGE[1] - centre, centre - _EDGE[0]) / jnp.maximum(jnp.abs(ray), 1e-6)
    return jnp.minimum(jnp.interp(_wrapped(angle), _ANGLES, _WAY), room.min())


def _round(disc: Array, ahead: Array, entry: Array, centre: Array, turned: Array) -> Array:
    """[2] the next point on the way to an entry that is `ahead` rad round the block."""
    angle, radius = jnp.arctan2(disc[1], disc[0]), jnp.hypot(*disc)
    lack = _radius(angle, centre, turned) - radius
    most = 0.4 + 0.8 * jnp.arccos(jnp.minimum(110.0 / radius, 1.0))
    outside = jnp.clip(1.0 - lack / CLEARANCE, 0.0, 1.0)
    step = jnp.clip(ahead, -most, most) * outside
    between = _radius(angle + 0.5 * step, centre, turned) / jnp.cos(0.5 * step)
    reach = _radius(angle + step, centre, turned)
    reach = jnp.where(jnp.abs(step) < 0.5, jnp.maximum(reach, between), reach)
    point = reach * jnp.stack([jnp.cos(angle + step), jnp.sin(angle + step)])
    return jnp.where((jnp.abs(ahead) < 0.2) & (outside > 0.8), entry, point)
