r"""A kinematic disc pushes a T of two boxes between four walls: the impulses of Chipmunk, for one instance.

Push-T runs on the rigid-body engine Chipmunk with `space.damping` 0: whatever the block's velocity was, a step
starts from rest and keeps what the contacts give it, so the motion is quasi-static. One substep of dt, in the
engine's order:

  disc       v += (stiffness (target - p) - brake v) dt,   p += v dt
  block      q += (u + b) dt,   u and b the velocities that the last substep solved for; then u *= damping^dt, b = 0
  contacts   disc against each box, at the box's point that is nearest to the disc's centre; for each axis the two
             corners that are deepest in a wall. With n the normal into the block, r the point as seen from the
             block's centre of gravity, d <= 0 the gap and k = 1 + (r x n)^2 / moment, the mass of the block being 1,
  impulses   `SWEEPS` times over the contacts, h from 0, l (and g) from what the last substep came to,
               l <- max(l + (n v - n u(r)) / k, 0)       what touches does not approach
               h <- max(h + (push - n b(r)) / k, 0)      what overlaps parts, push = BIAS max(-d - SLOP, 0) / dt
             and with friction f along the tangent t of a contact with the disc, k as above with t for n,
               g <- clip(g + (t v - t u(r)) / k, -f l, f l).

Away from the walls this is the engine to rounding. The walls are half planes here: a block that is pressed against
one stays, where the engine's thin segments let it through in the end. Not taken over is what the task has none of
(restitution, joints, sleep). Units: px, s, rad.

Source: the published algorithm of Chipmunk 7 (`cpSpaceStep`, `cpArbiter`, `cpCollision`) at the defaults that
gym-pusht leaves as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array
from mmbc_jax.envs.planar._tee import BOXES, CENTRE, OUTER

DT, SUBSTEPS = 0.01, 10
SWEEPS = 10
SLOP = 0.1
BIAS = 1.0 - (1.0 - 0.1) ** (60.0 * DT)
RADIUS = 15.0  # of the disc
STIFFNESS, BRAKE = 100.0, 20.0
WALLS = (7.0, 504.0)  # inner faces of segments at 5 and 506 with radius 2
MOMENT = 3000.0
DISC_LAW = np.linalg.matrix_power(
    [[1.0 - STIFFNESS * DT * DT, DT * (1.0 - BRAKE * DT)], [-STIFFNESS * DT, 1.0 - BRAKE * DT]], SUBSTEPS
)
"""M of a control step of the disc, (p, v) - (target, 0) -> M ((p, v) - (target, 0))."""
_TINY = 1e-9

Numbers = tuple[Array, Array, Array]


class Body(NamedTuple):
    """What moves.

    Attributes:
      disc: [2] position [px].
      disc_velocity: [2] px/s.
      block: [3] pose: x, y of the frame's origin [px], angle [rad].
      velocity: [3] u: of the block's centre of gravity [px/s] and its turn [rad/s].
      parting: [3] b, likewise.
      touched: [] bool whether the disc touched the block in the last control step.
      impulses: [8] l of the contacts, those of the disc first, and g of the disc's: where the next substep starts.
      met: [2] where the disc was when it first did, or is where it did not.
    """

    disc: Array
    disc_velocity: Array
    block: Array
    velocity: Array
    parting: Array
    touched: Array
    impulses: Array
    met: Array


class BlockDynamics(NamedTuple):
    """What the task does not vary: moment [px^2], friction, and damping, the share of u that a second leaves."""

    moment: Array | float = MOMENT
    friction: Array | float = 0.0
    damping: Array | float = 0.0


class Contact(NamedTuple):
    """One contact, every field []: n, r x n, r n, n v, t v, the push, 1 / k of the normal and of the tangent.

    Both of the last are 0 where the gap is above 0.
    """

    nx: Array
    ny: Array
    arm: Array
    lever: Array
    meets: Array
    slides: Array
    push: Array
    mass: Array
    grip: Array


def at_rest(disc: Array, disc_velocity: Array, block: Array, dynamics: BlockDynamics | None = None) -> Body:
    """A body whose block has the velocities that its contacts give it from rest."""
    zero = jnp.zeros((3,))
    return _solved(
        Body(disc, disc_velocity, block, zero, zero, jnp.zeros((), bool), jnp.zeros(8), disc), dynamics
    )


def control_step(body: Body, target: Array, dynamics: BlockDynamics | None = None) -> Body:
    """The body `SUBSTEPS` later, the disc led to `target` [2]; None for the task's own dynamics."""
    start = body._replace(touched=jnp.zeros_like(body.touched))
    return jax.lax.fori_loop(0, SUBSTEPS, lambda _, now: _substep(now, target, dynamics), start)


def left_velocity(before: Array, after: Array, target: Array) -> Array:
    """[..., 2] velocity of the disc after a control step that took it from `before` to `after` under `target`.

    The first row of `DISC_LAW` tells the velocity that the disc came with, the second the one that it leaves with.
    """
    (a, b), (c, d) = DISC_LAW
    start, end = before - target, after - target
    return c * start + d * (end - a * start) / b


def _substep(body: Body, target: Array, dynamics: BlockDynamics | None) -> Body:
    velocity = body.disc_velocity
    velocity = velocity + (STIFFNESS * (target - body.disc) - BRAKE * velocity) * DT
    block = _moved(body.block, body.velocity + body.parting)
    moved = body._replace(disc=body.disc + velocity * DT, disc_velocity=velocity, block=block)
    return _solved(moved, dynamics)


def _moved(pose: Array, velocity: Array) -> Array:
    """[3] the pose after `DT`, its centre of gravity displaced by the velocity."""
    x, y, angle = pose
    turned = angle + velocity[2] * DT
    (old_x, old_y), (new_x, new_y) = (_turned(*CENTRE, jnp.cos(a), jnp.sin(a)) for a in (angle, turned))
    return jnp.stack([x + velocity[0] * DT + old_x - new_x, y + velocity[1] * DT + old_y - new_y, turned])


def _turned(x: Array | float, y: Array | float, c: Array, s: Array) -> tuple[Array, Array]:
    """(x, y) turned by the angle of cosine c and sine s."""
    return c * x - s * y, s * x + c * y


def _solved(body: Body, dynamics: BlockDynamics | None) -> Body:
    """The body with the block's velocities that its contacts give."""
    known = BlockDynamics() if dynamics is None else dynamics
    disc, walls = _disc_contacts(body, known.moment), _wall_contacts(body, known.moment)
    contacts, zero = (*disc, *walls), jnp.zeros(())
    rough = () if dynamics is None else disc

    def sweep(_: int, carry: tuple) -> tuple:
        u, b, impulses, grips = carry
        new, held = [], []
        for i, (contact, (normal, parting)) in enumerate(zip(contacts, impulses, strict=True)):
            before = u
            u, normal = _normal(u, normal, contact, contact.meets, known.moment)
            b, parting = _normal(b, parting, contact, contact.push, known.moment)
            if i < len(rough):
                u, grip = _tangent(u, before, grips[i], known.friction * normal, contact, known.moment)
                held.append(grip)
            new.append((normal, parting))
        return u, b, tuple(new), tuple(held)

    rest: Numbers = (zero, zero, zero)
    kept = rest
    if dynamics is not None:
        share = known.damping**DT
        kept = tuple(share * v for v in body.velocity)
    old = [jnp.where(c.mass > 0.0, body.impulses[i], 0.0) for i, c in enumerate((*contacts, *rough))]
    for contact, normal in zip(contacts, old, strict=False):
        kept = _pushed(kept, normal, contact, known.moment)
    for contact, grip in zip(rough, old[len(contacts) :], strict=True):
        kept = _dragged(kept, grip, contact, known.moment)
    start = (
        kept,
        rest,
        tuple((normal, zero) for normal in old[: len(contacts)]),
        tuple(old[len(contacts) :]),
    )
    u, b, normals, grips = jax.lax.fori_loop(0, SWEEPS, sweep, start)
    impulses = jnp.stack([*(normal for normal, _ in normals), *(grips or (zero, zero))])
    touched = body.touched | (disc[0].mass > 0.0) | (disc[1].mass > 0.0)
    met = jnp.where(body.touched, body.met, body.disc)
    return body._replace(
        velocity=jnp.stack(u), parting=jnp.stack(b), touched=touched, impulses=impulses, met=met
    )


def _normal(
    u: Numbers, impulse: Array, contact: Contact, wanted: Array, moment: Array | float
) -> tuple[Numbers, Array]:
    """Velocity and impulse once the velocity along n is at least `wanted`."""
    speed = contact.nx * u[0] + contact.ny * u[1] + contact.arm * u[2]
    new = jnp.maximum(impulse + (wanted - speed) * contact.mass, 0.0)
    return _pushed(u, new - impulse, contact, moment), new


def _tangent(
    u: Numbers, before: Numbers, impulse: Array, most: Array, contact: Contact, moment: Array | float
) -> tuple[Numbers, Array]:
    """Velocity and impulse along t = (-ny, nx), of at most `most`; the engine looks at the velocity `before`."""
    speed = contact.nx * before[1] - contact.ny * before[0] + contact.lever * before[2]
    new = jnp.clip(impulse + (contact.slides - speed) * contact.grip, -most, most)
    return _dragged(u, new - impulse, contact, moment), new


def _pushed(u: Numbers, change: Array, contact: Contact, moment: Array | float) -> Numbers:
    """Velocity after an impulse along n."""
    return (
        u[0] + contact.nx * change,
        u[1] + contact.ny * change,
        u[2] + contact.arm * change / moment,
    )


def _dragged(u: Numbers, change: Array, contact: Contact, moment: Array | float) -> Numbers:
    """Velocity after an impulse along t."""
    return (
        u[0] - contact.ny * change,
        u[1] + contact.nx * change,
        u[2] + contact.lever * change / moment,
    )


def _contact(normal: tuple, point: tuple, velocity: tuple, gap: Array, moment: Array | float) -> Contact:
    """From n, r, the velocity of what touches the block, and the gap."""
    (nx, ny), (rx, ry), (vx, vy) = normal, point, velocity
    arm, lever = rx * ny - ry * nx, rx * nx + ry * ny
    inverse = nx * nx + ny * ny
    mass, grip = (jnp.where(gap <= 0.0, 1.0 / (inverse + a * a / moment), 0.0) for a in (arm, lever))
    push = BIAS / DT * jnp.maximum(-gap - SLOP, 0.0)
    return Contact(nx, ny, arm, lever, nx * vx + ny * vy, nx * vy - ny * vx, push, mass, grip)


def _disc_contacts(body: Body, moment: Array | float) -> list[Contact]:
    """Of the disc and each box."""
    x, y, angle = body.block
    c, s = jnp.cos(angle), jnp.sin(angle)
    local_x, local_y = _turned(body.disc[0] - x, body.disc[1] - y, c, -s)
    found = []
    for (mx, my), (hx, hy) in BOXES:
        dx, dy = local_x - mx, local_y - my
        qx, qy = jnp.clip(dx, -hx, hx), jnp.clip(dy, -hy, hy)
        ex, ey = dx - qx, dy - qy
        away = jnp.sqrt(ex * ex + ey * ey)
        inside, scale = away < _TINY, 1.0 / jnp.maximum(away, _TINY)
        # A centre within the box leaves by the nearest side.
        depth_x, depth_y = hx - jnp.abs(dx), hy - jnp.abs(dy)
        by_x, by_y = inside & (depth_x < depth_y), inside & (depth_x >= depth_y)
        side_x, side_y = jnp.where(dx < 0.0, -1.0, 1.0), jnp.where(dy < 0.0, -1.0, 1.0)
        qx, qy = jnp.where(by_x, side_x * hx, qx), jnp.where(by_y, side_y * hy, qy)
        out_x = jnp.where(inside, jnp.where(by_x, side_x, 0.0), ex * scale)
        out_y = jnp.where(inside, jnp.where(by_y, side_y, 0.0), ey * scale)
        gap = jnp.where(inside, -jnp.minimum(depth_x, depth_y), away) - RADIUS
        normal = _turned(-out_x, -out_y, c, s)
        point = _turned(mx + qx - CENTRE[0], my + qy - CENTRE[1], c, s)
        velocity = (body.disc_velocity[0], body.disc_velocity[1])
        found.append(_contact(normal, point, velocity, gap, moment))
    return found


def _wall_contacts(body: Body, moment: Array | float) -> list[Contact]:
    """Of the two deepest corners, for the walls of each axis."""
    x, y, angle = body.block
    c, s = jnp.cos(angle), jnp.sin(angle)
    zero, one = jnp.zeros(()), jnp.ones(())
    arms = [_turned(px - CENTRE[0], py - CENTRE[1], c, s) for px, py in OUTER]
    offset = _turned(*CENTRE, c, s)
    found = []
    for axis, origin in enumerate((x + offset[0], y + offset[1])):
        deepest = second = (jnp.full((), jnp.inf), zero, zero, one)
        for arm in arms:
            low, high = origin + arm[axis] - WALLS[0], WALLS[1] - origin - arm[axis]
            corner = (jnp.minimum(low, high), *arm, jnp.where(low < high, 1.0, -1.0))
            deepest, corner = _ordered(deepest, corner)
            second, _ = _ordered(second, corner)
        for gap, rx, ry, side in (deepest, second):
            normal = (side, zero) if axis == 0 else (zero, side)
            found.append(_contact(normal, (rx, ry), (zero, zero), gap, moment))
    return found


def _ordered(one: tuple, other: tuple) -> tuple[tuple, tuple]:
    """Both tuples, the one with the smaller first entry first."""
    swap = other[0] < one[0]
    pairs = list(zip(one, other, strict=True))
    return (
        tuple(jnp.where(swap, b, a) for a, b in pairs),
        tuple(jnp.where(swap, a, b) for a, b in pairs),
    )
