r"""VampPrior: a mixture of the policy's own posteriors at learned pseudo-chunks.

p(z | s) = 1/K sum_k q(z | s, u_k).

The prior that maximises the ELBO is the aggregate of the posteriors over the data; K learned pseudo-chunks
u_k approximate it, so the deployed prior has its mass where posteriors are, in as many pieces as there are
modes. The pseudo-chunks are u = tanh(raw), inside the range of normalised actions; each starts as one action
held over the chunk, with a little noise.

Source: Tomczak and Welling 2018.
"""

from __future__ import annotations

import dataclasses

import distrax
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.protocols import Posterior
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree

_SPREAD, _NOISE = 0.7, 0.05  # of the initial raw pseudo-chunks: between them, and within one


def default_config() -> ConfigDict:
    """Sixteen components."""
    return ConfigDict({"num_components": 16})


@dataclasses.dataclass(frozen=True)
class VampPrior:
    """w from the posterior at one of K pseudo-chunks, with equal weights.

    Attributes:
      event_shape: shape of w, that of the posterior's samples.
      chunk_shape: (H, A) of a pseudo-chunk.
      num_components: K.
      trainable, needs_posterior: True.
      gaussian, discrete: False.
    """

    event_shape: tuple[int, ...]
    chunk_shape: tuple[int, int]
    num_components: int
    gaussian: bool = False
    trainable: bool = True
    discrete: bool = False
    needs_posterior: bool = True

    def init(self, key: Key) -> PyTree:
        """{"raw": [K, H, A]}, the pseudo-chunks before the tanh."""
        key_level, key_noise = jax.random.split(key)
        level = jax.random.normal(key_level, (self.num_components, 1, self.chunk_shape[1]))
        noise = jax.random.normal(key_noise, (self.num_components, *self.chunk_shape))
        return {"raw": _SPREAD * level + _NOISE * noise}

    def distribution(
        self, params: PyTree, obs: Array, posterior: Posterior | None = None
    ) -> distrax.Distribution:
        """The mixture with batch shape obs.shape[:-1].

        Raises:
          ValueError: no posterior was passed.
        """
        if posterior is None:
            raise ValueError("the VampPrior is a mixture of a policy's posteriors: pass `posterior`")
        pseudo = jnp.tanh(params["raw"])
        lead = (*obs.shape[:-1], self.num_components)
        components = posterior(
            jnp.broadcast_to(obs[..., None, :], (*lead, obs.shape[-1])),
            jnp.broadcast_to(pseudo, (*lead, *self.chunk_shape)),
        )
        return distrax.MixtureSameFamily(distrax.Categorical(logits=jnp.zeros(lead)), components)

    def loss(
        self, params: PyTree, key: Key, obs: Array, w: Array, posterior: Posterior | None = None
    ) -> Array:
        """[...] -log p(w | obs)."""
        return -self.distribution(params, obs, posterior).log_prob(w)


@register("prior", default_config)
def build(cfg: ConfigDict, event_shape: tuple[int, ...], *, spec: PolicySpec) -> VampPrior:
    """A VampPrior over `event_shape`.

    Raises:
      ConfigError: fewer than one component.
    """
    check_range("prior.num_components", cfg.num_components, 1)
    return VampPrior(tuple(event_shape), spec.chunk_shape, cfg.num_components)
