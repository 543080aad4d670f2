r"""A disc that is led about pushes rigid bodies on a table with friction, without inertia: what touches, moves.

A body's pose is (x, y, angle) of its centre of friction. Over one substep the disc moves by a given displacement and
every body by d = (dx, dy, dangle), the least motion that lets nothing overlap:

  minimise  sum_i  d_i^T diag(1, 1, R^2) d_i / 2    where  n (d_b(r_b) - d_a(r_a)) >= -gap  at every contact,

with d(r) = (dx - dangle r_y, dy + dangle r_x), the disc's own displacement for d_a where it touches. R is the length
that tells how hard the table makes turning against sliding: by the ellipsoidal limit surface of Goyal, Ruina and
Papadopoulos (1991) a body that is pushed with force f and moment m moves along (f, m / R^2). A cube on its four
corners, as engines carry it, has R = half of its diagonal; one with even pressure .77 of its half side. To it comes
Coulomb friction mu along the tangent t of each contact, |g| <= mu l, which stops the slip of the two surfaces.
Multipliers are found by `SWEEPS` rounds of projected Gauss-Seidel:

  l <- max(l + (-gap - n slip) / k_n, 0)      g <- clip(g - t slip / k_t, -mu l, mu l)

with k the sum of 1 + (r x n)^2 / R^2 over the bodies that move. The motion depends on the disc's way and not on its
speed. For one body this is quasi-static motion under that limit surface, exactly; of several that push one another it
is that motion where the table resists all alike, with a force that grows with speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmbc_jax.core.types import Array
from mmbc_jax.envs.planar._box_contacts import Box, Point, Touch, box_against, disc_against, pose_of

SWEEPS = 24
Numbers = tuple[Array, Array, Array]


class Surfaces(NamedTuple):
    """What the contacts are like.

    Attributes:
      friction: mu between the disc and a body.
      rubbing: mu between two bodies.
      radius: R [m].
    """

    friction: Array | float
    rubbing: Array | float
    radius: Array | float


class _Row(NamedTuple):
    """One contact of bodies a (None for the disc) and b, every number []: see the module docstring."""

    a: int | None
    b: int
    normal: Point
    arm_a: Array
    lever_a: Array
    arm_b: Array
    lever_b: Array
    wanted: Array  # n slip
    slides: Array  # t slip of the disc
    mass: Array  # 1 / k_n, 0 where the contact does not act
    grip: Array  # 1 / k_t
    friction: Array | float


def pushed(
    shapes: Sequence[Sequence[Box]],
    blocks: Array,
    start: Array,
    end: Array,
    disc_radius: float,
    surfaces: Surfaces,
    acts: Array | bool = True,
    substeps: int = 4,
) -> tuple[Array, Array]:
    """The bodies after the disc went straight from `start` to `end`.

    Args:
      shapes: boxes of each body, about its centre of friction; bodies of one box that are alike push one another.
      blocks: [K, 3] poses [m, rad].
      start: [2] m the disc's centre.
      end: [2] m likewise.
      disc_radius: m; the way of a substep must be shorter.
      surfaces: see there.
      acts: [] bool whether the disc touches anything; False where it is lifted.
      substeps: into which the way is cut.

    Returns:
      Poses [K, 3], and [K] bool which bodies the disc pushed.
    """
    way = (end - start) / substeps

    def one(index: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        now, touched = carry
        disc = start + (index + 1) * way
        rows = _rows(shapes, now, disc, way, disc_radius, surfaces, jnp.asarray(acts))
        moved, hit = _solved(rows, len(shapes), surfaces)
        return now + moved, touched | hit

    return jax.lax.fori_loop(0, substeps, one, (blocks, jnp.zeros(len(shapes), bool)))


def _rows(
    shapes: Sequence[Sequence[Box]],
    blocks: Array,
    disc: Array,
    way: Array,
    radius: float,
    surfaces: Surfaces,
    acts: Array,
) -> list[_Row]:
    poses = [pose_of(block) for block in blocks]
    found = []
    for b, boxes in enumerate(shapes):
        for box in boxes:
            contact = disc_against(box, poses[b], (disc[0], disc[1]), radius)
            found.append(_row(None, b, contact, (way[0], way[1]), surfaces.friction, surfaces.radius, acts))
    zero = jnp.zeros(())
    for a in range(len(shapes)):
        for b in range(a + 1, len(shapes)):
            half = shapes[a][0][1]
            for contact in box_against(poses[a], poses[b], half):
                found.append(_row(a, b, contact, (zero, zero), surfaces.rubbing, surfaces.radius, None))
    return found


def _row(
    a: int | None,
    b: int,
    contact: Touch,
    way: Point,
    friction: Array | float,
    radius: Array | float,
    acts: Array | None,
) -> _Row:
    (nx, ny), (ax, ay), (bx, by) = contact.normal, contact.first, contact.second
    (arm_a, lever_a), (arm_b, lever_b) = ((x * ny - y * nx, x * nx + y * ny) for x, y in ((ax, ay), (bx, by)))
    inverse, square = nx * nx + ny * ny, radius**2
    normal, tangent = inverse + arm_b**2 / square, inverse + lever_b**2 / square
    if a is not None:
        normal, tangent = normal + inverse + arm_a**2 / square, tangent + inverse + lever_a**2 / square
    mass, grip = 1.0 / normal, 1.0 / tangent
    if acts is not None:
        mass, grip = jnp.where(acts, mass, 0.0), jnp.where(acts, grip, 0.0)
    slides = nx * way[1] - ny * way[0]
    return _Row(a, b, (nx, ny), arm_a, lever_a, arm_b, lever_b, -contact.gap, slides, mass, grip, friction)


def _solved(rows: list[_Row], bodies: int, surfaces: Surfaces) -> tuple[Array, Array]:
    """[K, 3] displacements, and [K] bool whether the disc pushes a body."""
    zero = jnp.zeros(())
    turn = 1.0 / jnp.square(jnp.asarray(surfaces.radius))

    def sweep(_: int, carry: tuple) -> tuple:
        moved, normals, grips = list(carry[0]), [], []
        for row, normal, grip in zip(rows, *carry[1:], strict=True):
            speed = _along(moved, row, False)
            new = jnp.maximum(normal + (row.wanted - speed) * row.mass, 0.0)
            _push(moved, row, new - normal, turn, False)
            most = row.friction * new
            slip = _along(moved, row, True) - row.slides
            held = jnp.clip(grip - slip * row.grip, -most, most)
            _push(moved, row, held - grip, turn, True)
            normals.append(new)
            grips.append(held)
        return tuple(moved), tuple(normals), tuple(grips)

    rest = (((zero,) * 3,) * bodies, (zero,) * len(rows), (zero,) * len(rows))
    moved, normals, _ = jax.lax.fori_loop(0, SWEEPS, sweep, rest)
    hit = [jnp.zeros((), bool)] * bodies
    for row, normal in zip(rows, normals, strict=True):
        if row.a is None:
            hit[row.b] = hit[row.b] | (normal > 0.0)
    return jnp.stack([jnp.stack(d) for d in moved]), jnp.stack(hit)


def _along(moved: list[Numbers], row: _Row, tangent: bool) -> Array:
    """Displacement of b against a at the contact, along n or t = (-ny, nx)."""
    nx, ny = row.normal
    x, y = (-ny, nx) if tangent else (nx, ny)
    d = moved[row.b]
    total = x * d[0] + y * d[1] + (row.lever_b if tangent else row.arm_b) * d[2]
    if row.a is None:
        return total
    d = moved[row.a]
    return total - (x * d[0] + y * d[1] + (row.lever_a if tangent else row.arm_a) * d[2])


def _push(moved: list[Numbers], row: _Row, change: Array, turn: Array, tangent: bool) -> None:
    """Adds to the displacements what a multiplier's change moves."""
    nx, ny = row.normal
    x, y = (-ny, nx) if tangent else (nx, ny)
    arm = row.lever_b if tangent else row.arm_b
    d = moved[row.b]
    moved[row.b] = (d[0] + x * change, d[1] + y * change, d[2] + arm * change * turn)
    if row.a is not None:
        arm = row.lever_a if tangent else row.arm_a
        d = moved[row.a]
        moved[row.a] = (d[0] - x * change, d[1] - y * change, d[2] - arm * change * turn)
