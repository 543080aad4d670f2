"""Chunks of one action, so that a path is that action: maps whose figures have closed forms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import distrax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.types import PolicySpec, Variables
from mmbc_jax.data.windows import Windows
from mmbc_jax.diagnostics.case import Case
from mmbc_jax.ops.normalisation import Normalizer


@dataclasses.dataclass(frozen=True)
class Map:
    """w ~ N(0, I_m) (or `base`), chunk = f(w) with f from [..., m] to [..., A]."""

    f: Callable
    size: int = 1
    dim: int = 1
    base: Callable[[Any], Any] | None = None
    obs: ObsSpec = ObsSpec.vector(1)

    @property
    def spec(self):
        return PolicySpec(self.obs.size, self.dim, 1, self.obs)

    def base_distribution(self, variables, obs):
        return (
            self.base(obs) if self.base else gaussian(jnp.zeros((*self.obs.batch_shape(obs), self.size)), 1.0)
        )

    def transport(self, variables, obs, w):
        return self.f(w)[..., None, :]


@dataclasses.dataclass(frozen=True)
class Encoded(Map):
    """With q(z | obs, chunk) = encode(action [..., A])."""

    encode: Callable | None = None

    def posterior(self, variables, obs, chunk):
        return self.encode(chunk[..., 0, :])


def gaussian(mean, std):
    return distrax.Independent(distrax.Normal(mean, jnp.full_like(mean, std)), 1)


def windows(action, mode=None, obs=None):
    """One window per episode with actions [n, A], all at observation 0."""
    action = np.asarray(action, np.float32)
    n = len(action)
    return Windows(
        obs=jnp.zeros((n, 1)) if obs is None else jnp.asarray(obs, jnp.float32),
        chunk=jnp.asarray(action)[:, None],
        mask=jnp.ones((n, 1)),
        mode=jnp.full(n, -1, jnp.int32) if mode is None else jnp.asarray(mode, jnp.int32),
        episode=jnp.arange(n, dtype=jnp.int32),
        step=jnp.zeros(n, jnp.int32),
    )


def case(policy, demos, hp=None):
    one = jnp.ones(policy.dim)
    normalizer = Normalizer(-jnp.ones(1), jnp.ones(1), -one, one)
    return Case(Variables({}), hp or {}, demos, normalizer, policy=policy)


def around(centres, count=64, noise=1e-3, seed=0):
    """Demonstrations: `count` actions around each of the centres [K, A], uniform within +-noise."""
    centres = np.asarray(centres, float)
    label = np.arange(count * len(centres)) % len(centres)
    spread = np.random.default_rng(seed).uniform(-noise, noise, (len(label), centres.shape[1]))
    return windows(centres[label] + spread, label)
