r"""Wasserstein autoencoder over chunks: matches latents to the prior by a divergence between samples.

loss = |chunk - decode(s, z)| + match_weight D({z}, {z_p}) + geometry_weight G,
z = m(a, s) + jitter eps,  z_p ~ p(z | s).

D is the squared MMD (inverse multiquadratic kernels) or the Sinkhorn divergence (p = 2, blur .1 sqrt(2 W)).
Unlike a KL per example it leaves the information in z alone, so it forces no collapse; the burden moves to
how well the prior covers the posterior of every state. With `conditional` D compares (s, z) with (s, z_p),
which matches p(z | s) state by state, and trains a learned prior through its reparameterised samples. Both clouds
then hold the same states, and the MMD leaves the pairs of one state out between them; Sinkhorn's divergence cannot,
and of small batches it is lowest where latents of a state are closer than the prior has them.
Without, D compares aggregates, which say nothing on p(z | s); a learned prior then follows the latents by its
own loss, with the latents and the encoder held fixed. G is `geometry_penalty` of the means m.

Source: Tolstikhin et al. 2018 (WAE); Feydy et al. 2019 (debiased Sinkhorn).
"""

from __future__ import annotations

import dataclasses
import math

import distrax
import jax

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, Variables
from mmbc_jax.nn.backbone import make_backbone, make_chunk_encoder
from mmbc_jax.ops.divergences import imq_mmd, joint_points, sinkhorn
from mmbc_jax.policies._common import observed_vector
from mmbc_jax.policies._latent import (
    GaussianLatentPolicy,
    LatentOptions,
    active_units,
    check_continuous,
    diagonal_gaussian,
    geometry_penalty,
)

REGULARISERS = ("mmd", "sinkhorn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WAEOptions(LatentOptions):
    """Options of the Wasserstein autoencoder; s in `conditional` is the vector part of an observation."""

    regulariser: str = option("mmd", "divergence D", choices=REGULARISERS)
    match_weight: float = option(
        1.0, "weight of D; 1 suits the MMD, .01 Sinkhorn's divergence", low=0.0, traced=True
    )
    geometry_weight: float = option(1.0, "weight of the penalty on posterior means", low=0.0, traced=True)
    jitter: float = option(0.075, "standard deviation added to the posterior means", low=0.0, open_low=True)
    conditional: bool = option(False, "compare (s, z) in place of z")
    state_weight: float = option(16.0, "of squared distances between states, where conditional", low=0.0)


@dataclasses.dataclass(frozen=True)
class WAEPolicy(GaussianLatentPolicy):
    """Latent policy regularised by a divergence; see `policies._latent` for its attributes."""

    options: WAEOptions

    def posterior(self, variables: Variables, obs: Obs, chunk: Array) -> distrax.Independent:
        """N(m(obs, chunk), jitter^2 I)."""
        return diagonal_gaussian(self.encode(variables.params, obs, chunk), self.options.jitter)

    def divergence(self, obs: Obs, z: Array, drawn: Array) -> Array:
        """[] D between latents and samples of the prior, both [B, W], at obs [B]."""
        if self.options.conditional:
            states = observed_vector(self.spec, obs)
            z, drawn = (joint_points(states, points, self.options.state_weight) for points in (z, drawn))
        if self.options.regulariser == "mmd":
            return imq_mmd(z, drawn, paired=self.options.conditional)
        return sinkhorn(z, drawn, blur=0.1 * math.sqrt(2 * self.options.latent_dim))

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Reconstruction [B] (and a prior's own loss, where it is trained by that), the rest per batch.

        Args:
          variables: of this policy.
          key: of the jitter and the prior.
          batch: obs [B], chunk [B, H, A], mask [B, H]; B >= 2.
          hp: `match_weight` [] and `geometry_weight` [].
        """
        key_jitter, key_prior, key_loss = jax.random.split(key, 3)
        q = self.posterior(variables, batch.obs, batch.chunk)
        z = q.sample(seed=key_jitter)
        error = self.error(variables.params, batch, z)
        frozen = variables.replace(params=jax.lax.stop_gradient(variables.params))
        encoder_held = lambda obs, chunk: self.posterior(frozen, obs, chunk)  # noqa: E731
        drawn = self.prior_of(variables, batch.obs, encoder_held).sample(seed=key_prior)
        per_example = error
        if self.prior.trainable and not self.options.conditional:
            drawn, target = jax.lax.stop_gradient((drawn, z))
            prior_params = variables.params["prior"]
            per_example += self.prior.loss(prior_params, key_loss, batch.obs, target, encoder_held)
        divergence = self.divergence(batch.obs, z, drawn)
        geometry = geometry_penalty(q.mean())
        metrics = {
            "latent/divergence": divergence,
            "latent/geometry": geometry,
            "latent/reconstruction": error.mean(),
            "latent/active_units": active_units(q.mean()),
        }
        batch_terms = hp["match_weight"] * divergence + hp["geometry_weight"] * geometry
        return Loss(per_example, batch_terms, metrics, variables.stats)


@register("policy", WAEOptions, needs_prior="latent", needs_sampler=False)
def build(
    options: WAEOptions, spec: PolicySpec, *, prior: MakePrior, sampler: Sampler | None = None
) -> WAEPolicy:
    """A Wasserstein-autoencoder policy; `sampler` has no part in it.

    Raises:
      ConfigError: the prior is one over codes, or observations are to be compared and hold only images.
    """
    if options.conditional and not spec.obs.size:
        raise ConfigError(
            "env.observe",
            "image",
            f"state or both, or {options.section}.conditional = False: D compares observed vectors",
        )
    latent_prior = prior((options.latent_dim,))
    check_continuous(latent_prior)
    if options.conditional and not getattr(latent_prior, "reparameterised", True):
        raise ConfigError(
            f"{options.section}.conditional",
            True,
            f"False with prior.name = {getattr(latent_prior, 'name', '')}: samples of it train no weights",
        )
    decoder = make_backbone(options, spec, spec.action_dim)
    encoder = make_chunk_encoder(options, spec, options.latent_dim)
    return WAEPolicy(spec, options, decoder, encoder, latent_prior)
