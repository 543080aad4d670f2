"""Where a decision's noise comes from: the reference's base, or a steering head in front of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.actors._density import normal_log_prob, squashed_entropy
from mmbc_jax.actors._noise_head import NoiseHead, divergence_from_base, required
from mmbc_jax.core.most_likely import most_likely
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.types import Array, Key, PyTree, Variables
from mmbc_jax.ops.capped import capped


@dataclasses.dataclass(frozen=True)
class StartNoise:
    """The distribution of w. Its parameters are {"head"}, nothing without one.

    Attributes:
      policy: the reference.
      head: draws the initial noise inside w; None where the base does.
    """

    policy: Policy
    head: NoiseHead | None

    def headless(self) -> StartNoise:
        """The noise of the base."""
        return dataclasses.replace(self, head=None)

    def init(self, key: Key, reference: Variables | None) -> dict[str, PyTree]:
        """Parameters at which w over all z is distributed as the base."""
        if self.head is None:
            return {}
        key_base, key_mix, key_net, key_freq = jax.random.split(key, 4)
        return {"head": self.head.init(key_base, key_mix, key_net, key_freq, required(reference))}

    def draw(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Any, dict[str, Array]]:
        """(w, {"start": [..., W] the noise, "start_log_prob": [...]} where a head drew it, else {})."""
        key_base, key_noise = jax.random.split(key)
        w = self.policy.base_distribution(required(reference), obs).sample(seed=key_base)
        if self.head is None:
            return w, {}
        mean, log_std = self.head.moments(params["head"], obs, z)
        x0 = mean + jnp.exp(capped(log_std)) * jax.random.normal(key_noise, mean.shape)
        info = {"start": x0, "start_log_prob": normal_log_prob(x0, mean, log_std).sum(-1)}
        return self._with(w, x0), info

    def likeliest(self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array) -> Any:
        """w of the highest density."""
        w = most_likely(self.policy.base_distribution(required(reference), obs), key)
        return w if self.head is None else self._with(w, self.head.moments(params["head"], obs, z)[0])

    def _with(self, w: Any, x0: Array) -> Any:
        shaped = self.policy.spec.shaped(x0)
        return {**w, "x0": shaped} if isinstance(w, dict) else shaped

    def log_ratios(self, params: PyTree, obs: Obs, z: Array, info: PyTree) -> list[Array]:
        """The log ratio [..., 1] of the noise where a head drew it; nothing where the base did."""
        if self.head is None:
            return []
        now = normal_log_prob(info["start"], *self.head.moments(params["head"], obs, z)).sum(-1)
        return [(now - info["start_log_prob"])[..., None]]

    def entropy(self, params: PyTree, obs: Obs, z: Array) -> Array:
        """[...] nats of the noise where a head draws it; else 0, as nothing changes it."""
        if self.head is None:
            return jnp.zeros(z.shape)
        return squashed_entropy(*self.head.moments(params["head"], obs, z), 0.0)

    def divergence(self, params: PyTree, obs: Obs, z: Array) -> Array:
        """[...] KL(head || base) in nats; 0 without a head."""
        if self.head is None:
            return jnp.zeros(z.shape)
        return divergence_from_base(params["head"], *self.head.moments(params["head"], obs, z))
