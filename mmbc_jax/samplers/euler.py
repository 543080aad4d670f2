"""Explicit Euler: x_{i+1} = x_i + (t_{i+1} - t_i) v(x_i, t_i). First order, one evaluation a step."""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from mmbc_jax.core.protocols import Field
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array
from mmbc_jax.samplers._grid import check_steps, run_steps, uniform_grid


def default_config() -> ConfigDict:
    """Ten steps, as in the action-flow policies that this package reproduces."""
    return ConfigDict({"steps": 10})


@dataclasses.dataclass(frozen=True)
class Euler:
    """Explicit Euler on an even grid.

    Attributes:
      steps: network evaluations.
      stochastic: False.
    """

    steps: int
    stochastic: bool = False

    def noise_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(0,): no noise beyond x0."""
        return (0,)

    def integrate(self, field: Field, x0: Array, noise: Array | None) -> Array:
        """Chunk [..., H, A] from x0 [..., H, A]."""
        t = uniform_grid(self.steps)

        def step(x: Array, times: tuple[Array, Array]) -> Array:
            now, after = times
            return x + (after - now) * field.velocity(x, now)

        return run_steps(step, x0, (t[:-1], t[1:]), self.steps)


@register("sampler", default_config)
def build(cfg: ConfigDict) -> Euler:
    """Euler with `cfg.steps` steps.

    Raises:
      ConfigError: fewer than one step.
    """
    check_steps(cfg.steps)
    return Euler(cfg.steps)
