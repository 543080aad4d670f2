"""What the policies with a latent share: encoder, decoder, prior, errors and the geometry of posteriors."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import Posterior, Prior
from mmbc_jax.core.types import Array, Batch, Key, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import NetworkOptions, bind, init_backbone
from mmbc_jax.ops.rate import ACTIVE_VARIANCE
from mmbc_jax.policies._common import masked_l1, masked_mse, name_of

RECONSTRUCTIONS = {"l1": masked_l1, "mse": masked_mse}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentOptions(NetworkOptions):
    """Options of every latent policy; those of the network hold for the decoder and for the encoder."""

    latent_dim: int = option(2, "size of the latent", low=1)
    reconstruction: str = option("l1", "error per action entry", choices=tuple(RECONSTRUCTIONS))


def check_continuous(prior: Prior) -> None:
    """Raises ConfigError where the prior is one over codes."""
    if prior.discrete:
        raise ConfigError(
            "prior.name",
            name_of(prior),
            "a prior over real vectors; policy.name = 'vq' has a latent of codes",
        )


@dataclasses.dataclass(frozen=True)
class LatentPolicy(abc.ABC):
    """A policy that decodes (obs, latent) to a chunk, with an encoder from (obs, chunk) for training.

    Attributes:
      spec: sizes and observations.
      options: of the policy; W is `latent_dim`.
      network: the decoder, a backbone with the latent as its extra input.
      encoder: from a chunk and its observation to one vector.
      prior: of the latent, or of its codes.
    """

    spec: PolicySpec
    options: LatentOptions
    network: nn.Module
    encoder: Any
    prior: Prior

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters {"network", "encoder", "prior"}."""
        key_network, key_encoder, key_prior = jax.random.split(key, 3)
        obs = self.spec.obs.dummy(1)
        z = jnp.zeros((1, self.options.latent_dim))
        chunk = jnp.zeros((1, *self.spec.chunk_shape))
        return Variables(
            {
                "network": init_backbone(self.network, key_network, obs, extra=z),
                "encoder": self.encoder.init(key_encoder, chunk, obs)["params"],
                "prior": self.prior.init(key_prior),
            }
        )

    def encode(self, params: PyTree, obs: Obs, chunk: Array) -> Array:
        """The encoder's output [..., E] for obs [...] and chunk [..., H, A]."""
        return self.encoder.apply({"params": params["encoder"]}, chunk, obs)

    def decode(self, params: PyTree, obs: Obs, z: Array) -> Array:
        """Chunk [..., H, A] of obs [...] and latent [..., W]."""
        return bind(self.network, params["network"], obs, z)()

    def error(self, params: PyTree, batch: Batch, z: Array) -> Array:
        """[B] reconstruction error over the recorded actions, averaged per action entry."""
        decoded = self.decode(params, batch.obs, z)
        return RECONSTRUCTIONS[self.options.reconstruction](decoded, batch.chunk, batch.mask)


@dataclasses.dataclass(frozen=True)
class GaussianLatentPolicy(LatentPolicy):
    """A latent policy with a Gaussian posterior over a real vector, whose base is the configured prior."""

    @abc.abstractmethod
    def posterior(self, variables: Variables, obs: Obs, chunk: Array) -> distrax.Independent:
        """q(z | obs, chunk), a diagonal Gaussian [..., W]."""

    def prior_of(self, variables: Variables, obs: Obs, posterior: Posterior | None = None) -> Any:
        """p(z | obs); `posterior` replaces this policy's own in priors that are made of it."""
        own = posterior or (lambda at, chunk: self.posterior(variables, at, chunk))
        return self.prior.distribution(variables.params["prior"], obs, own)

    def base_distribution(self, variables: Variables, obs: Obs) -> Any:
        """The prior p(z | obs), w [..., W]."""
        return self.prior_of(variables, obs)

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """The decoder: chunk [..., H, A] of obs [...] and w [..., W]."""
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
    own = jnp.eye(width)
    variance = jnp.where(own > 0.0, covariance, 0.0).sum(-1)  # the gradient of `diagonal` would scatter
    std = jnp.sqrt(variance + 1e-8)  # the root has no slope at 0
    coupling = jnp.square(covariance * (1.0 - own)).sum() / max(width * (width - 1), 1)
    spread = 0.05 * jnp.square(std - 1.0) + 0.1 * jnp.square(jax.nn.relu(std - 2.0))
    return (0.01 * jnp.square(centre) + spread).mean() + 0.01 * coupling
