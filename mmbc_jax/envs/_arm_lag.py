r"""How a measured position follows its command, fitted to the robot arm of the D3IL tasks.

Per axis and control step of 35 ms, with d the command, c the position and dc the displacement of the last step,

  dc[t] = a dc[t-1] + b0 (d[t] - c[t-1]) + b1 (d[t-1] - c[t-1]),    c[t] = c[t-1] + dc[t].

The constants, of x and y, were fitted by least squares to recordings of the original arm under inverse-kinematics
tracking, of free motion in one plane.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array

LAG = np.array([0.6358, 0.8027])
GAIN_NEW = np.array([0.3951, 0.2152])
GAIN_OLD = np.array([-0.3457, -0.1796])
CONTROL_DT = 0.035


def followed(position: Array, moved: Array, command: Array, new_command: Array) -> Array:
    """[n] displacement of the next control step [m], each [n]; a third axis is taken to follow as y does."""
    axes = np.minimum(np.arange(position.shape[0]), 1)
    lag, new, old = (jnp.asarray(x[axes], jnp.float32) for x in (LAG, GAIN_NEW, GAIN_OLD))
    return lag * moved + new * (new_command - position) + old * (command - position)
