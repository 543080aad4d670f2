r"""Autoencoder over chunks with a flow-matching prior over its latents.

loss = |chunk - decode(s, z)| + flow_weight E_t |v(m_t, t, s) - (m - eps)|^2 + geometry_weight G,
z = m(a, s) + jitter eps',  m_t = t m + (1 - t) eps.

Nothing bounds the information in z; a flow learns p(z | s) from the posterior means m, so the deployed
latents need no fixed shape. The flow's error reaches the encoder, which makes the latents easy to flow to
(`detach` True keeps it from that); alone that would shrink them, so `geometry_penalty` G holds their spread.

Source: Lipman et al. 2023 (flow matching); Vahdat et al. 2021 (a score-based prior trained with its encoder).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range, check_widths
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, Variables
from mmbc_jax.nn.backbone import make_backbone, make_chunk_encoder
from mmbc_jax.policies._latent import (
    GaussianLatentPolicy,
    active_units,
    check_latent,
    diagonal_gaussian,
    geometry_penalty,
    latent_config,
)
from mmbc_jax.priors.latent_flow_prior import LatentFlowPrior


def default_config() -> ConfigDict:
    """Defaults.

    `flow_weight` and `geometry_weight` weigh the two terms beside the reconstruction. `jitter` is the
    standard deviation added to the posterior means. `flow_steps`, `flow_times` and `flow_hidden` are the
    prior's Euler steps, shapes of its Beta density over times and hidden widths.
    """
    return ConfigDict(
        {
            **latent_config(),
            "flow_weight": 0.01,
            "geometry_weight": 1.0,
            "jitter": 0.075,
            "detach": False,
            "flow_steps": 10,
            "flow_times": (1.5, 1.0),
            "flow_hidden": (128, 128),
        }
    )


@dataclasses.dataclass(frozen=True)
class LatentFlowPolicy(GaussianLatentPolicy):
    """Latent policy with a flow as its prior; see `policies._latent` for the attributes it shares.

    Attributes:
      jitter: standard deviation of the posterior.
      detach: whether the flow's error is kept from the encoder.
    """

    jitter: float
    detach: bool

    def posterior(self, variables: Variables, obs: Array, chunk: Array) -> distrax.Independent:
        """N(m(obs, chunk), jitter^2 I)."""
        return diagonal_gaussian(self.encode(variables.params, obs, chunk), self.jitter)

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Reconstruction and flow-matching error [B], the geometry per batch.

        Args:
          variables: of this policy.
          key: of the jitter, and of noise and times of the flow.
          batch: obs [B, D], chunk [B, H, A], mask [B, H].
          hp: `flow_weight` [] and `geometry_weight` [].
        """
        key_jitter, key_flow = jax.random.split(key)
        q = self.posterior(variables, batch.obs, batch.chunk)
        mean = q.mean()
        error = self.error(variables.params, batch, q.sample(seed=key_jitter))
        target = jax.lax.stop_gradient(mean) if self.detach else mean
        flow = self.prior.loss(variables.params["prior"], key_flow, batch.obs, target)
        geometry = geometry_penalty(mean)
        metrics = {
            "latent/flow_mse": flow.mean(),
            "latent/geometry": geometry,
            "latent/reconstruction": error.mean(),
            "latent/active_units": active_units(mean),
        }
        per_example = error + hp["flow_weight"] * flow
        return Loss(per_example, hp["geometry_weight"] * geometry, metrics, variables.stats)


@register("policy", default_config, hparams=("flow_weight", "geometry_weight"))
def build(
    cfg: ConfigDict, spec: PolicySpec, *, prior: MakePrior | None = None, sampler: Sampler | None = None
) -> LatentFlowPolicy:
    """An autoencoder policy with a flow prior of its own; `prior` and `sampler` have no part in it.

    Raises:
      ConfigError: an option cannot work.
    """
    check_latent(cfg)
    check_range("policy.flow_weight", cfg.flow_weight, 0.0)
    check_range("policy.geometry_weight", cfg.geometry_weight, 0.0)
    check_range("policy.jitter", cfg.jitter, 0.0, open_low=True)
    check_range("policy.flow_steps", cfg.flow_steps, 1)
    if len(cfg.flow_times) != 2 or min(cfg.flow_times) <= 0:
        raise ConfigError("policy.flow_times", cfg.flow_times, "two positive numbers")
    check_widths("policy.flow_hidden", cfg.flow_hidden)
    flow: Any = LatentFlowPrior(
        (cfg.latent_dim,),
        spec.obs_dim,
        cfg.flow_steps,
        tuple(cfg.flow_times),
        tuple(cfg.flow_hidden),
        cfg.fourier_octaves,
    )
    return LatentFlowPolicy(
        spec,
        make_backbone(cfg, *spec.chunk_shape),
        make_chunk_encoder(cfg, cfg.latent_dim),
        flow,
        cfg.latent_dim,
        cfg.reconstruction,
        cfg.jitter,
        cfg.detach,
    )
