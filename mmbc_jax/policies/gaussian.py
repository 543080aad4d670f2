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

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import bind, init_backbone, make_backbone
from mmbc_jax.policies._common import data_spread
from mmbc_jax.policies._gaussian import DensityOptions, bounded_log_std, masked_log_prob, raw_of_std
from mmbc_jax.priors.normal import gaussian_noise

INITIAL_STD = 0.5  # about that of a uniform action, 1 / sqrt(3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianOptions(DensityOptions):
    """The network and the bounds of sigma."""


@dataclasses.dataclass(frozen=True)
class GaussianPolicy:
    """chunk = mu(s) + sigma(s) w with w ~ N(0, I).

    Attributes:
      spec: sizes and observations.
      options: of the policy.
      network: from the observation to [..., H, 2 A], the mean beside the raw standard deviation.
    """

    spec: PolicySpec
    options: GaussianOptions
    network: nn.Module

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters of the network; the data's spread is a statistic."""
        params = init_backbone(self.network, key, self.spec.obs.dummy(1))
        return Variables(params, {"spread": data_spread(sample_batch.chunk)})

    def mean_and_log_std(self, variables: Variables, obs: Obs) -> tuple[Array, Array]:
        """(mu, log sigma), each [..., H, A], for obs [...]."""
        mean, raw = jnp.split(bind(self.network, variables.params, obs)(), 2, -1)
        bounds = self.options.bounds(variables.stats)
        return mean, bounded_log_std(raw + raw_of_std(INITIAL_STD, *bounds), *bounds)

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Negative log-likelihood per example [B] in nats per chunk; `key` and `hp` are not used."""
        mean, log_std = self.mean_and_log_std(variables, batch.obs)
        nll = -masked_log_prob(batch.chunk, mean, log_std, batch.mask)
        metrics = {"bc/nll": nll.mean(), "bc/std": jnp.exp(log_std).mean()}
        return Loss(nll, jnp.zeros(()), metrics, variables.stats)

    def base_distribution(self, variables: Variables, obs: Obs) -> Any:
        """N(0, I) on w [..., H, A]."""
        return gaussian_noise(self.spec.obs.batch_shape(obs), self.spec.chunk_shape)

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """mu(s) + sigma(s) w: [..., H, A] for obs [...] and w [..., H, A]."""
        mean, log_std = self.mean_and_log_std(variables, obs)
        return mean + jnp.exp(log_std) * w

    def log_prob(self, variables: Variables, obs: Obs, chunk: Array) -> Array:
        """[...] log p(chunk | obs) for obs [...] and chunk [..., H, A]."""
        return masked_log_prob(chunk, *self.mean_and_log_std(variables, obs))


@register("policy", GaussianOptions, needs_prior="none", needs_sampler=False)
def build(
    options: GaussianOptions,
    spec: PolicySpec,
    *,
    prior: MakePrior | None = None,
    sampler: Sampler | None = None,
) -> GaussianPolicy:
    """A Gaussian policy; `prior` and `sampler` are accepted as by every policy and have no part in it."""
    return GaussianPolicy(spec, options, make_backbone(options, spec, 2 * spec.action_dim))
