"""MJCF of a Panda made of primitives, for MJX.

The arm is weightless, as its own controller carries it: the scene has no gravity, and a task pulls at its objects
itself. The servos' damping is that of the joints, so that Euler's method has it implicit. Links are drawn and do
not collide; a fingertip collides as four spheres, whose contacts MJX and MuJoCo find alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmbc_jax.envs.mjx import _panda_table as table

PAD_RADIUS = 0.004
PADS = tuple((x, z) for x in (-0.006, 0.006) for z in (-0.006, 0.006))
"""Radius of a fingertip's spheres, and where they are on its inner face [m]."""


def _numbers(values: Sequence[float] | np.ndarray) -> str:
    return " ".join(f"{value:.9g}" for value in values)


def _inertial(of: table.Inertial) -> str:
    return f'<inertial mass="{of.mass}" pos="{_numbers(of.com)}" fullinertia="{_numbers(of.inertia)}"/>'


def _finger(name: str, turned: bool, contacts: bool) -> str:
    """A finger: slides along y of its frame, where 0 is closed."""
    x, y, z = table.PAD
    quat = "0 0 0 1" if turned else "1 0 0 0"
    spheres = "".join(
        f'<geom class="pad" name="{name}_{i}" size="{PAD_RADIUS}" '
        f'pos="{px} {PAD_RADIUS} {table.PAD_AT[2] + pz}"/>'
        for i, (px, pz) in enumerate(PADS)
    )
    return f"""
      <body name="{name}" pos="0 0 {table.FINGER}" quat="{quat}">
        {_inertial(table.FINGER_INERTIAL)}
        <joint name="{name}" type="slide" axis="0 1 0" range="0 {table.FINGER_TRAVEL}"
          damping="{table.FINGER_DAMPING}" armature="{table.ARMATURE}"/>
        <geom class="look" type="box" size="{x} {y} {z}" pos="{_numbers(table.PAD_AT)}" rgba=".2 .2 .2 1"/>
        <geom class="look" type="box" size=".01 .007 .02" pos="0 .013 .02"/>
        {spheres if contacts else ""}
      </body>"""


def _hand(fingers: bool, contacts: bool, tool: str) -> str:
    """The hand in the frame of link 7, with its tool centre point."""
    inside = ""
    if fingers:
        inside = _finger("left", False, contacts) + _finger("right", True, contacts)
    collides = 'class="hand"' if contacts else 'class="look"'
    return f"""
      <body name="hand" pos="{_numbers(table.HAND_POS)}" quat="{_numbers(table.HAND_QUAT)}">
        {_inertial(table.HAND_INERTIAL)}
        <geom name="hand" {collides} type="capsule" size="{table.HAND_RADIUS} {table.HAND_HALF}" pos="0 0 .03"
          zaxis="0 1 0"/>
        <site name="tcp" pos="0 0 {table.TCP}" size=".005" rgba="0 0 0 0"/>
        {inside}{tool}
      </body>"""


def _links(inner: str, damping: np.ndarray) -> str:
    """The seven links inside each other, `inner` in the last."""
    text = inner
    for i in reversed(range(table.JOINTS)):
        looks = "".join(
            f'<geom class="look" type="capsule" size="{radius}" fromto="{_numbers((*start, *end))}"/>'
            for link, radius, start, end in table.CAPSULES
            if link == i + 1
        )
        text = f"""
    <body name="link{i + 1}" pos="{_numbers(table.FRAME_POS[i])}" quat="{_numbers(table.FRAME_QUAT[i])}">
      {_inertial(table.INERTIALS[i + 1])}
      <joint name="joint{i + 1}" range="{table.LOW[i]} {table.HIGH[i]}" damping="{damping[i]}"
        armature="{table.ARMATURE}"/>
      {looks}{text}
    </body>"""
    return text


def _servos(fingers: bool, stiffness: np.ndarray) -> str:
    arm = "".join(
        f'<position name="servo{i + 1}" joint="joint{i + 1}" kp="{stiffness[i]}" '
        f'forcerange="{-table.TORQUE[i]} {table.TORQUE[i]}"/>'
        for i in range(table.JOINTS)
    )
    both = "".join(
        f'<position name="{name}" joint="{name}" kp="{table.FINGER_STIFFNESS}" '
        f'forcerange="{-table.FINGER_FORCE} {table.FINGER_FORCE}"/>'
        for name in ("left", "right")
    )
    return arm + both * fingers


def scene(
    world: str,
    timestep: float,
    fingers: bool,
    iterations: tuple[int, int] | None,
    tool: str = "",
    contacts: str = "",
    gains: tuple[np.ndarray, np.ndarray] = (table.STIFFNESS, table.DAMPING),
) -> str:
    """MJCF text of the arm in a scene.

    Args:
      world: what else there is in the world, as MJCF.
      timestep: of the physics [s].
      fingers: whether they move; else nothing but the arm does.
      iterations: (of the solver, of its line search); None for a scene without constraints, joint limits included.
      tool: MJCF of what the hand holds, in its frame.
      contacts: MJCF of the pairs of geoms that collide; no others do.
      gains: stiffness [N m/rad] and damping [N m s/rad] of the arm's servos, [7] each.
    """
    steps = (1, 1) if iterations is None else iterations
    flag = "" if iterations is not None else '<flag constraint="disable" contact="disable"/>'
    same = """
  <equality>
    <joint joint1="left" joint2="right" solref=".005 1" solimp=".95 .99 .001"/>
  </equality>"""
    return f"""<mujoco model="panda">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{timestep}" gravity="0 0 0" solver="Newton" iterations="{steps[0]}"
    ls_iterations="{steps[1]}" cone="pyramidal" jacobian="dense">{flag}</option>
  <visual><global offwidth="1280" offheight="960"/><headlight ambient=".4 .4 .4" diffuse=".6 .6 .6"/></visual>
  <default>
    <default class="look"><geom contype="0" conaffinity="0" group="2" rgba=".92 .92 .95 1"/></default>
    <default class="hand"><geom contype="0" conaffinity="0" rgba=".92 .92 .95 1"/></default>
    <default class="pad"><geom type="sphere" contype="0" conaffinity="0" rgba="0 0 0 0"/></default>
  </default>
  <worldbody>
    <light pos="0 0 3" dir="0 0 -1"/>
    <geom name="floor" type="plane" size="2 2 .1" rgba=".55 .6 .65 1" contype="0" conaffinity="0"/>
    <body name="link0">
      {_inertial(table.INERTIALS[0])}
      <geom class="look" type="capsule" size=".06" fromto="-.08 0 .06 0 0 .06"/>
      <geom class="look" type="capsule" size=".06" fromto="0 0 .06 0 0 .14"/>
      {_links(_hand(fingers, iterations is not None, tool), gains[1])}
    </body>
    {world}
  </worldbody>{same * fingers}
  <contact>{contacts}</contact>
  <actuator>{_servos(fingers, gains[0])}</actuator>
</mujoco>"""
