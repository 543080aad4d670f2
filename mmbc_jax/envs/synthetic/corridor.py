r"""A wall with K gaps: mode i passes the i-th from below.

The wall fills x in [.48, .52] except for gaps centred at y_i = (i + 1) / (K + 1), of height `gap` / (K + 1).
Mode i runs straight from (.05, .5) to (.48, y_i), through the gap to (.52, y_i), and straight to (.95, .5); its
60 positions are uniform in x. K is even, so that the mean over modes runs into the wall.
Source: https://arxiv.org/abs/2605.22493.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.envs.synthetic._noisy_path import NoisyPath, NoisyPathOptions
from mmbc_jax.envs.synthetic._path_geometry import MAX_MODES
from mmbc_jax.envs.synthetic._statistics import rice_mean

START, WALL = 0.05, (0.48, 0.52)
KNOTS, AWAY = (START, *WALL, 1.0 - START), (0.0, 1.0, 1.0, 0.0)  # share of y_i - .5 at these x


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorridorOptions(NoisyPathOptions):
    """Options of the task."""

    num_modes: int = option(8, "K, even", low=2, high=MAX_MODES)
    noise: float = option(0.005, "standard deviation of the positions", low=0.0)
    gap: float = option(0.5, "open part of the wall", low=0.0, high=1.0, open_low=True)

    def check(self) -> None:
        """K is even."""
        if self.num_modes % 2:
            raise self.error("num_modes", "an even number")


class Corridor(NoisyPath):
    """See the module docstring."""

    options: CorridorOptions

    def __init__(self, options: CorridorOptions):
        super().__init__(options, tuple(f"gap {i}" for i in range(options.num_modes)), MAX_MODES)

    def default_params(self) -> PyTree:
        """num_modes [] int32, noise [], gap []."""
        return {
            "num_modes": jnp.asarray(self.options.num_modes, jnp.int32),
            "noise": jnp.asarray(self.options.noise),
            "gap": jnp.asarray(self.options.gap),
        }

    def point(self, params: PyTree, mode: Array, phase: Array) -> Array:
        """Mean path [..., 2] of `mode` [...] at `phase` [...]."""
        x = START + (1.0 - 2.0 * START) * phase
        away = jnp.interp(x, jnp.array(KNOTS), jnp.array(AWAY))
        y = 0.5 + ((mode + 1) / (params["num_modes"] + 1) - 0.5) * away
        return jnp.stack(jnp.broadcast_arrays(x, y), axis=-1)

    def boxes(self, params: PyTree) -> tuple[Array, Array]:
        """(centres [65, 2], half sizes [65, 2]): the K + 1 pieces of the wall, the rest repeat the lowest."""
        pitch = 1.0 / (params["num_modes"] + 1)
        piece = jnp.arange(self.rows + 1)
        piece = jnp.where(piece <= params["num_modes"], piece, 0)
        half_gap = 0.5 * params["gap"] * pitch
        low = jnp.where(piece == 0, 0.0, piece * pitch + half_gap)
        high = jnp.where(piece == params["num_modes"], 1.0, (piece + 1) * pitch - half_gap)
        low, high = (
            jnp.stack([jnp.full(piece.shape, x), y], -1) for x, y in zip(WALL, (low, high), strict=True)
        )
        return (low + high) / 2, (high - low) / 2

    def collides(self, params: PyTree, position: Array) -> Array:
        """[...] bool for `position` [..., 2]: within the wall and off the nearest gap."""
        x, y = position[..., 0], position[..., 1]
        pitch = 1.0 / (params["num_modes"] + 1)
        gap = jnp.clip(jnp.round(y / pitch), 1, params["num_modes"])
        closed = jnp.abs(y - gap * pitch) >= 0.5 * params["gap"] * pitch
        return (x >= WALL[0]) & (x <= WALL[1]) & closed

    def separation(self, params: PyTree) -> Array:
        """[] Delta: neighbours are 1 / (K + 1) apart within the wall, and in proportion before and after."""
        return _away(self.points).mean() / (params["num_modes"] + 1)

    def expert_length(self, params: PyTree) -> Array:
        """[] experts' expected path length; a mode's steps have few different lengths, each taken once here."""
        ramps, counts = np.unique(np.abs(np.diff(_away(self.points))).round(6), return_counts=True)
        height = (self._modes(params) + 1) / (params["num_modes"] + 1) - 0.5
        steps = jnp.hypot((1.0 - 2.0 * START) / (self.points - 1), height[:, None] * ramps)
        lengths = (rice_mean(steps, 2**0.5 * params["noise"]) * counts).sum(-1)
        real = jnp.arange(self.rows) < params["num_modes"]
        return jnp.where(real, lengths, 0.0).sum() / real.sum()


def _away(points: int) -> np.ndarray:
    """[T] share of y_i - .5 that the positions of a mean path have gone."""
    return np.interp(START + (1.0 - 2.0 * START) * np.arange(points) / (points - 1), KNOTS, AWAY)


@register("env", CorridorOptions)
def build(options: CorridorOptions) -> Corridor:
    """Builds the task; see the module docstring."""
    return Corridor(options)
