r"""Second-order Runge-Kutta: Heun's trapezoid, with a midpoint as the last step.

k1 = v(x, t), k2 = v(x + c h k1, t + c h), x <- x + h [(1 - 1/2c) k1 + (1/2c) k2]. c=1 is Heun's method and
c=1/2 the midpoint rule; both are of second order. The last step takes c=1/2 because Heun's would ask for
v(., 1), where a field that predicts the data does not determine the noise.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Field
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.samplers._grid import EvenOptions, EvenSampler, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeunOptions(EvenOptions):
    """Five steps: as many evaluations as ten of Euler's."""

    steps: int = option(5, "steps of two network evaluations each", low=1, high=10_000)


@dataclasses.dataclass(frozen=True)
class Heun(EvenSampler):
    """Heun's method; two network evaluations a step."""

    plugin: ClassVar[str] = "heun"

    def recurrence(self, field: Field, x0: Array, noise: Array | None) -> tuple[Step, PyTree, PyTree]:
        """One step of the method; see `EvenSampler`."""
        t = self.times
        fraction = jnp.ones(self.steps).at[-1].set(0.5)

        def step(x: Array, item: tuple[Array, Array, Array]) -> Array:
            now, after, c = item
            h = after - now
            first = field.velocity(x, now)
            second = field.velocity(x + c * h * first, now + c * h)
            weight = 0.5 / c
            return x + h * ((1.0 - weight) * first + weight * second)

        return step, x0, (t[:-1], t[1:], fraction)


@register("sampler", HeunOptions)
def build(options: HeunOptions) -> Heun:
    """Heun's method."""
    return Heun(options)
