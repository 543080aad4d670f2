"""Angles in the plane."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.types import Array

TURN = 2.0 * np.pi


def within_turn(angle: Array) -> Array:
    """Angles [rad] in [0, 2 pi)."""
    return angle - TURN * jnp.floor(angle / TURN)
