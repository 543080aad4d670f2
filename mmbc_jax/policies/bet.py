r"""Behaviour transformer head: classify the chunk into bins, regress what is left.

Bins are the centres c_k of k-means on the chunks of the data, found once in `init` and fixed. The policy
predicts the bin and, for every bin, an offset o_k(s):

  chunk = c_k + o_k(s),  k ~ Categorical(p(.|s)).

With k* the bin nearest to the recorded actions of the example, the loss is a focal cross-entropy and the
squared error of the offset of that bin alone,

  (1 - p_k*)^gamma (-log p_k*) + `offset_weight` mean_{recorded} (chunk - c_k* - o_k*(s))^2;

gamma = 0 is the plain cross-entropy, larger ones spend the capacity on bins that are still rare or wrong.
The base is discrete, so modes are told apart without a steep map; within a bin the policy is deterministic.
p(k|s) is a network of the policy's own under `prior.name=normal`, the default; `prior.name=categorical` with as many
codes as there are bins takes its place, and a uniform one (`prior.learned=False`) is not trained.

Source: Shafiullah et al. 2022 (BeT, there on single actions); Lin et al. 2017 (focal loss).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from flax import linen as nn

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.protocols import MakePrior, Prior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import Head, NetworkOptions, bind, init_backbone, make_backbone, make_head
from mmbc_jax.ops.kmeans import kmeans
from mmbc_jax.ops.picked import picked
from mmbc_jax.policies._common import check_codes, chosen_prior, masked_mse


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeTOptions(NetworkOptions):
    """Options of bins and offsets.

    `hidden` is also that of the network of the bin probabilities, whatever the backbone.
    """

    num_bins: int = option(24, "K", low=1)
    gamma: float = option(2.0, "of the focal loss", low=0.0, traced=True)
    offset_weight: float = option(10.0, "of the offsets' squared error", low=0.0, traced=True)
    kmeans_iterations: int = option(20, "of the initialisation", low=0, high=10_000)


def focal_loss(logits: Array, target: Array, gamma: Array | float) -> Array:
    """(1 - p)^gamma (-log p) with p the probability of the target class.

    Args:
      logits: [..., K].
      target: [...] int32.
      gamma: >= 0.

    Returns:
      [...].
    """
    log_p = picked(jax.nn.log_softmax(logits), target)
    # 1 - p by expm1: near p = 1 it is all that is left of the loss. The floor keeps the slope finite at p = 1
    miss = jnp.maximum(-jnp.expm1(log_p), 1e-12)
    return -(miss**gamma) * log_p


@dataclasses.dataclass(frozen=True)
class BeTPolicy:
    """Bins by classification, offsets by regression.

    Attributes:
      spec: sizes and observations.
      options: of the policy; K is `num_bins`.
      network: from the observation to [..., H, A K], the offsets of all bins.
      classifier: from the observation to K logits; a prior over K codes in its place.
    """

    spec: PolicySpec
    options: BeTOptions
    network: nn.Module
    classifier: Head | Prior

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters of both networks; the bins, from the chunks of `sample_batch`, are statistics.

        Actions past an episode's end take part as they are stored (the last one repeated).
        """
        key_network, key_classifier, key_bins = jax.random.split(key, 3)
        obs, own = self.spec.obs.dummy(1), self.classifier
        params = {
            "network": init_backbone(self.network, key_network, obs),
            "classifier": own.init(key_classifier, obs)["params"]
            if isinstance(own, Head)
            else own.init(key_classifier),
        }
        chunks = sample_batch.chunk
        flat = chunks.reshape(chunks.shape[0], -1)
        centres, _ = kmeans(key_bins, flat, self.options.num_bins, self.options.kmeans_iterations)
        return Variables(params, {"centres": centres.reshape(self.options.num_bins, *self.spec.chunk_shape)})

    def logits(self, variables: Variables, obs: Obs) -> Array:
        """[..., K] of the bins for obs [...]; those of a prior are its log-probabilities of every code."""
        own, params = self.classifier, variables.params["classifier"]
        if isinstance(own, Head):
            return jnp.asarray(own.apply({"params": params}, obs))
        distribution, batch = own.distribution(params, obs), self.spec.obs.batch_shape(obs)
        codes = jnp.arange(self.options.num_bins, dtype=jnp.int32)
        return jax.vmap(lambda k: distribution.log_prob(jnp.full(batch, k)), out_axes=-1)(codes)

    def decode(self, variables: Variables, obs: Obs, index: Array) -> Array:
        """c_k + o_k(s): [..., H, A] for obs [...] and bins index [...] int32."""
        output = bind(self.network, variables.params["network"], obs)()
        offsets = output.reshape(*output.shape[:-1], self.options.num_bins, self.spec.action_dim)
        every = jnp.swapaxes(offsets, -1, -2)
        own = picked(every, jnp.broadcast_to(index[..., None, None], every.shape[:-1]))
        return variables.stats["centres"][index] + own

    def assign(self, variables: Variables, chunk: Array, mask: Array) -> Array:
        """[B] int32 the bin nearest to the recorded actions of chunk [B, H, A], mask [B, H]."""
        gap = jnp.square(chunk[:, None] - variables.stats["centres"]).sum(-1)
        return jnp.argmin((gap * mask[:, None]).sum(-1), -1).astype(jnp.int32)

    def loss(self, variables: Variables, key: Key, batch: Batch, hp: dict[str, Array]) -> Loss:
        """Focal loss of the bin and squared error of its offset; `key` is not used.

        Args:
          variables: of this policy.
          key: unused.
          batch: obs [B], chunk [B, H, A], mask [B, H].
          hp: `gamma` and `offset_weight`.

        Returns:
          per_example [B], 0 where nothing was recorded.
        """
        index = self.assign(variables, batch.chunk, batch.mask)
        logits = self.logits(variables, batch.obs)
        focal = focal_loss(logits, index, hp["gamma"]) * (batch.mask.sum(-1) > 0)
        error = masked_mse(self.decode(variables, batch.obs, index), batch.chunk, batch.mask)
        hit = (jnp.argmax(logits, -1) == index).mean()
        metrics = {"bc/focal": focal.mean(), "bc/offset_mse": error.mean(), "bc/bin_accuracy": hit}
        return Loss(focal + hp["offset_weight"] * error, jnp.zeros(()), metrics, variables.stats)

    def base_distribution(self, variables: Variables, obs: Obs) -> Any:
        """w = {"bin": [...] int ~ p(.|s)}."""
        return distrax.Joint({"bin": distrax.Categorical(logits=self.logits(variables, obs))})

    def transport(self, variables: Variables, obs: Obs, w: PyTree) -> Array:
        """The bin's centre and offset: [..., H, A] for obs [...] and w of `base_distribution`."""
        return self.decode(variables, obs, w["bin"])


@register("policy", BeTOptions, needs_prior="codes", needs_sampler=False)
def build(
    options: BeTOptions, spec: PolicySpec, *, prior: MakePrior | None = None, sampler: Sampler | None = None
) -> BeTPolicy:
    """A policy of bins and offsets; `sampler` is accepted as by every policy and not used.

    Raises:
      ConfigError: the prior is neither N(0, I) nor one over as many codes as there are bins.
    """
    bins = chosen_prior(prior, ())
    if bins is not None:
        check_codes(bins, options.num_bins, f"{options.section}.num_bins")
    network = make_backbone(options, spec, spec.action_dim * options.num_bins)
    return BeTPolicy(spec, options, network, bins or make_head(options, spec, options.num_bins))
