r"""A rod in the hand of a Panda that follows a commanded position in the plane, on MJX.

The tool centre point is to be at the command (x, y), at `HEIGHT`, with the hand down. Joint targets go there from
those of the last command by damped least squares (`_panda.towards`), in the posture without a twist of the upper arm
and forearm; a command outside the ring `RING` about the base, which is all that a hand that points down reaches, is
taken to its edge. Servos follow the targets by

  K (q* - q) + D (q*' - q')

with the stiffness and damping of the original's controller: much softer than those of `_panda_table`, but they know
how fast the target moves. On the recordings that gives the measured lag and overshoot (docs/robots.md).

A contact is a gap below 0 in the plane between the rod, where it is at the tool centre point, and an obstacle. It
does not push: there is no solver. Obstacles end at `TOP`, `HEIGHT` - `TOP` below the fingertips, and beside them
the recorded motion keeps within 4 mm of its height and half a degree of upright; so nothing but the rod can touch
them, and nothing else is looked at. What a locked joint or other dynamics lower onto an obstacle is not seen.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array
from mmbc_jax.envs.mjx import _panda_table as table
from mmbc_jax.envs.mjx._panda import DOWN, REST, ArmBody, ArmDynamics, Panda, towards
from mmbc_jax.envs.mjx._panda_kinematics import solved, tcp
from mmbc_jax.envs.mjx._panda_mjcf import scene

TIMESTEP, SUBSTEPS = 0.007, 5
HEIGHT, TOP = 0.12, 0.1
RING = (0.31, 0.805)
STIFFNESS = np.array([120.0, 120.0, 120.0, 120.0, 50.0, 30.0, 10.0])
"""Of the servos [N m/rad]."""
DAMPING = np.array([10.0, 10.0, 10.0, 10.0, 6.0, 5.0, 3.0])
"""Of the servos [N m s/rad]."""
TWISTS = (2, 4)
"""Joints that are 0 where upper arm and forearm are in one upright plane."""
SETTLED = 20
"""Steps of inverse kinematics from a posture of rest to any place in the ring."""


@flax.struct.dataclass
class HeldRod:
    """What is carried.

    Attributes:
      body: of the arm.
      position: [2] m of the tool centre point.
      distance: [O] gap between rod and each obstacle in m, negative in contact.
    """

    body: ArmBody
    position: Array
    distance: Array


class ArmRod:
    """The arm, its rod and obstacles; an `_avoiding_task.Holder`.

    Args:
      obstacles: [O, 3] centre x, y and radius in m.
      radius: of the rod [m].
    """

    dynamics = ArmDynamics

    def __init__(self, obstacles: np.ndarray, radius: float):
        self.obstacles, self.radius = obstacles, radius
        text = scene(
            _posts(obstacles),
            TIMESTEP,
            fingers=False,
            iterations=None,
            tool=_stick(radius),
            gains=(STIFFNESS, DAMPING),
        )
        self.panda = Panda(text, SUBSTEPS, following=True)
        self.dt = self.panda.dt

    def at_rest(self, position: Array) -> HeldRod:
        """Standing still at a position [2] m, or at the edge of the ring."""
        place = _placed(position)
        angle = jnp.arctan2(place[1], place[0])
        first = jnp.asarray(REST).at[0].set(angle).at[6].add(angle)
        wanted = place, jnp.asarray(DOWN, jnp.float32)
        joints = jax.lax.fori_loop(0, SETTLED, lambda _, q: solved(q, wanted, _untwisted(q), 1), first)
        return self._seen(self.panda.at_rest(joints, joints))

    def step(
        self, rod: HeldRod, command: Array, new_command: Array, dynamics: ArmDynamics | None = None
    ) -> HeldRod:
        """One control step to a new command [2] m, under other dynamics where they are given."""
        del command  # the servos' targets are what is left of it
        wanted = _placed(new_command), jnp.asarray(DOWN, jnp.float32)
        target = towards(rod.body.target, wanted, _untwisted(rod.body.target), self.dt)
        if dynamics is None:
            return self._seen(self.panda.advance(rod.body, target))
        other = self.panda.other(dynamics)
        return self._seen(self.panda.advance(rod.body, target, other, friction=dynamics.friction))

    def _seen(self, body: ArmBody) -> HeldRod:
        position = tcp(body.qpos)[0][:2]
        away = position - jnp.asarray(self.obstacles[:, :2], jnp.float32)
        reach = jnp.asarray(self.obstacles[:, 2] + self.radius, jnp.float32)
        return HeldRod(body=body, position=position, distance=jnp.sqrt((away * away).sum(-1)) - reach)


def _placed(position: Array) -> Array:
    """[3] m of the tool centre point for a command [2] m."""
    distance = jnp.maximum(jnp.sqrt((position * position).sum()), 1e-6)
    inside = position * (jnp.clip(distance, *RING) / distance)
    return jnp.concatenate([inside, jnp.full(1, HEIGHT)])


def _untwisted(joints: Array) -> Array:
    """[7] the same posture in one upright plane."""
    return joints * (~np.isin(np.arange(table.JOINTS), TWISTS)).astype(np.float32)


def _posts(obstacles: np.ndarray) -> str:
    """The obstacles, standing on the floor."""
    return "".join(
        f'<geom class="look" type="cylinder" size="{radius}" fromto="{x} {y} 0 {x} {y} {TOP}" rgba=".8 .25 .2 1"/>'
        for x, y, radius in obstacles
    )


def _stick(radius: float) -> str:
    """The rod in the frame of the hand, from between the fingers nearly to the floor."""
    return (
        f'<geom class="look" type="capsule" size="{radius}" rgba=".2 .3 .8 1" '
        f'fromto="0 0 {table.TCP - 0.05} 0 0 {table.TCP + HEIGHT - 0.015}"/>'
    )
