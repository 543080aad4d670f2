r"""Behaviour transformer head: classify the chunk into bins, regress what is left.

Bins are the centres c_k of k-means on the chunks of the data, found once in `init` and fixed. The policy
predicts the bin and, for every bin, an offset o_k(s):

  chunk = c_k + o_k(s),  k ~ Categorical(p(.|s)).

With k* the bin nearest to the recorded actions of the example, the loss is a focal cross-entropy and the
squared error of the offset of that bin alone,

  (1 - p_k*)^gamma (-log p_k*) + `offset_weight` mean_{recorded} (chunk - c_k* - o_k*(s))^2;

gamma = 0 is the plain cross-entropy, larger ones spend the capacity on bins that are still rare or wrong.
The base is discrete, so modes are told apart without a steep map; within a bin the policy is deterministic.

Source: Shafiullah et al. 2022 (BeT, there on single actions); Lin et al. 2017 (focal loss).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.protocols import MakePrior, Sampler
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Batch, Key, Loss, PolicySpec, PyTree, Variables
from mmbc_jax.nn.backbone import Head, bind, init_backbone, make_backbone, make_head, network_config
from mmbc_jax.ops.kmeans import kmeans
from mmbc_jax.policies._common import masked_mse


def default_config() -> ConfigDict:
    """Defaults.

    `gamma` of the focal loss and `offset_weight` are traced; `hidden` is also that of the network of the bin
    probabilities, whatever the backbone.
    """
    return ConfigDict(
        {
            **network_config(),
            "num_bins": 24,
            "gamma": 2.0,
            "offset_weight": 10.0,
            "kmeans_iterations": 20,
        }
    )


def focal_loss(logits: Array, target: Array, gamma: Array | float) -> Array:
    """(1 - p)^gamma (-log p) with p the probability of the target class.

    Args:
      logits: [..., K].
      target: [...] int32.
      gamma: >= 0.

    Returns:
      [...].
    """
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1)[..., 0]
    # 1 - p by expm1: near p = 1 it is all that is left of the loss. The floor keeps the slope finite at p = 1
    miss = jnp.maximum(-jnp.expm1(log_p), 1e-12)
    return -(miss**gamma) * log_p


@dataclasses.dataclass(frozen=True)
class BeTPolicy:
    """Bins by classification, offsets by regression.

    Attributes:
      spec: sizes.
      network: from the observation to [..., H, A K], the offsets of all bins.
      classifier: from the observation to K logits.
      num_bins: K.
      kmeans_iterations: of the initialisation.
    """

    spec: PolicySpec
    network: nn.Module
    classifier: Head
    num_bins: int
    kmeans_iterations: int

    def init(self, key: Key, sample_batch: Batch) -> Variables:
        """Parameters of both networks; the bins, from the chunks of `sample_batch`, are statistics.

        Actions past an episode's end take part as they are stored (the last one repeated).
        """
        key_network, key_classifier, key_bins = jax.random.split(key, 3)
        obs = jnp.zeros((1, self.spec.obs_dim))
        params = {
            "network": init_backbone(self.network, key_network, obs),
            "classifier": self.classifier.init(key_classifier, obs)["params"],
        }
        chunks = sample_batch.chunk
        flat = chunks.reshape(chunks.shape[0], -1)
        centres, _ = kmeans(key_bins, flat, self.num_bins, self.kmeans_iterations)
        return Variables(params, {"centres": centres.reshape(self.num_bins, *self.spec.chunk_shape)})

    def logits(self, variables: Variables, obs: Array) -> Array:
        """[..., K] of the bins for obs [..., D]."""
        return jnp.asarray(self.classifier.apply({"params": variables.params["classifier"]}, obs))

    def decode(self, variables: Variables, obs: Array, index: Array) -> Array:
        """c_k + o_k(s): [..., H, A] for obs [..., D] and bins index [...] int32."""
        output = bind(self.network, variables.params["network"], obs)()
        offsets = output.reshape(*output.shape[:-1], self.num_bins, self.spec.action_dim)
        own = jnp.take_along_axis(offsets, index[..., None, None, None], -2)[..., 0, :]
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
          batch: obs [B, D], chunk [B, H, A], mask [B, H].
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

    def base_distribution(self, variables: Variables, obs: Array) -> Any:
        """w = {"bin": [...] int ~ p(.|s)}."""
        return distrax.Joint({"bin": distrax.Categorical(logits=self.logits(variables, obs))})

    def transport(self, variables: Variables, obs: Array, w: PyTree) -> Array:
        """The bin's centre and offset: [..., H, A] for obs [..., D] and w of `base_distribution`."""
        return self.decode(variables, obs, w["bin"])


@register("policy", default_config, hparams=("gamma", "offset_weight"))
def build(
    cfg: ConfigDict, spec: PolicySpec, *, prior: MakePrior | None = None, sampler: Sampler | None = None
) -> BeTPolicy:
    """A policy of bins and offsets; `prior` and `sampler` are accepted as by every policy and not used.

    Raises:
      ConfigError: an option cannot work.
    """
    check_range("policy.num_bins", cfg.num_bins, 1)
    check_range("policy.gamma", cfg.gamma, 0.0)
    check_range("policy.offset_weight", cfg.offset_weight, 0.0)
    check_range("policy.kmeans_iterations", cfg.kmeans_iterations, 0)
    network = make_backbone(cfg, spec.chunk_len, spec.action_dim * cfg.num_bins)
    return BeTPolicy(spec, network, make_head(cfg, cfg.num_bins), cfg.num_bins, cfg.kmeans_iterations)
