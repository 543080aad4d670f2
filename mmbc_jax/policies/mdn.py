r"""Mixture density network: K diagonal Gaussians on the whole chunk.

  p(chunk | s) = sum_k pi_k(s) N(chunk; mu_k(s), diag(sigma_k(s))^2),   mu_k(s) = c_k + f_k(s),

one component per chunk, so that a sample follows one mode from beginning to end. The offsets c_k are trained
and start at the centres of k-means on the data, because components that start alike stay alike; all sigma
start at the spread around those centres. The loss is, in nats per chunk,

  -log p(recorded actions | s) - `entropy` H(pi(s)) + `load_balance` KL(r || uniform),

where r_k is the mean over the batch of the responsibility of component k for an example: a component that
explains nothing is pulled back to the data. The last term exists for a batch only.

As a pair: w = (component ~ Categorical(pi(s)), noise ~ N(0, I)), transport(s, w) = mu_k(s) + sigma_k(s) noise.

Source: Bishop 1994; the seeding and both regularisers: arXiv 2605.22493.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import Head, bind, init_backbone, make_backbone, make_head
from mmbc_jax.ops.kmeans import kmeans
from mmbc_jax.policies._common import data_spread
from mmbc_jax.policies._gaussian import DensityOptions, bounded_log_std, masked_log_prob, raw_of_std
from mmbc_jax.priors.normal import gaussian_noise


@dataclasses.dataclass(frozen=True, kw_only=True)
class MDNOptions(DensityOptions):
    """Options of the mixture; `hidden` is also that of the network of the mixing weights, whatever the backbone."""

    num_components: int = option(16, "K", low=1)
    entropy: float = option(0.05, "weight of the mixing weights' entropy", low=0.0, traced=True)
    load_balance: float = option(0.2, "weight of the balance of the components' load", low=0.0, traced=True)
    kmeans_iterations: int = option(10, "of the initialisation", low=0, high=10_000)


class Mixture(NamedTuple):
    """The mixture at some observations.

    Attributes:
      log_weights: [..., K] log pi, normalised.
      mean: [..., K, H, A].
      log_std: [..., K, H, A].
    """

    log_weights: Array
    mean: Array
    log_std: Array

    def joint(self, chunk: Array, mask: Array | None = None) -> Array:
        """[..., K] log pi_k + log N_k of the recorded actions of chunk [..., H, A], mask [..., H]."""
        weight = 1.0 if mask is None else mask[..., None, :]
        return self.log_weights + masked_log_prob(chunk[..., None, :, :], self.mean, self.log_std, weight)


@dataclasses.dataclass(frozen=True)
class MDNPolicy:
    """A mixture of K Gaussians on the chunk.

    Attributes:
      spec: sizes and observations.
      options: of the policy; K is `num_components`.
      network: from the observation to [..., H, 2 A K], means and raw standard deviations.
      gate: from the observation to the K logits of pi.
    """

    spec: PolicySpec
    options: MDNOptions
    network: nn.Module
    gate: Head

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters of both networks, centres and spread from the chunks of `sample_batch`.

        Actions past an episode's end take part as they are stored (the last one repeated). The data's spread,
        of which the floor of sigma is a share, is a statistic.
        """
        key_network, key_gate, key_seed = jax.random.split(key, 3)
        obs, options, chunks = self.spec.obs.dummy(1), self.options, sample_batch.chunk
        count, stats = options.num_components, {"spread": data_spread(chunks)}
        low, high = options.bounds(stats)
        flat = chunks.reshape(chunks.shape[0], -1)
        centres, nearest = kmeans(key_seed, flat, count, options.kmeans_iterations)
        spread = jnp.sqrt(jnp.square(flat - centres[nearest]).mean())
        params = {
            "network": init_backbone(self.network, key_network, obs),
            "gate": self.gate.init(key_gate, obs)["params"],
            "centres": centres.reshape(count, *self.spec.chunk_shape),
            "raw_std": raw_of_std(jnp.maximum(spread, low), low, high),
        }
        return Variables(params, stats)

    def log_weights(self, variables: Variables, obs: Obs) -> Array:
        """[..., K] log pi(s) for obs [...]."""
        logits = jnp.asarray(self.gate.apply({"params": variables.params["gate"]}, obs))
        return jax.nn.log_softmax(logits)

    def components(self, variables: Variables, obs: Obs) -> tuple[Array, Array]:
        """(mu, log sigma), each [..., K, H, A], for obs [...]."""
        params, options = variables.params, self.options
        output = bind(self.network, params["network"], obs)()
        parts = output.reshape(*output.shape[:-1], 2, options.num_components, self.spec.action_dim)
        mean, raw = jnp.moveaxis(parts, (-3, -2), (0, -3))
        log_std = bounded_log_std(raw + params["raw_std"], *options.bounds(variables.stats))
        return params["centres"] + mean, log_std

    def mixture(self, variables: Variables, obs: Obs) -> Mixture:
        """The mixture for obs [...]."""
        return Mixture(self.log_weights(variables, obs), *self.components(variables, obs))

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Negative log-likelihood and both regularisers; `key` is not used.

        Args:
          variables: of this policy.
          key: unused.
          batch: obs [B], chunk [B, H, A], mask [B, H].
          hp: `entropy` and `load_balance`.

        Returns:
          per_example [B] and the load balance as the batch term.
        """
        mixture = self.mixture(variables, batch.obs)
        joint = mixture.joint(batch.chunk, batch.mask)
        nll = -jax.nn.logsumexp(joint, -1)
        entropy = -(jnp.exp(mixture.log_weights) * mixture.log_weights).sum(-1)
        balance = balance_kl(jax.nn.softmax(joint))
        metrics = {"bc/nll": nll.mean(), "bc/entropy": entropy.mean(), "bc/load_balance": balance}
        per_example = nll - hp["entropy"] * entropy
        return Loss(per_example, hp["load_balance"] * balance, metrics, variables.stats)

    def base_distribution(self, variables: Variables, obs: Obs) -> Any:
        """w = {"component": [...] int ~ pi(s), "noise": [..., H, A] ~ N(0, I)}."""
        component = distrax.Categorical(logits=self.log_weights(variables, obs))
        noise = gaussian_noise(self.spec.obs.batch_shape(obs), self.spec.chunk_shape)
        return distrax.Joint({"component": component, "noise": noise})

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """mu_k(s) + sigma_k(s) noise: [..., H, A] for obs [...] and w of `base_distribution`."""
        index = w["component"][..., None, None, None]
        mean, log_std = (
            jnp.take_along_axis(x, index, -3)[..., 0, :, :] for x in self.components(variables, obs)
        )
        return mean + jnp.exp(log_std) * w["noise"]

    def log_prob(self, variables: Variables, obs: Obs, chunk: Array) -> Array:
        """[...] log p(chunk | obs) for obs [...] and chunk [..., H, A]."""
        return jax.nn.logsumexp(self.mixture(variables, obs).joint(chunk), -1)


def balance_kl(responsibilities: Array) -> Array:
    """KL(r || uniform) = log K + sum_k r_k log r_k >= 0, r the mean of the rows of [B, K]; []."""
    mean = responsibilities.mean(0)
    # the floor keeps the slope of r log r finite where a component has died out in float32
    return math.log(mean.shape[-1]) + (mean * jnp.log(jnp.maximum(mean, 1e-12))).sum()


@register("policy", MDNOptions, needs_prior="none", needs_sampler=False)
def build(
    options: MDNOptions, spec: PolicySpec, *, prior: MakePrior | None = None, sampler: Sampler | None = None
) -> MDNPolicy:
    """A mixture density network; `prior` and `sampler` are accepted as by every policy and have no part in it."""
    network = make_backbone(options, spec, 2 * spec.action_dim * options.num_components)
    return MDNPolicy(spec, options, network, make_head(options, spec, options.num_components))
