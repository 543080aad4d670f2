r"""Distribution over integer codes, learned and autoregressive, or uniform.

p(c | s) = prod_i p(c_i | c_<i, s), or K^-n.

The base of policies with a codebook. In a residual codebook the later codes refine the earlier ones, so they
depend on them, hence the autoregression: one MLP for all positions that sees the observation, the position
and the codes before it. The last layer starts at zero, hence at the uniform distribution.

Source: van den Oord et al. 2017 (prior over codes); Lee et al. 2024 (VQ-BeT: codes of residual layers).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PolicySpec, PyTree
from mmbc_jax.ops.picked import picked
from mmbc_jax.priors._conditioned import ConditionedOptions, ConditionedPrior, earlier_entries, flat_pair


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoricalPriorOptions(ConditionedOptions):
    """Sixteen codes per position, learned."""

    num_codes: int = option(16, "K, codes per position; as many as the policy has", low=2)
    learned: bool = option(True, "whether the codes' probabilities are; uniform otherwise")


@dataclasses.dataclass(frozen=True)
class CategoricalPrior(ConditionedPrior):
    """w int32 in [0, num_codes) at every position of `event_shape`, in row-major order.

    See `BasePrior` for the attributes.
    """

    options: CategoricalPriorOptions

    plugin: ClassVar[str] = "categorical"
    discrete: ClassVar[bool] = True

    @property
    def trainable(self) -> bool:  # type: ignore[override]
        """Whether it is learned; uniform otherwise."""
        return self.options.learned

    @property
    def num_codes(self) -> int:
        """K."""
        return self.options.num_codes

    @property
    def outputs(self) -> int:
        """The logits of one position."""
        return self.num_codes

    def inputs(self, features: Array) -> Array:
        """[n, I] of features [F]."""
        return earlier_entries(jnp.zeros((self.size, self.num_codes)), features)

    def init(self, key: Key) -> PyTree:
        """Parameters of the network; none where uniform."""
        return super().init(key) if self.trainable else {}

    def features(self, params: PyTree, obs: Obs) -> Array:
        """[..., F] of observations; F = 0 where uniform."""
        return super().features(params, obs) if self.trainable else jnp.zeros((*self.batch_shape(obs), 0))

    def logits(self, params: PyTree, features: Array, codes: Array, position: Array | None = None) -> Array:
        """Logits of every position given the codes before it, or of one position.

        Args:
          params: of this prior.
          features: [..., F] of observations.
          codes: [..., n] int32; entries from `position` on are not looked at.
          position: [] int32, or None for all.

        Returns:
          [..., n, K], or [..., K] at `position`.
        """
        if not self.trainable:
            return jnp.zeros((*(codes.shape if position is None else codes.shape[:-1]), self.num_codes))
        rows = earlier_entries(jax.nn.one_hot(codes, self.num_codes), features)
        rows = rows if position is None else jax.lax.dynamic_index_in_dim(rows, position, -2, False)
        return self.answer(params, rows)

    def distribution(self, params: PyTree, obs: Obs, posterior: Any = None) -> CodeDistribution:
        """The codes' distribution with the observations' leading axes as batch shape."""
        return CodeDistribution(self, params, self.features(params, obs))

    def loss(self, params: PyTree, key: Key, obs: Obs, w: Array, posterior: Any = None) -> Array:
        """[...] -log p(w | obs) in nats."""
        return -self.distribution(params, obs).log_prob(w)


@dataclasses.dataclass(frozen=True)
class CodeDistribution:
    """p(codes | obs) of a `CategoricalPrior`.

    Attributes:
      prior: whose distribution it is.
      params: of that prior.
      features: [..., F] of the observations.
    """

    prior: CategoricalPrior
    params: PyTree
    features: Array

    def sample(self, *, seed: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """[*sample_shape, ..., *event_shape] int32, drawn position by position."""
        lead = (*sample_shape, *self.features.shape[:-1])
        features = jnp.broadcast_to(self.features, (*lead, self.features.shape[-1]))
        n = self.prior.size

        def draw(codes: Array, step: tuple[Array, Key]) -> tuple[Array, None]:
            position, key = step
            logits = self.prior.logits(self.params, features, codes, position)
            drawn = jax.random.categorical(key, logits).astype(jnp.int32)
            return jax.lax.dynamic_update_index_in_dim(codes, drawn, position, -1), None

        start = jnp.zeros((*lead, n), jnp.int32)
        codes, _ = jax.lax.scan(draw, start, (jnp.arange(n), jax.random.split(seed, n)))
        return codes.reshape(*lead, *self.prior.event_shape)

    def log_prob(self, value: Array) -> Array:
        """[...] log-probability in nats of codes [..., *event_shape]."""
        codes, features = flat_pair(value, self.prior.event_shape, self.features)
        log_p = jax.nn.log_softmax(self.prior.logits(self.params, features, codes))
        return picked(log_p, codes).sum(-1)


@register("prior", CategoricalPriorOptions)
def build(
    options: CategoricalPriorOptions, event_shape: tuple[int, ...], *, spec: PolicySpec
) -> CategoricalPrior:
    """A distribution over codes at every position of `event_shape`; () is one position."""
    return CategoricalPrior(options, tuple(event_shape), spec)
