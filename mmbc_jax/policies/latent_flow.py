r"""Autoencoder over chunks with a flow-matching prior over its latents.

loss = |chunk - decode(s, z)| + flow_weight E_t |v(m_t, t, s) - (m - eps)|^2 + geometry_weight G,
z = m(a, s) + jitter eps',  m_t = t m + (1 - t) eps.

Nothing bounds the information in z; a flow learns p(z | s) from the posterior means m, so the deployed
latents need no fixed shape. The flow's error reaches the encoder, which makes the latents easy to flow to
(`detach` True keeps it from that); alone that would shrink them, so `geometry_penalty` G holds their spread.

The flow is the policy's own under `prior.name=normal`, the default. Any trainable prior over real vectors may be
named in its place; its own loss at the posterior means, -log p(m | s) as a rule, then takes the place of the flow's.

Source: Lipman et al. 2023 (flow matching); Vahdat et al. 2021 (a score-based prior trained with its encoder).
"""

from __future__ import annotations

import dataclasses

import distrax
import jax

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import MakePrior, Prior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, Variables
from mmbc_jax.nn.backbone import make_backbone, make_chunk_encoder
from mmbc_jax.policies._common import chosen_prior, name_of
from mmbc_jax.policies._latent import (
    GaussianLatentPolicy,
    LatentOptions,
    active_units,
    diagonal_gaussian,
    geometry_penalty,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentFlowOptions(LatentOptions):
    """Options of the autoencoder and, unless another prior is named, of the flow over its latents."""

    flow_weight: float = option(0.01, "weight of the flow's error", low=0.0, traced=True)
    geometry_weight: float = option(1.0, "weight of the penalty on posterior means", low=0.0, traced=True)
    jitter: float = option(0.075, "standard deviation added to the posterior means", low=0.0, open_low=True)
    detach: bool = option(False, "keep the flow's error from the encoder")
    flow_steps: int = option(10, "Euler steps of the flow", low=1, high=10_000)
    flow_times: tuple[float, ...] = option(
        (1.5, 1.0), "shapes of the Beta density over the flow's times", length=2, low=0.0, open_low=True
    )
    flow_hidden: tuple[int, ...] = option((128, 128), "widths of the flow's network", low=1, filled=True)


@dataclasses.dataclass(frozen=True)
class LatentFlowPolicy(GaussianLatentPolicy):
    """Latent policy with a flow, or another trained prior; see `policies._latent` for its attributes."""

    options: LatentFlowOptions

    def posterior(self, variables: Variables, obs: Obs, chunk: Array) -> distrax.Independent:
        """N(m(obs, chunk), jitter^2 I)."""
        return diagonal_gaussian(self.encode(variables.params, obs, chunk), self.options.jitter)

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Reconstruction and flow-matching error [B], the geometry per batch.

        Args:
          variables: of this policy.
          key: of the jitter, and of noise and times of the flow.
          batch: obs [B], chunk [B, H, A], mask [B, H].
          hp: `flow_weight` [] and `geometry_weight` [].
        """
        key_jitter, key_flow = jax.random.split(key)
        q = self.posterior(variables, batch.obs, batch.chunk)
        mean = q.mean()
        error = self.error(variables.params, batch, q.sample(seed=key_jitter))
        target = jax.lax.stop_gradient(mean) if self.options.detach else mean
        frozen = variables.replace(params=jax.lax.stop_gradient(variables.params))
        encoder_held = lambda obs, chunk: self.posterior(frozen, obs, chunk)  # noqa: E731
        flow = self.prior.loss(variables.params["prior"], key_flow, batch.obs, target, encoder_held)
        geometry = geometry_penalty(mean)
        label = "latent/flow_mse" if name_of(self.prior) in ("", "latent_flow") else "latent/prior_loss"
        metrics = {
            label: flow.mean(),
            "latent/geometry": geometry,
            "latent/reconstruction": error.mean(),
            "latent/active_units": active_units(mean),
        }
        per_example = error + hp["flow_weight"] * flow
        return Loss(per_example, hp["geometry_weight"] * geometry, metrics, variables.stats)


@register("policy", LatentFlowOptions, needs_prior="latent", needs_sampler=False)
def build(
    options: LatentFlowOptions,
    spec: PolicySpec,
    *,
    prior: MakePrior | None = None,
    sampler: Sampler | None = None,
) -> LatentFlowPolicy:
    """An autoencoder policy with a flow over its latents; `sampler` has no part in it.

    Raises:
      ConfigError: the prior is neither N(0, I) nor a trainable one over real vectors.
    """
    shape = (options.latent_dim,)
    chosen = chosen_prior(prior, shape)
    if chosen is not None and (chosen.discrete or not chosen.trainable):
        raise ConfigError(
            "prior.name",
            name_of(chosen),
            "a trained prior over real vectors, or normal for the policy's own flow",
        )
    decoder = make_backbone(options, spec, spec.action_dim)
    encoder = make_chunk_encoder(options, spec, options.latent_dim)
    return LatentFlowPolicy(spec, options, decoder, encoder, chosen or _flow(options, spec, shape))


def _flow(options: LatentFlowOptions, spec: PolicySpec, shape: tuple[int, ...]) -> Prior:
    fields = {"steps": options.flow_steps, "times": options.flow_times, "hidden": options.flow_hidden}
    section = plugin("prior", "latent_flow", fourier_octaves=options.fourier_octaves, **fields)
    return registry.build("prior", section, shape, spec=spec)
