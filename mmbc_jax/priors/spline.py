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
import math
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree
from mmbc_jax.nn.embedding import fourier_features
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.priors._conditioned import check_network, earlier_entries, flat_pair, network_config

_MIN_BIN, _MIN_SLOPE, _MAX_PARAMETER = 1e-2, 1e-2, 1.5


def default_config() -> ConfigDict:
    """Eight bins between -4 and 4."""
    return ConfigDict({"num_bins": 8, "bound": 4.0, **network_config()})


@dataclasses.dataclass(frozen=True)
class SplinePrior:
    """w as the inverse autoregressive spline of N(0, I), conditioned on the observation.

    Attributes:
      event_shape: shape of w; entries are taken in row-major order.
      obs_dim: D.
      num_bins: of each spline.
      bound: where the identity tails begin.
      hidden: widths of the network.
      fourier_octaves: of the observation's features.
      trainable: True.
      gaussian, discrete, needs_posterior: False.
    """

    event_shape: tuple[int, ...]
    obs_dim: int
    num_bins: int
    bound: float
    hidden: tuple[int, ...]
    fourier_octaves: int
    gaussian: bool = False
    trainable: bool = True
    discrete: bool = False
    needs_posterior: bool = False

    def _network(self) -> Any:
        return MLP(self.hidden, 3 * self.num_bins + 1, zero_last=True)

    def init(self, key: Key) -> PyTree:
        """Parameters of the network."""
        features = fourier_features(jnp.zeros((self.obs_dim,)), self.fourier_octaves)
        rows = earlier_entries(jnp.zeros((math.prod(self.event_shape), 1)), features)
        return self._network().init(key, rows)["params"]

    def spline(
        self, params: PyTree, obs: Array, z: Array, position: Array | None = None
    ) -> distrax.RationalQuadraticSpline:
        """The splines z_i to eps_i of every entry given those before it, or of one entry.

        Args:
          params: of this prior.
          obs: [..., D].
          z: [..., n]; entries from `position` on are not looked at.
          position: [] int32, or None for all.

        Returns:
          A bijector on [..., n], or on [...] at `position`.
        """
        rows = earlier_entries(z[..., None], fourier_features(obs, self.fourier_octaves))
        rows = rows if position is None else jnp.take(rows, position, axis=-2)
        raw = self._network().apply({"params": params}, rows)
        return distrax.RationalQuadraticSpline(
            _MAX_PARAMETER * jnp.tanh(raw / _MAX_PARAMETER),
            -self.bound,
            self.bound,
            boundary_slopes="identity",
            min_bin_size=_MIN_BIN,
            min_knot_slope=_MIN_SLOPE,
        )

    def distribution(self, params: PyTree, obs: Array, posterior: Any = None) -> SplineDistribution:
        """The flow with batch shape obs.shape[:-1]."""
        return SplineDistribution(self, params, obs)

    def loss(self, params: PyTree, key: Key, obs: Array, w: Array, posterior: Any = None) -> Array:
        """[...] -log p(w | obs)."""
        return -self.distribution(params, obs).log_prob(w)


@dataclasses.dataclass(frozen=True)
class SplineDistribution:
    """p(z | obs) of a `SplinePrior`.

    Attributes:
      prior: whose distribution it is.
      params: of that prior.
      obs: [..., D].
    """

    prior: SplinePrior
    params: PyTree
    obs: Array

    def from_noise(self, eps: Array) -> Array:
        """z [..., *event_shape] of eps [..., *event_shape]: entry by entry, differentiable."""
        flat, obs = flat_pair(eps, self.prior.event_shape, self.obs)

        def draw(z: Array, position: Array) -> tuple[Array, None]:
            spline = self.prior.spline(self.params, obs, z, position)
            entry = spline.inverse(jnp.take(flat, position, axis=-1))
            return z.at[..., position].set(entry), None

        z, _ = jax.lax.scan(draw, jnp.zeros_like(flat), jnp.arange(flat.shape[-1]))
        return z.reshape(*z.shape[:-1], *self.prior.event_shape)

    def to_noise(self, value: Array) -> tuple[Array, Array]:
        """(eps [..., *event_shape], log |d eps / d z| [...]) of z [..., *event_shape]."""
        z, obs = flat_pair(value, self.prior.event_shape, self.obs)
        eps, log_slope = self.prior.spline(self.params, obs, z).forward_and_log_det(z)
        return eps.reshape(*eps.shape[:-1], *self.prior.event_shape), log_slope.sum(-1)

    def sample(self, *, seed: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """[*sample_shape, ..., *event_shape], differentiable in the parameters."""
        shape = (*sample_shape, *self.obs.shape[:-1], *self.prior.event_shape)
        return self.from_noise(jax.random.normal(seed, shape))

    def log_prob(self, value: Array) -> Array:
        """[...] log density of z [..., *event_shape]."""
        eps, log_slope = self.to_noise(value)
        axes = tuple(range(-len(self.prior.event_shape), 0))
        return jax.scipy.stats.norm.logpdf(eps).sum(axes) + log_slope


@register("prior", default_config)
def build(cfg: ConfigDict, event_shape: tuple[int, ...], *, spec: PolicySpec) -> SplinePrior:
    """A spline flow over `event_shape`.

    Raises:
      ConfigError: no bins, bins too many for their minimum width, or an option of the network cannot work.
    """
    check_range("prior.bound", cfg.bound, 0.0, open_low=True)
    check_range("prior.num_bins", cfg.num_bins, 1, cfg.bound / _MIN_BIN)
    check_network(cfg)
    return SplinePrior(
        tuple(event_shape), spec.obs_dim, cfg.num_bins, cfg.bound, tuple(cfg.hidden), cfg.fourier_octaves
    )
