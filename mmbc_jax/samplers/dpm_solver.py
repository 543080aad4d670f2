r"""DPM-Solver++(2M): a multistep method that extrapolates the estimate of the data.

Along the flow d(x / sigma) = x1^ d(alpha / sigma), so with x1^ frozen at D a step from t to s is exact,

  x_s = (sigma_s / sigma_t) x_t + (alpha_s - alpha_t sigma_s / sigma_t) D,

finite for alpha_t = 0 and for sigma_s = 0. D is x1^ at the middle of the step, extrapolated linearly from
this step and the one before: D = D_i + c (D_i - D_{i-1}), c = (u_{i+1} - u_i) / (2 (u_i - u_{i-1})). One
network evaluation a step, second order. The first step has no predecessor, and a step that ends at
sigma = 0 returns x1^: there c = 0, which costs an error of the second order, once.

The original takes the middle in u = log(alpha / sigma), here u = alpha / (alpha + sigma), which is t on the
linear path. The two agree on short steps. But where alpha(0) = 0 and sigma(1) = 0 the ends are infinitely far
away in the logarithm, so that steps near them never become short and the error falls unevenly: on Gaussian
data and the linear path not at all from 16 to 32 steps.

Source: Lu et al. 2022, algorithm 2 (DPM-Solver++(2M)).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmbc_jax.core.protocols import Field
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, PyTree
from mmbc_jax.samplers._grid import EvenOptions, EvenSampler, Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPMSolverOptions(EvenOptions):
    """Ten steps."""


def extrapolation(alpha: Array, sigma: Array) -> Array:
    """[steps] the coefficient c of each step, from alpha and sigma [steps + 1] at the times of the grid."""
    length = jnp.diff(alpha / (alpha + sigma))
    c = jnp.concatenate([jnp.zeros(1), length[1:] / (2.0 * length[:-1])])
    return jnp.where(sigma[1:] > 0.0, c, 0.0)


@dataclasses.dataclass(frozen=True)
class DPMSolver(EvenSampler):
    """DPM-Solver++(2M); one network evaluation a step."""

    plugin: ClassVar[str] = "dpm_solver"

    def point(self, state: Any) -> Array:
        """x of (x, the estimate of the data in the step before)."""
        return state[0]

    def recurrence(self, field: Field, x0: Array, noise: Array | None) -> tuple[Step, PyTree, PyTree]:
        """One step of the method; see `EvenSampler`."""
        t = self.times
        alpha, sigma = jax.vmap(field.path)(t)
        keep = sigma[1:] / sigma[:-1]
        pull = alpha[1:] - alpha[:-1] * keep

        def step(state: tuple[Array, Array], item: tuple[Array, ...]) -> tuple[Array, Array]:
            x, before = state
            now, keep, pull, c = item
            data, _ = field.denoise(x, now)
            return keep * x + pull * (data + c * (data - before)), data

        inputs = (t[:-1], keep, pull, extrapolation(alpha, sigma))
        return step, (x0, jnp.zeros_like(x0)), inputs


@register("sampler", DPMSolverOptions)
def build(options: DPMSolverOptions) -> DPMSolver:
    """DPM-Solver++(2M)."""
    return DPMSolver(options)
