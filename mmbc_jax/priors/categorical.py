r"""Distribution over integer codes, learned and autoregressive, or uniform.

p(c | s) = prod_i p(c_i | c_<i, s), or K^-n.

The base of policies with a codebook. In a residual codebook the later codes refine the earlier ones, so they
depend on them, hence the autoregression: one MLP for all positions that sees the observation, the position
and the codes before it. The last layer starts at zero, hence at the uniform distribution.

Source: van den Oord et al. 2017 (prior over codes); Lee et al. 2024 (VQ-BeT: codes of residual layers).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree
from mmbc_jax.nn.embedding import fourier_features
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.priors._conditioned import check_network, earlier_entries, flat_pair, network_config


def default_config() -> ConfigDict:
    """Sixteen codes per position, learned; `learned` False leaves them uniform."""
    return ConfigDict({"num_codes": 16, "learned": True, **network_config()})


@dataclasses.dataclass(frozen=True)
class CategoricalPrior:
    """w int32 in [0, num_codes) at every position of `event_shape`.

    Attributes:
      event_shape: shape of w; positions are taken in row-major order.
      obs_dim: D.
      num_codes: K.
      hidden: widths of the network.
      fourier_octaves: of the observation's features.
      trainable: whether it is learned; uniform otherwise.
      discrete: True.
      gaussian, needs_posterior: False.
    """

    event_shape: tuple[int, ...]
    obs_dim: int
    num_codes: int
    hidden: tuple[int, ...] = (128, 128)
    fourier_octaves: int = 4
    trainable: bool = True
    gaussian: bool = False
    discrete: bool = True
    needs_posterior: bool = False

    def _network(self) -> Any:
        return MLP(self.hidden, self.num_codes, zero_last=True)

    def init(self, key: Key) -> PyTree:
        """Parameters of the network; none where uniform."""
        if not self.trainable:
            return {}
        features = fourier_features(jnp.zeros((self.obs_dim,)), self.fourier_octaves)
        codes = jnp.zeros((math.prod(self.event_shape), self.num_codes))
        return self._network().init(key, earlier_entries(codes, features))["params"]

    def logits(self, params: PyTree, obs: Array, codes: Array, position: Array | None = None) -> Array:
        """Logits of every position given the codes before it, or of one position.

        Args:
          params: of this prior.
          obs: [..., D].
          codes: [..., n] int32; entries from `position` on are not looked at.
          position: [] int32, or None for all.

        Returns:
          [..., n, K], or [..., K] at `position`.
        """
        if not self.trainable:
            return jnp.zeros((*(codes.shape if position is None else codes.shape[:-1]), self.num_codes))
        one_hot = jax.nn.one_hot(codes, self.num_codes)
        rows = earlier_entries(one_hot, fourier_features(obs, self.fourier_octaves))
        rows = rows if position is None else jnp.take(rows, position, axis=-2)
        return self._network().apply({"params": params}, rows)

    def distribution(self, params: PyTree, obs: Array, posterior: Any = None) -> CodeDistribution:
        """The codes' distribution with batch shape obs.shape[:-1]."""
        return CodeDistribution(self, params, obs)

    def loss(self, params: PyTree, key: Key, obs: Array, w: Array, posterior: Any = None) -> Array:
        """[...] -log p(w | obs) in nats."""
        return -self.distribution(params, obs).log_prob(w)


@dataclasses.dataclass(frozen=True)
class CodeDistribution:
    """p(codes | obs) of a `CategoricalPrior`.

    Attributes:
      prior: whose distribution it is.
      params: of that prior.
      obs: [..., D].
    """

    prior: CategoricalPrior
    params: PyTree
    obs: Array

    def sample(self, *, seed: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """[*sample_shape, ..., *event_shape] int32, drawn position by position."""
        lead = (*sample_shape, *self.obs.shape[:-1])
        obs = jnp.broadcast_to(self.obs, (*lead, self.obs.shape[-1]))
        n = math.prod(self.prior.event_shape)

        def draw(codes: Array, step: tuple[Array, Key]) -> tuple[Array, None]:
            position, key = step
            logits = self.prior.logits(self.params, obs, codes, position)
            return codes.at[..., position].set(jax.random.categorical(key, logits).astype(jnp.int32)), None

        start = jnp.zeros((*lead, n), jnp.int32)
        codes, _ = jax.lax.scan(draw, start, (jnp.arange(n), jax.random.split(seed, n)))
        return codes.reshape(*lead, *self.prior.event_shape)

    def log_prob(self, value: Array) -> Array:
        """[...] log-probability in nats of codes [..., *event_shape]."""
        codes, obs = flat_pair(value, self.prior.event_shape, self.obs)
        log_p = jax.nn.log_softmax(self.prior.logits(self.params, obs, codes))
        return jnp.take_along_axis(log_p, codes[..., None], -1)[..., 0].sum(-1)


@register("prior", default_config)
def build(cfg: ConfigDict, event_shape: tuple[int, ...], *, spec: PolicySpec) -> CategoricalPrior:
    """A distribution over codes at every position of `event_shape`.

    Raises:
      ConfigError: fewer than two codes, or an option of the network cannot work.
    """
    check_range("prior.num_codes", cfg.num_codes, 2)
    check_network(cfg)
    return CategoricalPrior(
        tuple(event_shape),
        spec.obs_dim,
        cfg.num_codes,
        tuple(cfg.hidden),
        cfg.fourier_octaves,
        trainable=cfg.learned,
    )
