r"""Gaussian that follows the observation: p(z | s) = N(z; m(s), diag v(s)).

A posterior that only matches N(0, I) on average, E_s q(z|s) = p(z), can leave the deployed latents of one
state to the modes of another; a prior that sees the state closes that gap. Its samples
z = m + sqrt(v) eps are differentiable in m and v, so a divergence between samples trains it as a
likelihood does. log v = 8 tanh(raw / 8): standard deviations stay within [.018, 55].
The last layer starts at zero, hence at N(0, I).

Source: Sohn et al. 2015 (conditional VAE, learned prior).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import distrax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree
from mmbc_jax.nn.backbone import Head
from mmbc_jax.priors._conditioned import bounded_std, check_network, network_config


def default_config() -> ConfigDict:
    """Only the network."""
    return ConfigDict(network_config())


@dataclasses.dataclass(frozen=True)
class ConditionalPrior:
    """w ~ N(m(obs), diag v(obs)).

    Attributes:
      event_shape: shape of w.
      obs_dim: D.
      hidden: widths of the network.
      fourier_octaves: of the observation's features.
      gaussian: False: it is not N(0, I).
      trainable: True.
      discrete, needs_posterior: False.
    """

    event_shape: tuple[int, ...]
    obs_dim: int
    hidden: tuple[int, ...]
    fourier_octaves: int
    gaussian: bool = False
    trainable: bool = True
    discrete: bool = False
    needs_posterior: bool = False

    def _network(self) -> Any:
        size = 2 * math.prod(self.event_shape)
        return Head(self.hidden, size, zero_last=True, octaves=self.fourier_octaves)

    def init(self, key: Key) -> PyTree:
        """Parameters of the network."""
        return self._network().init(key, jnp.zeros((1, self.obs_dim)))["params"]

    def distribution(self, params: PyTree, obs: Array, posterior: Any = None) -> distrax.Distribution:
        """The Gaussian with batch shape obs.shape[:-1]."""
        out = self._network().apply({"params": params}, obs)
        mean, raw = jnp.split(out, 2, -1)
        std = bounded_std(raw)
        shape = (*obs.shape[:-1], *self.event_shape)
        normal = distrax.Normal(mean.reshape(shape), std.reshape(shape))
        return distrax.Independent(normal, len(self.event_shape))

    def loss(self, params: PyTree, key: Key, obs: Array, w: Array, posterior: Any = None) -> Array:
        """[...] -log p(w | obs)."""
        return -self.distribution(params, obs).log_prob(w)


@register("prior", default_config)
def build(cfg: ConfigDict, event_shape: tuple[int, ...], *, spec: PolicySpec) -> ConditionalPrior:
    """A conditional Gaussian over `event_shape`.

    Raises:
      ConfigError: an option of the network cannot work.
    """
    check_network(cfg)
    return ConditionalPrior(tuple(event_shape), spec.obs_dim, tuple(cfg.hidden), cfg.fourier_octaves)
