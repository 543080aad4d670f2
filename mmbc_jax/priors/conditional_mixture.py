r"""Learned mixture of Gaussians that follows the observation: p(z | s) = sum_k pi_k(s) N(z; m_k(s), diag v_k(s)).

The aggregate of the posteriors of one state has as many pieces as the state has modes. One Gaussian, fixed or
learned, either leaves pieces out or puts mass between them; a mixture can give each piece components of its own.
K is a capacity and not the number of modes: several components may share a piece.

m_k(s) = c_k + r_k(s) and log v_k(s) = 8 tanh((b + w_k(s)) / 8), with c_k learned points that start as draws from
N(0, I), b = 2 log .5 and a network for (log pi, r, w) that starts at zero: hence at K components of standard
deviation .5 scattered over N(0, I). Standard deviations stay within [.018, 55]. Samples are differentiable in m
and v, not in pi; the likelihood trains all three.

Source: Bishop 1994 (mixture density networks); Dilokthanakul et al. 2016 (mixture priors of latent variables).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import distrax
import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree
from mmbc_jax.priors._conditioned import ConditionedOptions, ConditionedPrior, bounded_std

_START_STD = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditionalMixturePriorOptions(ConditionedOptions):
    """Thirty-two components."""

    num_components: int = option(32, "K", low=1)


@dataclasses.dataclass(frozen=True)
class ConditionalMixturePrior(ConditionedPrior):
    """w from a mixture of K Gaussians whose weights, means and variances depend on the observation.

    See `BasePrior` for the attributes.
    """

    options: ConditionalMixturePriorOptions

    plugin: ClassVar[str] = "conditional_mixture"
    reparameterised: ClassVar[bool] = False

    @property
    def outputs(self) -> int:
        """Logit, shift of the mean and raw log variance of every component."""
        return self.options.num_components * (1 + 2 * self.size)

    def init(self, key: Key) -> PyTree:
        """{"network", "centres" [K, n]}, n the size of an event."""
        key_network, key_centres = jax.random.split(key)
        centres = jax.random.normal(key_centres, (self.options.num_components, self.size))
        return {"network": super().init(key_network), "centres": centres}

    def distribution(self, params: PyTree, obs: Obs, posterior: Any = None) -> distrax.Distribution:
        """The mixture with the observations' leading axes as batch shape."""
        network, centres = params["network"], params["centres"]
        out = self.answer(network, self.features(network, obs))
        lead = (*self.batch_shape(obs), len(centres))
        logits, moved, raw = jnp.split(out, [len(centres), len(centres) + centres.size], -1)
        mean = centres + moved.reshape(*lead, -1)
        std = bounded_std(2 * math.log(_START_STD) + raw.reshape(mean.shape))
        shape = (*lead, *self.event_shape)
        normals = distrax.Normal(mean.reshape(shape), std.reshape(shape))
        components = distrax.Independent(normals, len(self.event_shape))
        return distrax.MixtureSameFamily(distrax.Categorical(logits=logits), components)

    def loss(self, params: PyTree, key: Key, obs: Obs, w: Array, posterior: Any = None) -> Array:
        """[...] -log p(w | obs)."""
        return -self.distribution(params, obs).log_prob(w)


@register("prior", ConditionalMixturePriorOptions)
def build(
    options: ConditionalMixturePriorOptions, event_shape: tuple[int, ...], *, spec: PolicySpec
) -> ConditionalMixturePrior:
    """A conditional mixture over `event_shape`."""
    return ConditionalMixturePrior(options, tuple(event_shape), spec)
