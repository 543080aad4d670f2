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
from typing import ClassVar

import distrax
import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.protocols import Posterior
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree
from mmbc_jax.priors._base_prior import BasePrior

_SPREAD, _NOISE = 0.7, 0.05  # of the initial raw pseudo-chunks: between them, and within one


@dataclasses.dataclass(frozen=True, kw_only=True)
class VampPriorOptions(Options):
    """Sixteen components."""

    num_components: int = option(16, "K, pseudo-chunks", low=1)


@dataclasses.dataclass(frozen=True)
class VampPrior(BasePrior):
    """w from the posterior at one of K pseudo-chunks, with equal weights; see `BasePrior` for the attributes."""

    options: VampPriorOptions

    plugin: ClassVar[str] = "vamp"
    trainable: ClassVar[bool] = True
    needs_posterior: ClassVar[bool] = True

    def init(self, key: Key) -> PyTree:
        """{"raw": [K, H, A]}, the pseudo-chunks before the tanh."""
        key_level, key_noise = jax.random.split(key)
        count, shape = self.options.num_components, self.spec.chunk_shape
        level = jax.random.normal(key_level, (count, 1, shape[1]))
        noise = jax.random.normal(key_noise, (count, *shape))
        return {"raw": _SPREAD * level + _NOISE * noise}

    def distribution(
        self, params: PyTree, obs: Obs, posterior: Posterior | None = None
    ) -> distrax.Distribution:
        """The mixture with the observations' leading axes as batch shape.

        Raises:
          ValueError: no posterior was passed.
        """
        if posterior is None:
            raise ValueError("the VampPrior is a mixture of a policy's posteriors: pass `posterior`")
        pseudo = jnp.tanh(params["raw"])
        batch = self.batch_shape(obs)
        lead = (*batch, len(pseudo))

        def for_each(x: Array) -> Array:
            shape = x.shape[len(batch) :]
            return jnp.broadcast_to(x.reshape(*batch, 1, *shape), (*lead, *shape))

        components = posterior(
            jax.tree.map(for_each, obs), jnp.broadcast_to(pseudo, (*lead, *pseudo.shape[1:]))
        )
        return distrax.MixtureSameFamily(distrax.Categorical(logits=jnp.zeros(lead)), components)

    def loss(self, params: PyTree, key: Key, obs: Obs, w: Array, posterior: Posterior | None = None) -> Array:
        """[...] -log p(w | obs)."""
        return -self.distribution(params, obs, posterior).log_prob(w)


@register("prior", VampPriorOptions)
def build(options: VampPriorOptions, event_shape: tuple[int, ...], *, spec: PolicySpec) -> VampPrior:
    """A VampPrior over `event_shape`."""
    return VampPrior(options, tuple(event_shape), spec)
