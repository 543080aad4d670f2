"""What the samplers share: time grids, the loop over their steps, and what they make of it."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmbc_jax.core.options import Options, option
from mmbc_jax.core.protocols import Field
from mmbc_jax.core.types import Array, PyTree

Step = Callable[[Any, PyTree], Any]
"""(state, inputs of one step) to the next state."""


def uniform_grid(steps: int) -> Array:
    """[steps + 1] times from 0 (noise) to 1 (data), evenly spaced.

    Even spacing suits both paths in use: on the linear path dx/dt is a difference of data and noise, and the
    cosine path is parametrised by its angle, so that dx/dt stays of order 1 at both ends. What is singular
    is the recovery of the data from the noise at t=0 and of the noise from the data at t=1. No sampler here
    evaluates a field at t=1, and a field must answer at t=0 (see `min_alpha` of policies/diffusion).
    """
    return jnp.linspace(0.0, 1.0, steps + 1)


def crowded_grid(steps: int, crowding: float) -> Array:
    """[steps + 1] times 1 - (1 - u)^crowding with u evenly spaced: above 1 they crowd towards the data."""
    even = uniform_grid(steps)
    return even if crowding == 1.0 else 1.0 - (1.0 - even) ** crowding


def run_steps(step: Step, start: PyTree, inputs: PyTree, steps: int) -> Any:
    """The state after `state = step(state, inputs[i])` for i = 0 .. steps-1.

    Args:
      step: one step of the integrator.
      start: first state, such as x0 [..., H, A].
      inputs: pytree of [steps, ...] arrays.
      steps: number of steps.

    Returns:
      The last state, a pytree like `start`; reverse-differentiable in `start` and `inputs`.
    """
    return jax.lax.scan(lambda state, item: (step(state, item), None), start, inputs, length=steps)[0]


def visit_steps(step: Step, start: PyTree, inputs: PyTree, steps: int) -> Any:
    """The states that `run_steps` visits, [steps + 1, ...]: the first is `start`, the last its result."""
    # Each step hands out the state that it was given, so that it computes what it computes in `run_steps`.
    end, before = jax.lax.scan(lambda state, item: (step(state, item), state), start, inputs, length=steps)
    return jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), before, end)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvenOptions(Options):
    """Steps of equal length in time, unless they crowd."""

    steps: int = option(10, "steps from noise to chunk", low=1, high=10_000)
    crowding: float = option(
        1.0,
        "times are 1 - (1 - i / steps)^crowding; above 1 steps crowd towards the data",
        low=0.0,
        open_low=True,
    )


@dataclasses.dataclass(frozen=True)
class EvenSampler(abc.ABC):
    """A sampler on a grid of times that is even, or crowds; what is left to it are its steps.

    Attributes:
      options: of the plug-in.
      plugin: name of the plug-in.
    """

    options: EvenOptions

    plugin: ClassVar[str]

    @property
    def name(self) -> str:
        """Under which it was configured; the plug-in's own where it was built by hand."""
        return self.options.name or self.plugin

    @property
    def steps(self) -> int:
        """Steps from noise to chunk."""
        return self.options.steps

    @property
    def times(self) -> Array:
        """[steps + 1] times from 0 (noise) to 1 (data)."""
        return crowded_grid(self.steps, self.options.crowding)

    @property
    def stochastic(self) -> bool:
        """Whether steps add noise."""
        return False

    def noise_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(steps, H, A) with noise, of which the last step may add none; (0,) without."""
        return (self.steps, *event_shape) if self.stochastic else (0,)

    @abc.abstractmethod
    def recurrence(self, field: Field, x0: Array, noise: Array | None) -> tuple[Step, PyTree, PyTree]:
        """(step, first state, inputs [steps, ...]) of `run_steps` for the arguments of `integrate`."""

    def point(self, state: Any) -> Array:
        """x of a state."""
        return state

    def integrate(self, field: Field, x0: Array, noise: Array | None) -> Array:
        """Chunk [..., H, A] from x0 [..., H, A] and, where stochastic, noise [..., steps, H, A]."""
        return self.point(run_steps(*self.recurrence(field, x0, noise), self.steps))

    def trace(self, field: Field, x0: Array, noise: Array | None) -> Array:
        """[steps + 1, ..., H, A] the points that `integrate` visits: x0 first, the chunk last."""
        return self.point(visit_steps(*self.recurrence(field, x0, noise), self.steps))
