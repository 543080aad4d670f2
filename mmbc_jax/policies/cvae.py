r"""Conditional variational autoencoder over chunks.

loss = |chunk - decode(s, z)| + beta KL(q(z | a, s) || p(z | s)),  z ~ q, a diagonal Gaussian.

The error is a mean over action entries and the KL a sum over latent entries, in nats, as in ACT. Since
E KL = I_q(A; Z | S) + E_s KL(q(z|s) || p(z|s)), a large beta bounds the information in z from above, below what is
needed to tell the modes apart: the policy then has one mode. The KL is in closed form where the prior is a
Gaussian and log q(z) - log p(z) at one sample elsewhere; a learned prior is trained by the KL.

Source: Kingma and Welling 2014; Sohn et al. 2015; Zhao et al. 2023 (ACT, which acts with z = 0).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import make_backbone, make_chunk_encoder
from mmbc_jax.ops.capped import capped
from mmbc_jax.ops.divergences import gaussian_kl
from mmbc_jax.policies._latent import (
    GaussianLatentPolicy,
    LatentOptions,
    active_units,
    check_continuous,
    diagonal_gaussian,
)

MIN_LOG_VARIANCE = -10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CVAEOptions(LatentOptions):
    """Options of the CVAE."""

    beta: float = option(0.01, "weight of the KL", low=0.0, traced=True)
    zero_latent: bool = option(False, "decode z = 0 whatever the base draws")


def kl_divergence(posterior: distrax.Independent, prior: Any, z: Array) -> Array:
    """KL(q || p) [...] in nats: exact between two diagonal Gaussians, else log q(z) - log p(z).

    Args:
      posterior: q, a diagonal Gaussian over [..., W].
      prior: p, any distribution over [..., W].
      z: [..., W] a sample of q.
    """
    q = posterior.distribution
    p = prior.distribution if isinstance(prior, distrax.Independent) else None
    if not isinstance(p, distrax.Normal):
        return posterior.log_prob(z) - prior.log_prob(z)
    return gaussian_kl(q.loc, 2.0 * jnp.log(q.scale), p.loc, 2.0 * jnp.log(p.scale))


@dataclasses.dataclass(frozen=True)
class CVAEPolicy(GaussianLatentPolicy):
    """KL-regularised latent policy; see `policies._latent` for its attributes."""

    options: CVAEOptions

    def posterior(self, variables: Variables, obs: Obs, chunk: Array) -> distrax.Independent:
        """q(z | obs, chunk) with log-variances above -10, by a softplus that leaves a gradient there."""
        mean, raw = jnp.split(self.encode(variables.params, obs, chunk), 2, -1)
        log_variance = MIN_LOG_VARIANCE + jax.nn.softplus(raw - MIN_LOG_VARIANCE)
        return diagonal_gaussian(mean, jnp.exp(capped(0.5 * log_variance)))

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """The decoder at w [..., W], or at zero: chunk [..., H, A]."""
        return super().transport(variables, obs, jnp.zeros_like(w) if self.options.zero_latent else w)

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """The negative ELBO with the KL weighed by beta, per example [B].

        Args:
          variables: of this policy.
          key: of the latent's sample.
          batch: obs [B], chunk [B, H, A], mask [B, H].
          hp: `beta` [].
        """
        q = self.posterior(variables, batch.obs, batch.chunk)
        z = q.sample(seed=key)
        kl = kl_divergence(q, self.prior_of(variables, batch.obs), z)
        error = self.error(variables.params, batch, z)
        metrics = {
            "latent/kl": kl.mean(),
            "latent/reconstruction": error.mean(),
            "latent/active_units": active_units(q.mean()),
        }
        return Loss(error + hp["beta"] * kl, jnp.zeros(()), metrics, variables.stats)


@register("policy", CVAEOptions, needs_prior="latent", needs_sampler=False)
def build(
    options: CVAEOptions, spec: PolicySpec, *, prior: MakePrior, sampler: Sampler | None = None
) -> CVAEPolicy:
    """A CVAE policy; `sampler` has no part in it.

    Raises:
      ConfigError: the prior is one over codes.
    """
    latent_prior = prior((options.latent_dim,))
    check_continuous(latent_prior)
    decoder = make_backbone(options, spec, spec.action_dim)
    encoder = make_chunk_encoder(options, spec, 2 * options.latent_dim)
    return CVAEPolicy(spec, options, decoder, encoder, latent_prior)
