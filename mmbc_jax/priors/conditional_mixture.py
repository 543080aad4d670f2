r"""Learned mixture of Gaussians that follows the observation: p(z | s) = sum_k pi_k(s) N(z; m_k(s), diag v_k(s)).

The aggregate of the posteriors of one state has as many pieces as the state has modes. One Gaussian, fixed or
learned, either leaves pieces out or puts mass between them; a mixture can give each piece components of its own.
K is a capacity and not the number of modes: several components may share a piece.

m_k(s) = c_k + r_k(s) and log v_k(s) = 8 tanh((b + w_k(s)) / 8), with c_k learned points that start as draws from
N(0, I), b = 2 log .5 and a network for (log pi, r, w) that starts at zero: hence at K components of standard
deviation .5 scattered over N(0, I). Standard deviations stay within [.018, 55]. Samples are differentiable in m
and v, not in pi; the likelihood trains all three.

Source: Bishop 1994 (mixture density networks); Dilokthanakul et al. 2016 (mixture priors of latent variables).
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
from mmbc_jax.nn.backbone import Head
from mmbc_jax.priors._conditioned import bounded_std, check_network, network_config

_START_STD = 0.5


def default_config() -> ConfigDict:
    """Thirty-two components."""
    return ConfigDict({"num_components": 32, **network_config()})


@dataclasses.dataclass(frozen=True)
class ConditionalMixturePrior:
    """w from a mixture of K Gaussians whose weights, means and variances depend on the observation.

    Attributes:
      event_shape: shape of w.
      obs_dim: D.
      num_components: K.
      hidden: widths of the network.
      fourier_octaves: of the observation's features.
      trainable: True.
      gaussian, discrete, needs_posterior: False.
    """

    event_shape: tuple[int, ...]
    obs_dim: int
    num_components: int
    hidden: tuple[int, ...]
    fourier_octaves: int
    gaussian: bool = False
    trainable: bool = True
    discrete: bool = False
    needs_posterior: bool = False

    def _network(self) -> Any:
        size = self.num_components * (1 + 2 * math.prod(self.event_shape))
        return Head(self.hidden, size, zero_last=True, octaves=self.fourier_octaves)

    def init(self, key: Key) -> PyTree:
        """{"network", "centres" [K, n]}, n the size of an event."""
        key_network, key_centres = jax.random.split(key)
        centres = jax.random.normal(key_centres, (self.num_components, math.prod(self.event_shape)))
        network = self._network().init(key_network, jnp.zeros((1, self.obs_dim)))["params"]
        return {"network": network, "centres": centres}

    def distribution(self, params: PyTree, obs: Array, posterior: Any = None) -> distrax.Distribution:
        """The mixture with batch shape obs.shape[:-1]."""
        out = self._network().apply({"params": params["network"]}, obs)
        lead, count = obs.shape[:-1], self.num_components
        logits, moved, raw = jnp.split(out, [count, count + params["centres"].size], -1)
        mean = params["centres"] + moved.reshape(*lead, count, -1)
        std = bounded_std(2 * math.log(_START_STD) + raw.reshape(mean.shape))
        shape = (*lead, count, *self.event_shape)
        normals = distrax.Normal(mean.reshape(shape), std.reshape(shape))
        components = distrax.Independent(normals, len(self.event_shape))
        return distrax.MixtureSameFamily(distrax.Categorical(logits=logits), components)

    def loss(self, params: PyTree, key: Key, obs: Array, w: Array, posterior: Any = None) -> Array:
        """[...] -log p(w | obs)."""
        return -self.distribution(params, obs).log_prob(w)


@register("prior", default_config)
def build(cfg: ConfigDict, event_shape: tuple[int, ...], *, spec: PolicySpec) -> ConditionalMixturePrior:
    """A conditional mixture over `event_shape`.

    Raises:
      ConfigError: fewer than one component, or an option of the network cannot work.
    """
    check_range("prior.num_components", cfg.num_components, 1)
    check_network(cfg)
    return ConditionalMixturePrior(
        tuple(event_shape), spec.obs_dim, cfg.num_components, tuple(cfg.hidden), cfg.fourier_octaves
    )
