"""The Franka Emika Panda in numbers: kinematics, inertials, servos and limits; SI units, sources in NOTICE.

Rows are those of joints 1 to 7. Each joint turns about the z axis of its link's frame, which is placed in the frame
of the link before it by `FRAME_POS` [m] and `FRAME_QUAT` (w, x, y, z; not normalised).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

JOINTS = 7
FRAME_POS = np.array(
    [
        (0.0, 0.0, 0.333),
        (0.0, 0.0, 0.0),
        (0.0, -0.316, 0.0),
        (0.0825, 0.0, 0.0),
        (-0.0825, 0.384, 0.0),
        (0.0, 0.0, 0.0),
        (0.088, 0.0, 0.0),
    ]
)
FRAME_QUAT = np.array(
    [(1, 0, 0, 0), (1, -1, 0, 0), (1, 1, 0, 0), (1, 1, 0, 0), (1, -1, 0, 0), (1, 1, 0, 0), (1, 1, 0, 0)],
    float,
)
HAND_POS, HAND_QUAT = np.array([0.0, 0.0, 0.107]), np.array([0.9238795, 0.0, 0.0, -0.3826834])
"""The hand in the frame of link 7: turned by -45 degrees about z."""
TCP = 0.1034
"""The tool centre point lies between the fingertips, on the z axis of the hand [m]."""
FINGER = 0.0584
"""Where the fingers begin on the z axis of the hand [m]; they slide along its y axis."""
FINGER_TRAVEL = 0.04
"""The most that either finger opens [m]."""

LOW = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
HIGH = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
"""Ranges of the joints [rad]."""
TORQUE = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])
"""The most that a servo gives either way [N m]."""
VELOCITY = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])
"""The most that a joint turns [rad/s]."""
ARMATURE = 0.1
"""Rotor inertia at every joint [kg m^2]."""
STIFFNESS = np.array([1000.0, 1000.0, 750.0, 750.0, 300.0, 300.0, 300.0])
"""Of the position servos [N m/rad]."""
DAMPING = np.array([60.0, 60.0, 44.0, 44.0, 4.0, 4.0, 4.0])
"""Of the servos and the joints together [N m s/rad]: one number, so that the integrator has all of it implicit."""
FINGER_STIFFNESS, FINGER_DAMPING, FINGER_FORCE = 350.0, 20.0, 200.0
"""Of a finger: N/m, N s/m with its joint's own, and the most that its servo gives [N]."""


class Inertial(NamedTuple):
    """Of a link in its frame: mass [kg], centre of mass [m], inertia about it (xx yy zz xy xz yz) [kg m^2]."""

    mass: float
    com: tuple[float, float, float]
    inertia: tuple[float, ...]


INERTIALS = (
    Inertial(
        0.629769, (-0.041018, -0.00014, 0.049974), (0.00315, 0.00388, 0.004285, 8.2904e-7, 0.00015, 8.2299e-6)
    ),
    Inertial(
        4.970684, (0.003875, 0.002081, -0.04762), (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169)
    ),
    Inertial(
        0.646926,
        (-0.003141, -0.02872, 0.003495),
        (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704),
    ),
    Inertial(
        3.228604,
        (0.027518, 0.039252, -0.066502),
        (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805),
    ),
    Inertial(
        3.587895,
        (-0.05317, 0.104419, 0.027454),
        (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641),
    ),
    Inertial(
        1.225946,
        (-0.011953, 0.041065, -0.038437),
        (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229),
    ),
    Inertial(
        1.666555,
        (0.060149, -0.014117, -0.010517),
        (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341),
    ),
    Inertial(
        0.735522,
        (0.010517, -0.004252, 0.061597),
        (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741),
    ),
)
"""Of the base and of links 1 to 7."""
HAND_INERTIAL = Inertial(0.73, (-0.01, 0.0, 0.03), (0.001, 0.0025, 0.0017, 0.0, 0.0, 0.0))
FINGER_INERTIAL = Inertial(0.015, (0.0, 0.0, 0.0), (2.375e-6, 2.375e-6, 7.5e-7, 0.0, 0.0, 0.0))

CAPSULES = (
    (1, 0.06, (0.0, 0.0, -0.19), (0.0, 0.0, -0.05)),
    (2, 0.06, (0.0, -0.12, 0.0), (0.0, 0.0, 0.0)),
    (3, 0.06, (0.0, 0.0, -0.14), (0.0, 0.0, 0.0)),
    (3, 0.055, (0.0825, 0.0, -0.01), (0.0825, 0.0, 0.01)),
    (4, 0.06, (-0.08, 0.0, 0.0), (-0.08, 0.1, 0.0)),
    (5, 0.055, (0.0, 0.04, -0.26), (0.0, 0.02, -0.05)),
    (6, 0.05, (0.0, 0.0, 0.0), (0.088, 0.0, 0.0)),
    (7, 0.045, (0.0, 0.0, 0.02), (0.0, 0.0, 0.09)),
)
"""What links look like, and nothing else: link, radius, both ends [m] in its frame."""
HAND_RADIUS, HAND_HALF = 0.04, 0.06
"""Of the capsule along y that is the hand, at (0, 0, 0.03) of its frame [m]."""
FINGER_RADIUS = 0.018
"""Of the capsule that both fingers are to queries [m]."""
PAD = (0.00875, 0.00758, 0.00825)
PAD_AT = (0.0, 0.00758, 0.04525)
"""Half sizes of the box that is a fingertip, and its place in the finger's frame [m]."""
