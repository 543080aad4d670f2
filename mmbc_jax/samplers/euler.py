"""Explicit Euler: x_{i+1} = x_i + (t_{i+1} - t_i) v(x_i, t_i). First order, one evaluation a step."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from mmbc_jax.core.protocols import Field
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.samplers._grid import EvenOptions, EvenSampler, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class EulerOptions(EvenOptions):
    """Ten steps, as in the action-flow policies that this package reproduces."""


@dataclasses.dataclass(frozen=True)
class Euler(EvenSampler):
    """Explicit Euler; one network evaluation a step."""

    plugin: ClassVar[str] = "euler"

    def recurrence(self, field: Field, x0: Array, noise: Array | None) -> tuple[Step, PyTree, PyTree]:
        """One step of the method; see `EvenSampler`."""
        t = self.times

        def step(x: Array, times: tuple[Array, Array]) -> Array:
            now, after = times
            return x + (after - now) * field.velocity(x, now)

        return step, x0, (t[:-1], t[1:])


@register("sampler", EulerOptions)
def build(options: EulerOptions) -> Euler:
    """Euler's method."""
    return Euler(options)
