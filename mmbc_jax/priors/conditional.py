r"""Gaussian that follows the observation: p(z | s) = N(z; m(s), diag v(s)).

A posterior that only matches N(0, I) on average, E_s q(z|s) = p(z), can leave the deployed latents of one
state to the modes of another; a prior that sees the state closes that gap. Its samples
z = m + sqrt(v) eps are differentiable in m and v, so a divergence between samples trains it as a
likelihood does. log v = 8 tanh(raw / 8): standard deviations stay within [.018, 55].
The last layer starts at zero, hence at N(0, I).

Source: Sohn et al. 2015 (conditional VAE, learned prior).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import distrax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree
from mmbc_jax.priors._conditioned import ConditionedOptions, ConditionedPrior, bounded_std


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditionalPriorOptions(ConditionedOptions):
    """Only the network."""


@dataclasses.dataclass(frozen=True)
class ConditionalPrior(ConditionedPrior):
    """w ~ N(m(obs), diag v(obs)); see `BasePrior` for the attributes."""

    plugin: ClassVar[str] = "conditional"

    @property
    def outputs(self) -> int:
        """Mean and raw log variance of every entry."""
        return 2 * self.size

    def distribution(self, params: PyTree, obs: Obs, posterior: Any = None) -> distrax.Distribution:
        """The Gaussian with the observations' leading axes as batch shape."""
        mean, raw = jnp.split(self.answer(params, self.features(params, obs)), 2, -1)
        std = bounded_std(raw)
        shape = (*self.batch_shape(obs), *self.event_shape)
        normal = distrax.Normal(mean.reshape(shape), std.reshape(shape))
        return distrax.Independent(normal, len(self.event_shape))

    def loss(self, params: PyTree, key: Key, obs: Obs, w: Array, posterior: Any = None) -> Array:
        """[...] -log p(w | obs)."""
        return -self.distribution(params, obs).log_prob(w)


@register("prior", ConditionalPriorOptions)
def build(
    options: ConditionalPriorOptions, event_shape: tuple[int, ...], *, spec: PolicySpec
) -> ConditionalPrior:
    """A conditional Gaussian over `event_shape`."""
    return ConditionalPrior(options, tuple(event_shape), spec)
