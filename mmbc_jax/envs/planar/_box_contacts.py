r"""Where a disc touches boxes, and boxes each other, in the plane: points, normals and gaps, number by number.

A pose is (x, y, cos, sin) of a body's frame; a contact is (n, r_a, r_b, gap): the normal n from the first body to the
second, the point of contact as seen from the centre of each, in the world's axes, and the gap along n, below 0 where
the two overlap. Every number is a [] array, so that a compiler can fuse what follows. Lengths in m.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmbc_jax.core.types import Array

Point = tuple[Array, Array]
Box = tuple[tuple[float, float], tuple[float, float]]
"""(centre, half sides) in the body's frame."""
_TINY = 1e-9


class Pose(NamedTuple):
    """Of a body: x, y and the cosine and sine of its angle, each []."""

    x: Array
    y: Array
    c: Array
    s: Array


class Touch(NamedTuple):
    """One touch: see the module docstring."""

    normal: Point
    first: Point
    second: Point
    gap: Array


def pose_of(block: Array) -> Pose:
    """From [3]: x, y, angle."""
    return Pose(block[0], block[1], jnp.cos(block[2]), jnp.sin(block[2]))


def turned(x: Array | float, y: Array | float, c: Array, s: Array) -> Point:
    """(x, y) turned by the angle of cosine c and sine s."""
    return c * x - s * y, s * x + c * y


def disc_against(box: Box, pose: Pose, disc: Point, radius: float) -> Touch:
    """Of a disc (first) with one box of a body (second), at the box's point that is nearest to the disc's centre.

    A centre within the box leaves by the nearest side.
    """
    (mx, my), (hx, hy) = box
    x, y = turned(disc[0] - pose.x, disc[1] - pose.y, pose.c, -pose.s)
    dx, dy = x - mx, y - my
    qx, qy = jnp.clip(dx, -hx, hx), jnp.clip(dy, -hy, hy)
    away = jnp.sqrt(jnp.square(dx - qx) + jnp.square(dy - qy))
    inside, scale = away < _TINY, 1.0 / jnp.maximum(away, _TINY)
    depth_x, depth_y = hx - jnp.abs(dx), hy - jnp.abs(dy)
    by_x, by_y = inside & (depth_x < depth_y), inside & (depth_x >= depth_y)
    side_x, side_y = jnp.where(dx < 0.0, -1.0, 1.0), jnp.where(dy < 0.0, -1.0, 1.0)
    out_x = jnp.where(inside, jnp.where(by_x, side_x, 0.0), (dx - qx) * scale)
    out_y = jnp.where(inside, jnp.where(by_y, side_y, 0.0), (dy - qy) * scale)
    qx, qy = jnp.where(by_x, side_x * hx, qx), jnp.where(by_y, side_y * hy, qy)
    gap = jnp.where(inside, -jnp.minimum(depth_x, depth_y), away) - radius
    normal = turned(-out_x, -out_y, pose.c, pose.s)
    zero = jnp.zeros(())
    return Touch(normal, (zero, zero), turned(mx + qx, my + qy, pose.c, pose.s), gap)


def box_against(first: Pose, second: Pose, half: Point | tuple[float, float]) -> tuple[Touch, Touch]:
    r"""Of two equal boxes about their centres: the two ends of the side that faces the other, cut to its width.

    Of the four directions of sides, the one along which the boxes are furthest apart (or overlap least) is the
    normal; with gap (p - q) n of both ends p of the other's side that faces it most.
    """
    best, found = jnp.full((), -jnp.inf), None
    for swap, (ref, other) in enumerate(((first, second), (second, first))):
        dx, dy = other.x - ref.x, other.y - ref.y
        for along in (0, 1):
            ax, ay = (ref.c, ref.s) if along == 0 else (-ref.s, ref.c)
            distance = dx * ax + dy * ay
            ux, uy = (
                other.c * ax + other.s * ay,
                -other.s * ax + other.c * ay,
            )  # the axis in the other's frame
            apart = jnp.abs(distance) - half[along] - half[0] * jnp.abs(ux) - half[1] * jnp.abs(uy)
            side = jnp.where(distance < 0.0, -1.0, 1.0)
            one, two = _faced(ref, other, (ax * side, ay * side), half, along)
            new = (_swapped(one), _swapped(two)) if swap else (one, two)
            better = apart > best + _TINY
            found = new if found is None else _chosen(better, new, found)
            best = jnp.maximum(best, apart)
    assert found is not None
    return found


def _chosen(better: Array, new: tuple[Touch, Touch], old: tuple[Touch, Touch]) -> tuple[Touch, Touch]:
    chosen: tuple[Touch, Touch] = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old)
    return chosen


def _swapped(contact: Touch) -> Touch:
    """The same contact as the other body sees it."""
    nx, ny = contact.normal
    return Touch((-nx, -ny), contact.second, contact.first, contact.gap)


def _faced(ref: Pose, other: Pose, normal: Point, half: tuple, along: int) -> tuple[Touch, Touch]:
    """Contacts of the side of `ref` with outward `normal` and the side of `other` that faces it most."""
    nx, ny = normal
    ux, uy = other.c * nx + other.s * ny, -other.s * nx + other.c * ny
    by_x = jnp.abs(ux) >= jnp.abs(uy)
    sx, sy = jnp.where(ux < 0.0, 1.0, -1.0), jnp.where(uy < 0.0, 1.0, -1.0)
    ends = []
    for sign in (-1.0, 1.0):
        local = jnp.where(by_x, sx * half[0], sign * half[0]), jnp.where(by_x, sign * half[1], sy * half[1])
        px, py = turned(*local, other.c, other.s)
        ends.append((other.x + px - ref.x, other.y + py - ref.y))
    tx, ty, width = -ny, nx, half[1 - along]
    (ax, ay), (bx, by) = ends
    start, stop = ax * tx + ay * ty, bx * tx + by * ty
    long = jnp.where(jnp.abs(stop - start) < _TINY, _TINY, stop - start)
    contacts = []
    for place in (start, stop):
        share = jnp.clip((jnp.clip(place, -width, width) - start) / long, 0.0, 1.0)
        px, py = ax + share * (bx - ax), ay + share * (by - ay)
        gap = px * nx + py * ny - half[along]
        shift = (ref.x - other.x, ref.y - other.y)
        contacts.append(Touch(normal, (px, py), (px + shift[0], py + shift[1]), gap))
    return contacts[0], contacts[1]
