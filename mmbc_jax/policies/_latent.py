"""What the policies with a latent share: encoder, decoder, prior, errors and the geometry of posteriors."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_choice, check_range
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.protocols import Posterior, Prior
from mmbc_jax.core.types import Array, Batch, Key, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import bind, init_backbone, network_config
from mmbc_jax.ops.rate import ACTIVE_VARIANCE
from mmbc_jax.policies._common import masked_l1, masked_mse

RECONSTRUCTIONS = {"l1": masked_l1, "mse": masked_mse}


def latent_config() -> dict[str, Any]:
    """Defaults of every latent policy: size of the latent, reconstruction error, and the network's options.

    The options of the network hold for the decoder and for the encoder.
    """
    return {"latent_dim": 2, "reconstruction": "l1", **network_config()}


def check_latent(cfg: ConfigDict) -> None:
    """Raises ConfigError where an option of `latent_config` cannot work; the network checks its own."""
    check_range("policy.latent_dim", cfg.latent_dim, 1)
    check_choice("policy.reconstruction", cfg.reconstruction, RECONSTRUCTIONS)


def check_continuous(prior: Prior) -> None:
    """Raises ConfigError where the prior is one over codes."""
    if prior.discrete:
        raise ConfigError(
            "prior.name", "categorical", "a prior over real vectors; policy.name = 'vq' has a latent of codes"
        )


@dataclasses.dataclass(frozen=True)
class LatentPolicy(abc.ABC):
    """A policy that decodes (obs, latent) to a chunk, with an encoder from (obs, chunk) for training.

    Attributes:
      spec: sizes.
      network: the decoder, a backbone with the latent as its extra input.
      encoder: from a chunk and its observation to one vector.
      prior: of the latent, or of its codes.
      latent_dim: W.
      reconstruction: a key of `RECONSTRUCTIONS`.
    """

    spec: PolicySpec
    network: nn.Module
    encoder: Any
    prior: Prior
    latent_dim: int
    reconstruction: str

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters {"network", "encoder", "prior"}."""
        key_network, key_encoder, key_prior = jax.random.split(key, 3)
        obs = jnp.zeros((1, self.spec.obs_dim))
        z = jnp.zeros((1, self.latent_dim))
        chunk = jnp.zeros((1, *self.spec.chunk_shape))
        return Variables(
            {
                "network": init_backbone(self.network, key_network, obs, extra=z),
                "encoder": self.encoder.init(key_encoder, chunk, obs)["params"],
                "prior": self.prior.init(key_prior),
            }
        )

    def encode(self, params: PyTree, obs: Array, chunk: Array) -> Array:
        """The encoder's output [..., E] for obs [..., D] and chunk [..., H, A]."""
        return self.encoder.apply({"params": params["encoder"]}, chunk, obs)

    def decode(self, params: PyTree, obs: Array, z: Array) -> Array:
        """Chunk [..., H, A] of obs [..., D] and latent [..., W]."""
        return bind(self.network, params["network"], obs, z)()

    def error(self, params: PyTree, batch: Batch, z: Array) -> Array:
        """[B] reconstruction error over the recorded actions, averaged per action entry."""
        decoded = self.decode(params, batch.obs, z)
        return RECONSTRUCTIONS[self.reconstruction](decoded, batch.chunk, batch.mask)


@dataclasses.dataclass(frozen=True)
class GaussianLatentPolicy(LatentPolicy):
    """A latent policy with a Gaussian posterior over a real vector, whose base is the configured prior."""

    @abc.abstractmethod
    def posterior(self, variables: Variables, obs: Array, chunk: Array) -> distrax.Independent:
        """q(z | obs, chunk), a diagonal Gaussian [..., W]."""

    def prior_of(self, variables: Variables, obs: Array, posterior: Posterior | None = None) -> Any:
        """p(z | obs); `posterior` replaces this policy's own in priors that are made of it."""
        own = posterior or (lambda at, chunk: self.posterior(variables, at, chunk))
        return self.prior.distribution(variables.params["prior"], obs, own)

    def base_distribution(self, variables: Variables, obs: Array) -> Any:
        """The prior p(z | obs), w [..., W]."""
        return self.prior_of(variables, obs)

    def transport(self, variables: Variables, obs: Array, w: PyTree) -> Array:
        """The decoder: chunk [..., H, A] of obs [..., D] and w [..., W]."""
        return self.decode(variables.params, obs, w)


def diagonal_gaussian(mean: Array, std: Array | float) -> distrax.Independent:
    """N(mean, diag std^2) over the last axis of mean [..., W]."""
    return distrax.Independent(distrax.Normal(mean, jnp.broadcast_to(jnp.asarray(std), mean.shape)), 1)


def active_units(mean: Array) -> Array:
    """[] how many entries of the posterior mean [B, W] have a variance over the batch above .01."""
    return (mean.var(0) > ACTIVE_VARIANCE).sum().astype(jnp.float32)


def geometry_penalty(mean: Array) -> Array:
    """Keeps posterior means near zero mean, unit spread and no correlation, in ranges that a prior can learn.

    .01 mean_d m_d^2 + .05 mean_d (s_d - 1)^2 + .1 mean_d relu(s_d - 2)^2 + .01 mean_{d != e} C_de^2 with the
    mean m, standard deviation s and covariance C of the batch.

    Args:
      mean: [B, W] posterior means.

    Returns:
      [] the penalty.
    """
    size, width = mean.shape
    centre = mean.mean(0)
    covariance = (mean - centre).T @ (mean - centre) / size
    std = jnp.sqrt(jnp.diagonal(covariance) + 1e-8)  # the root has no slope at 0
    coupling = jnp.square(covariance * (1.0 - jnp.eye(width))).sum() / max(width * (width - 1), 1)
    spread = 0.05 * jnp.square(std - 1.0) + 0.1 * jnp.square(jax.nn.relu(std - 2.0))
    return (0.01 * jnp.square(centre) + spread).mean() + 0.01 * coupling
