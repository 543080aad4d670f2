r"""One diagonal Gaussian on the chunk.

p(chunk | s) = N(mu(s), diag(sigma(s))^2), trained by maximum likelihood on the recorded actions,

  loss_b = -sum_{h,a} m_bh log N(x_bha; mu_ha(s_b), sigma_ha(s_b)).

As a pair: w ~ N(0, I) and transport(s, w) = mu(s) + sigma(s) w. It has noise, but affinely: one mode whatever
the data. Between two demonstrated modes mu goes down the middle and sigma grows to cover both.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import bind, init_backbone, make_backbone, network_config
from mmbc_jax.policies._gaussian import bounded_log_std, check_std, masked_log_prob, raw_of_std
from mmbc_jax.priors.normal import gaussian_noise

INITIAL_STD = 0.5  # about that of a uniform action, 1 / sqrt(3)


def default_config() -> ConfigDict:
    """Defaults; `min_std` and `max_std` bound sigma in normalised units."""
    return ConfigDict({**network_config(), "min_std": 0.01, "max_std": 1.0})


@dataclasses.dataclass(frozen=True)
class GaussianPolicy:
    """chunk = mu(s) + sigma(s) w with w ~ N(0, I).

    Attributes:
      spec: sizes.
      network: from the observation to [..., H, 2 A], the mean beside the raw standard deviation.
      min_std: lower bound of sigma.
      max_std: upper bound of sigma.
    """

    spec: PolicySpec
    network: nn.Module
    min_std: float
    max_std: float

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters of the network."""
        return Variables(init_backbone(self.network, key, jnp.zeros((1, self.spec.obs_dim))))

    def mean_and_log_std(self, variables: Variables, obs: Array) -> tuple[Array, Array]:
        """(mu, log sigma), each [..., H, A], for obs [..., D]."""
        mean, raw = jnp.split(bind(self.network, variables.params, obs)(), 2, -1)
        start = raw_of_std(INITIAL_STD, self.min_std, self.max_std)
        return mean, bounded_log_std(raw + start, self.min_std, self.max_std)

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Negative log-likelihood per example [B] in nats per chunk; `key` and `hp` are not used."""
        mean, log_std = self.mean_and_log_std(variables, batch.obs)
        nll = -masked_log_prob(batch.chunk, mean, log_std, batch.mask)
        metrics = {"bc/nll": nll.mean(), "bc/std": jnp.exp(log_std).mean()}
        return Loss(nll, jnp.zeros(()), metrics, variables.stats)

    def base_distribution(self, variables: Variables, obs: Array) -> Any:
        """N(0, I) on w [..., H, A]."""
        return gaussian_noise(obs, self.spec.chunk_shape)

    def transport(self, variables: Variables, obs: Array, w: PyTree) -> Array:
        """mu(s) + sigma(s) w: [..., H, A] for obs [..., D] and w [..., H, A]."""
        mean, log_std = self.mean_and_log_std(variables, obs)
        return mean + jnp.exp(log_std) * w

    def log_prob(self, variables: Variables, obs: Array, chunk: Array) -> Array:
        """[...] log p(chunk | obs) for obs [..., D] and chunk [..., H, A]."""
        return masked_log_prob(chunk, *self.mean_and_log_std(variables, obs))


@register("policy", default_config)
def build(
    cfg: ConfigDict, spec: PolicySpec, *, prior: MakePrior | None = None, sampler: Sampler | None = None
) -> GaussianPolicy:
    """A Gaussian policy; `prior` and `sampler` are accepted as by every policy and have no part in it.

    Raises:
      ConfigError: an option cannot work.
    """
    check_std(cfg)
    network = make_backbone(cfg, spec.chunk_len, 2 * spec.action_dim)
    return GaussianPolicy(spec, network, cfg.min_std, cfg.max_std)
