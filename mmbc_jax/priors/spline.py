r"""Autoregressive flow of rational-quadratic splines.

eps_i = f(z_i; theta(z_<i, s)) with f an increasing rational-quadratic spline, and eps ~ N(0, I), so that
log p(z | s) = sum_i [log N(eps_i; 0, 1) + log f'(z_i; theta_i)].

One layer is a triangular map, which can represent any density inside [-bound, bound] as the bins grow finer;
outside it is the identity. A density needs one pass through the network, a sample one per entry of z. For a
single entry it is a spline conditioned on the observation alone.

In float32 a spline with steep, narrow bins loses its inverse: rounding of z and of the knots, 1e-6, returns
times the slope. Bins and slopes have a minimum of 1e-2 and raw parameters are bounded by 1.5 tanh(raw / 1.5),
which keeps slopes below about 60. The last layer starts at zero, hence at N(0, I).

Source: Durkan et al. 2019; Papamakarios et al. 2017 (autoregressive flows).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import distrax
import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree
from mmbc_jax.priors._conditioned import ConditionedOptions, ConditionedPrior, earlier_entries, flat_pair

_MIN_BIN, _MIN_SLOPE, _MAX_PARAMETER = 1e-2, 1e-2, 1.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplinePriorOptions(ConditionedOptions):
    """Eight bins between -4 and 4."""

    num_bins: int = option(8, "of each spline", low=1)
    bound: float = option(4.0, "where the identity tails begin", low=0.0, open_low=True)

    def check(self) -> None:
        """Raises ConfigError where the bins do not fit at their minimum width."""
        if self.num_bins > self.bound / _MIN_BIN:
            raise self.error("num_bins", f"at most bound / {_MIN_BIN} = {self.bound / _MIN_BIN:g}")


@dataclasses.dataclass(frozen=True)
class SplinePrior(ConditionedPrior):
    """w as the inverse autoregressive spline of N(0, I), conditioned on the observation.

    Entries of w are taken in row-major order; see `BasePrior` for the attributes.
    """

    options: SplinePriorOptions

    plugin: ClassVar[str] = "spline"

    @property
    def outputs(self) -> int:
        """Widths and heights of the bins, and slopes of the knots."""
        return 3 * self.options.num_bins + 1

    def inputs(self, features: Array) -> Array:
        """[n, I] of features [F]."""
        return earlier_entries(jnp.zeros((self.size, 1)), features)

    def spline(
        self, params: PyTree, features: Array, z: Array, position: Array | None = None
    ) -> distrax.RationalQuadraticSpline:
        """The splines z_i to eps_i of every entry given those before it, or of one entry.

        Args:
          params: of this prior.
          features: [..., F] of observations.
          z: [..., n]; entries from `position` on are not looked at.
          position: [] int32, or None for all.

        Returns:
          A bijector on [..., n], or on [...] at `position`.
        """
        rows = earlier_entries(z[..., None], features)
        rows = rows if position is None else jax.lax.dynamic_index_in_dim(rows, position, -2, False)
        raw = self.answer(params, rows)
        return distrax.RationalQuadraticSpline(
            _MAX_PARAMETER * jnp.tanh(raw / _MAX_PARAMETER),
            -self.options.bound,
            self.options.bound,
            boundary_slopes="identity",
            min_bin_size=_MIN_BIN,
            min_knot_slope=_MIN_SLOPE,
        )

    def distribution(self, params: PyTree, obs: Obs, posterior: Any = None) -> SplineDistribution:
        """The flow with the observations' leading axes as batch shape."""
        return SplineDistribution(self, params, self.features(params, obs))

    def loss(self, params: PyTree, key: Key, obs: Obs, w: Array, posterior: Any = None) -> Array:
        """[...] -log p(w | obs)."""
        return -self.distribution(params, obs).log_prob(w)


@dataclasses.dataclass(frozen=True)
class SplineDistribution:
    """p(z | obs) of a `SplinePrior`.

    Attributes:
      prior: whose distribution it is.
      params: of that prior.
      features: [..., F] of the observations.
    """

    prior: SplinePrior
    params: PyTree
    features: Array

    def from_noise(self, eps: Array) -> Array:
        """z [..., *event_shape] of eps [..., *event_shape]: entry by entry, differentiable."""
        flat, features = flat_pair(eps, self.prior.event_shape, self.features)

        def draw(z: Array, position: Array) -> tuple[Array, None]:
            spline = self.prior.spline(self.params, features, z, position)
            entry = spline.inverse(jax.lax.dynamic_index_in_dim(flat, position, -1, False))
            return jax.lax.dynamic_update_index_in_dim(z, entry, position, -1), None

        z, _ = jax.lax.scan(draw, jnp.zeros_like(flat), jnp.arange(flat.shape[-1]))
        return z.reshape(*z.shape[:-1], *self.prior.event_shape)

    def to_noise(self, value: Array) -> tuple[Array, Array]:
        """(eps [..., *event_shape], log |d eps / d z| [...]) of z [..., *event_shape]."""
        z, features = flat_pair(value, self.prior.event_shape, self.features)
        eps, log_slope = self.prior.spline(self.params, features, z).forward_and_log_det(z)
        return eps.reshape(*eps.shape[:-1], *self.prior.event_shape), log_slope.sum(-1)

    def sample(self, *, seed: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """[*sample_shape, ..., *event_shape], differentiable in the parameters."""
        shape = (*sample_shape, *self.features.shape[:-1], *self.prior.event_shape)
        return self.from_noise(jax.random.normal(seed, shape))

    def log_prob(self, value: Array) -> Array:
        """[...] log density of z [..., *event_shape]."""
        eps, log_slope = self.to_noise(value)
        axes = tuple(range(-len(self.prior.event_shape), 0))
        return jax.scipy.stats.norm.logpdf(eps).sum(axes) + log_slope


@register("prior", SplinePriorOptions)
def build(options: SplinePriorOptions, event_shape: tuple[int, ...], *, spec: PolicySpec) -> SplinePrior:
    """A spline flow over `event_shape`."""
    return SplinePrior(options, tuple(event_shape), spec)
