r"""Forward and inverse kinematics of a Panda's tool centre point, for one configuration.

A pose is (position [3] m, rotation [3, 3]) in the frame of the robot's base. With J [6, 7] the Jacobian of the tool
centre point (linear rows over angular ones) and e the way to the wanted pose (displacement, rotation vector), one
step of damped least squares is

  dq = J' (J J' + d^2 1)^-1 (e - J g) + g,      g = PULL (rest - q),

so that what of the posture the hand leaves free goes towards a posture of rest. Joints stay `MARGIN` inside their
ranges (Nakamura and Hanafusa 1986; Buss 2004).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array
from mmbc_jax.envs.mjx import _panda_table as table

DAMP = 0.02
PULL = 0.1
MARGIN = 0.03
"""Distance of commanded joints from their limits [rad]."""
_TINY = 1e-12

Pose = tuple[Array, Array]


def _matrix(quat: np.ndarray) -> np.ndarray:
    """[3, 3] of a quaternion (w, x, y, z), which need not have unit length."""
    w, x, y, z = np.asarray(quat, np.float64) / np.linalg.norm(quat)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


_FRAMES = np.stack([_matrix(quat) for quat in table.FRAME_QUAT]).astype(np.float32)
_HAND = _matrix(table.HAND_QUAT).astype(np.float32)
_FLANGE_TO_TCP = np.array([0.0, 0.0, table.HAND_POS[2] + table.TCP], np.float32)
_PLACES = table.FRAME_POS.astype(np.float32)


def frames(q: Array) -> tuple[list[Array], list[Array], Pose]:
    """Positions and rotations of links 1 to 7 at joint angles `q` [7] rad, and the pose of the tool centre point."""
    position, rotation = jnp.zeros(3), jnp.eye(3)
    positions, rotations = [], []
    for i in range(table.JOINTS):
        c, s = jnp.cos(q[i]), jnp.sin(q[i])
        position = position + _times(rotation, _PLACES[i])
        placed = rotation @ _FRAMES[i]
        x, y, z = placed[:, 0], placed[:, 1], placed[:, 2]
        rotation = jnp.stack([c * x + s * y, c * y - s * x, z], -1)
        positions.append(position)
        rotations.append(rotation)
    return positions, rotations, (position + _times(rotation, _FLANGE_TO_TCP), rotation @ _HAND)


def tcp(q: Array) -> Pose:
    """Pose of the tool centre point at joint angles `q` [7] rad."""
    return frames(q)[2]


def jacobian(q: Array) -> tuple[Pose, Array]:
    """(pose, J [6, 7]) of the tool centre point: velocities m/s over rad/s, in the frame of the base."""
    positions, rotations, pose = frames(q)
    axes = jnp.stack([rotation[:, 2] for rotation in rotations])
    arms = pose[0] - jnp.stack(positions)
    return pose, jnp.concatenate([jnp.cross(axes, arms), axes], -1).T


def turn(vector: Array) -> Array:
    """[3, 3] the rotation by |v| rad about v [3] (Rodrigues)."""
    squared = (vector * vector).sum()
    angle = jnp.sqrt(squared + _TINY)
    x, y, z = vector
    cross = jnp.stack([jnp.stack([0 * x, -z, y]), jnp.stack([z, 0 * x, -x]), jnp.stack([-y, x, 0 * x])])
    a, b = jnp.sin(angle) / angle, (1.0 - jnp.cos(angle)) / (angle * angle)
    return jnp.eye(3) + a * cross + b * (cross @ cross)


def turn_between(start: Array, end: Array) -> Array:
    """[3] rotation vector v with turn(v) start = end, for rotations less than pi apart; of length pi at most."""
    between = end @ start.T
    axis = 0.5 * jnp.stack(
        [between[2, 1] - between[1, 2], between[0, 2] - between[2, 0], between[1, 0] - between[0, 1]]
    )
    sine = jnp.sqrt((axis * axis).sum() + _TINY)
    return axis / sine * jnp.arctan2(sine, 0.5 * (jnp.trace(between) - 1.0))


def solved(q: Array, wanted: Pose, rest: Array, iterations: int) -> Array:
    """[7] joint angles whose tool centre point is at a wanted pose, from `q` [7] in so many steps; see the module.

    Args:
      q: where to start [rad].
      wanted: the pose; what is out of reach is approached.
      rest: [7] posture that is preferred.
      iterations: of damped least squares.
    """
    low, high = jnp.asarray(table.LOW + MARGIN), jnp.asarray(table.HIGH - MARGIN)
    for _ in range(iterations):
        (position, rotation), jac = jacobian(q)
        error = jnp.concatenate([wanted[0] - position, turn_between(rotation, wanted[1])])
        pulled = PULL * (rest - q)
        damped = jac @ jac.T + DAMP**2 * jnp.eye(6)
        dual = jax.scipy.linalg.solve(damped, error - _times(jac, pulled), assume_a="pos")
        q = jnp.clip(q + _times(jac.T, dual) + pulled, low, high)
    return q


def quaternion(rotation: Array) -> Array:
    """[4] unit quaternion (w, x, y, z) of a rotation [3, 3], its largest entry of size 1/2 at least, w >= 0."""
    m = rotation
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    outer = jnp.stack(
        [
            jnp.stack([1 + trace, m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]]),
            jnp.stack([m[2, 1] - m[1, 2], 1 + 2 * m[0, 0] - trace, m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]]),
            jnp.stack([m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], 1 + 2 * m[1, 1] - trace, m[1, 2] + m[2, 1]]),
            jnp.stack([m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 + 2 * m[2, 2] - trace]),
        ]
    )  # 4 q q'
    row = outer[jnp.argmax(jnp.diagonal(outer))]
    unit = row / jnp.sqrt((row * row).sum())
    return jnp.where(unit[0] < 0, -unit, unit)


def matrix(quat: Array) -> Array:
    """[3, 3] rotation of a unit quaternion [4] (w, x, y, z)."""
    w, x, y, z = quat
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return jnp.stack([jnp.stack(row) for row in rows])


def _times(linear: Array, vector: Array | np.ndarray) -> Array:
    """Matrix times vector, written out: small enough to be a part of what is around it."""
    return (linear * vector).sum(-1)
