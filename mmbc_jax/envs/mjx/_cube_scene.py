"""MJCF of a cuboid on a floor, and of what of a Panda's gripper touches it.

A fingertip is four spheres that press on the cuboid's box, and the floor carries the spheres in its corners: contacts
of spheres are single points, which MJX and MuJoCo find alike, where boxes against boxes differ between the two.
Timestep, solver and softness were chosen by measurement: with fewer iterations, or stiffer contacts at this timestep,
some grasps let go (docs/robots.md).
"""

from __future__ import annotations

import itertools

from mmbc_jax.envs.mjx._panda_mjcf import PADS, scene

TIMESTEP, SUBSTEPS, ITERATIONS = 0.00625, 8, (4, 8)
HALF = (0.02, 0.02, 0.03)
"""Half sizes [m]."""
MASS = 0.1
GRAVITY = 9.81
CORNER = 0.004
SOFT = 'solref=".02 1" solimp=".97 .99 .002"'
RUBBING = f'condim="3" friction="1 1 .005 .0001 .0001" {SOFT}'
SMOOTH = f'condim="1" {SOFT}'


def text() -> str:
    """The whole scene: arm, gripper, floor and cuboid."""
    return scene(_cuboid(), TIMESTEP, fingers=True, iterations=ITERATIONS, contacts=_pairs())


def _cuboid() -> str:
    signs = itertools.product((-1, 1), repeat=3)
    corners = "".join(
        f'<geom name="corner{i}" type="sphere" size="{CORNER}" contype="0" conaffinity="0" rgba="0 0 0 0" '
        f'pos="{" ".join(str(s * (half - CORNER)) for s, half in zip(sign, HALF, strict=True))}"/>'
        for i, sign in enumerate(signs)
    )
    x, y, z = (2.0 * half for half in HALF)
    moments = (y * y + z * z, x * x + z * z, x * x + y * y)
    inertia = " ".join(f"{MASS / 12.0 * moment:.6g}" for moment in moments)
    return (
        f'<body name="cube" pos="0.5 0 {HALF[2]}"><freejoint name="cube"/>'
        f'<inertial mass="{MASS}" pos="0 0 0" diaginertia="{inertia}"/>'
        f'<geom name="cube" type="box" size="{HALF[0]} {HALF[1]} {HALF[2]}" contype="0" conaffinity="0" '
        f'rgba=".8 .25 .2 1"/>{corners}</body>'
    )


def _pairs() -> str:
    """The gripper on the cuboid, the cuboid on the floor, and the fingertips on the floor."""
    tips = [f"{finger}_{i}" for finger in ("left", "right") for i in range(len(PADS))]
    lower = [tip for i, tip in enumerate(tips) if PADS[i % len(PADS)][1] > 0]
    rubbing = [(tip, "cube") for tip in tips] + [(f"corner{i}", "floor") for i in range(8)]
    smooth = [(tip, "floor") for tip in lower] + [("hand", "cube")]
    return "".join(
        f'<pair geom1="{a}" geom2="{b}" {how}/>'
        for pairs, how in ((rubbing, RUBBING), (smooth, SMOOTH))
        for a, b in pairs
    )
