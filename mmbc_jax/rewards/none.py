"""No intrinsic reward: the environment's alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp

from mmbc_jax.core.learning import Discriminator, Transitions
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, Metrics, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoRewardOptions(Options):
    """Nothing to choose."""


@dataclasses.dataclass(frozen=True)
class NoReward:
    """Pays nothing, remembers nothing and has no parameters.

    Attributes:
      num_modes: Z.
    """

    num_modes: int

    discriminator: ClassVar[Discriminator | None] = None
    trains: ClassVar[bool] = False
    logs: ClassVar[Mapping[str, str]] = {}

    def init(self, key: Key) -> PyTree:
        """An empty dict."""
        return {}

    def init_memory(self, obs: Obs) -> PyTree:
        """An empty dict."""
        return {}

    def remember(self, memory: PyTree, obs: Obs) -> PyTree:
        """An empty dict."""
        return memory

    def features(self, memory: PyTree) -> PyTree:
        """An empty dict."""
        return {}

    def pay(
        self, params: PyTree, key: Key, transitions: Transitions, discount: float
    ) -> tuple[Array, Metrics]:
        """([...] zeros, no metrics)."""
        return jnp.zeros(transitions.z.shape), {}

    def loss(self, params: PyTree, key: Key, features: PyTree, z: Array) -> tuple[Array, Metrics]:
        """([...] zeros, no metrics)."""
        return jnp.zeros(z.shape), {}


@register("reward", NoRewardOptions)
def build(options: NoRewardOptions, *, discriminator: Discriminator | None, horizon: int) -> NoReward:
    """A reward of 0; `discriminator` says how many modes there are, one where it is None."""
    return NoReward(discriminator.num_modes if discriminator else 1)
