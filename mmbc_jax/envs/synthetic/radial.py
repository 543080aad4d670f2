r"""Straight lines from the centre in K directions, with an obstacle between every two.

Mode i runs from (.5, .5) to radius R at the angle 2 pi i / K. One axis-aligned square per sector stands at
radius R / 2 and angle 2 pi (i + 1/2) / K, of half size (R/2 sin(pi / K) - 3 sigma) / sqrt(2), so that its
corners stay 3 sigma off the lines; none where that is not positive. Two neighbours are
R sin(pi / K) apart in the mean. Source: https://arxiv.org/abs/2605.22493.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.envs.synthetic._noisy_path import NoisyPath, NoisyPathOptions
from mmbc_jax.envs.synthetic._path_geometry import MAX_MODES
from mmbc_jax.envs.synthetic._statistics import rice_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class RadialOptions(NoisyPathOptions):
    """Options of the task."""

    num_modes: int = option(8, "K", low=1, high=MAX_MODES)
    noise: float = option(0.006, "standard deviation of the positions", low=0.0)
    radius: float = option(0.4, "R", low=0.0, high=0.5, open_low=True)


class Radial(NoisyPath):
    """See the module docstring."""

    options: RadialOptions

    def __init__(self, options: RadialOptions):
        names = tuple(f"{360 * i / options.num_modes:.5g} deg" for i in range(options.num_modes))
        super().__init__(options, names, MAX_MODES)

    def default_params(self) -> PyTree:
        """num_modes [] int32, noise [], radius []."""
        return {
            "num_modes": jnp.asarray(self.options.num_modes, jnp.int32),
            "noise": jnp.asarray(self.options.noise),
            "radius": jnp.asarray(self.options.radius),
        }

    def point(self, params: PyTree, mode: Array, phase: Array) -> Array:
        """Mean path [..., 2] of `mode` [...] at `phase` [...]."""
        radius = params["radius"] * phase
        return 0.5 + radius[..., None] * _direction(2 * jnp.pi * mode / params["num_modes"])

    def boxes(self, params: PyTree) -> tuple[Array, Array]:
        """(centres [64, 2], half sizes [64, 2]), one square per sector; see the module docstring."""
        modes = self._modes(params)
        centres = self._centres(params, modes)
        return centres, jnp.broadcast_to(_half_size(params), centres.shape)

    def collides(self, params: PyTree, position: Array) -> Array:
        """[...] bool for `position` [..., 2]: the square of its own sector.

        A square lies inside the circle through its corners, whose radius R/2 sin(pi / K) - 3 sigma is less
        than the distance from its centre to the two lines: it never leaves its sector.
        """
        offset = position - 0.5
        turns = jnp.arctan2(offset[..., 1], offset[..., 0]) / (2 * jnp.pi)
        sector = jnp.floor(turns * params["num_modes"])
        inside = jnp.abs(position - self._centres(params, sector)) <= _half_size(params)
        return inside.all(-1)

    def separation(self, params: PyTree) -> Array:
        """[] Delta: neighbours are 2 R s sin(pi / K) apart at radius R s, R sin(pi / K) in the mean."""
        return params["radius"] * jnp.sin(jnp.pi / params["num_modes"])

    def expert_length(self, params: PyTree) -> Array:
        """[] experts' expected path length: T - 1 steps of R / (T - 1) in every mode."""
        steps = self.points - 1
        return steps * rice_mean(params["radius"] / steps, 2**0.5 * params["noise"])

    def _centres(self, params: PyTree, sector: Array) -> Array:
        """[..., 2] centre of the square of `sector` [...]."""
        return 0.5 + 0.5 * params["radius"] * _direction(2 * jnp.pi * (sector + 0.5) / params["num_modes"])


def _direction(angle: Array) -> Array:
    """[..., 2] unit vector at `angle` [...]."""
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def _half_size(params: PyTree) -> Array:
    """[] half the side of every square; negative where there is none."""
    room = 0.5 * params["radius"] * jnp.sin(jnp.pi / params["num_modes"])
    return (room - 3.0 * params["noise"]) / 2**0.5


@register("env", RadialOptions)
def build(options: RadialOptions) -> Radial:
    """Builds the task; see the module docstring."""
    return Radial(options)
