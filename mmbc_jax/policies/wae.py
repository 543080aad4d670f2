r"""Wasserstein autoencoder over chunks: matches latents to the prior by a divergence between samples.

loss = |chunk - decode(s, z)| + match_weight D({z}, {z_p}) + geometry_weight G,
z = m(a, s) + jitter eps,  z_p ~ p(z | s).

D is the squared MMD (inverse multiquadratic kernels) or the Sinkhorn divergence (p = 2, blur .1 sqrt(2 W)).
Unlike a KL per example it leaves the information in z alone, so it forces no collapse; the burden moves to
how well the prior covers the posterior of every state. With `conditional` D compares (s, z) with (s, z_p),
which matches p(z | s) state by state, and trains a learned prior through its reparameterised samples.
Without, D compares aggregates, which say nothing on p(z | s); a learned prior then follows the latents by its
own loss, with the latents and the encoder held fixed. G is `geometry_penalty` of the means m.

Source: Tolstikhin et al. 2018 (WAE); Feydy et al. 2019 (debiased Sinkhorn).
"""

from __future__ import annotations

import dataclasses
import math

import distrax
import jax
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_choice, check_range
from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, Variables
from mmbc_jax.nn.backbone import make_backbone, make_chunk_encoder
from mmbc_jax.ops.divergences import imq_mmd, joint_points, sinkhorn
from mmbc_jax.policies._latent import (
    GaussianLatentPolicy,
    active_units,
    check_continuous,
    check_latent,
    diagonal_gaussian,
    geometry_penalty,
    latent_config,
)

REGULARISERS = ("mmd", "sinkhorn")


def default_config() -> ConfigDict:
    """Defaults.

    `regulariser` is one of `REGULARISERS`; `match_weight` weighs it (1 suits the MMD, .01 Sinkhorn) and
    `geometry_weight` the penalty on the posterior means. `jitter` is the standard deviation added to the
    means. `conditional` compares (s, z) with squared distances of states weighed by `state_weight`.
    """
    return ConfigDict(
        {
            **latent_config(),
            "regulariser": "mmd",
            "match_weight": 1.0,
            "geometry_weight": 1.0,
            "jitter": 0.075,
            "conditional": False,
            "state_weight": 16.0,
        }
    )


@dataclasses.dataclass(frozen=True)
class WAEPolicy(GaussianLatentPolicy):
    """Latent policy regularised by a divergence; see `policies._latent` for the attributes it shares.

    Attributes:
      regulariser: one of `REGULARISERS`.
      jitter: standard deviation of the posterior.
      conditional: whether (s, z) is compared in place of z.
      state_weight: of squared distances between states, where conditional.
    """

    regulariser: str
    jitter: float
    conditional: bool
    state_weight: float

    def posterior(self, variables: Variables, obs: Array, chunk: Array) -> distrax.Independent:
        """N(m(obs, chunk), jitter^2 I)."""
        return diagonal_gaussian(self.encode(variables.params, obs, chunk), self.jitter)

    def divergence(self, obs: Array, z: Array, drawn: Array) -> Array:
        """[] D between latents and samples of the prior, both [B, W], at obs [B, D]."""
        if self.conditional:
            z, drawn = (joint_points(obs, points, self.state_weight) for points in (z, drawn))
        if self.regulariser == "mmd":
            return imq_mmd(z, drawn)
        return sinkhorn(z, drawn, blur=0.1 * math.sqrt(2 * self.latent_dim))

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Reconstruction [B] (and a prior's own loss, where it is trained by that), the rest per batch.

        Args:
          variables: of this policy.
          key: of the jitter and the prior.
          batch: obs [B, D], chunk [B, H, A], mask [B, H]; B >= 2.
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
        if self.prior.trainable and not self.conditional:
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


@register("policy", default_config, hparams=("match_weight", "geometry_weight"))
def build(
    cfg: ConfigDict, spec: PolicySpec, *, prior: MakePrior, sampler: Sampler | None = None
) -> WAEPolicy:
    """A Wasserstein-autoencoder policy; `sampler` has no part in it.

    Raises:
      ConfigError: an option cannot work, or the prior is one over codes.
    """
    check_latent(cfg)
    check_choice("policy.regulariser", cfg.regulariser, REGULARISERS)
    check_range("policy.match_weight", cfg.match_weight, 0.0)
    check_range("policy.geometry_weight", cfg.geometry_weight, 0.0)
    check_range("policy.jitter", cfg.jitter, 0.0, open_low=True)
    check_range("policy.state_weight", cfg.state_weight, 0.0)
    latent_prior = prior((cfg.latent_dim,))
    check_continuous(latent_prior)
    return WAEPolicy(
        spec,
        make_backbone(cfg, *spec.chunk_shape),
        make_chunk_encoder(cfg, cfg.latent_dim),
        latent_prior,
        cfg.latent_dim,
        cfg.reconstruction,
        cfg.regulariser,
        cfg.jitter,
        cfg.conditional,
        cfg.state_weight,
    )
