"""A policy of a few numbers, cloned from random windows: what tests of cloning start from."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core import registry
from mmbc_jax.core.config import plugin
from mmbc_jax.core.learning import Learner, Parts
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.types import Array, PolicySpec
from mmbc_jax.data.windows import Windows
from mmbc_jax.ops.normalisation import Normalizer

SPEC = PolicySpec(2, 2, 4)


@functools.cache
def policy() -> Policy:
    """A flow in two Euler steps."""
    prior = functools.partial(registry.build, "prior", plugin("prior", "normal"), spec=SPEC)
    sampler = registry.build("sampler", plugin("sampler", "euler", steps=2))
    cfg = plugin("policy", "flow", hidden=(8,), fourier_octaves=0)
    return registry.build("policy", cfg, SPEC, prior=prior, sampler=sampler)


@functools.cache
def learner(**fields: Any) -> Learner:
    """Eight steps of cloning on batches of 16, without a warm-up."""
    cfg = plugin("learner", "bc", **{"steps": 8, "batch_size": 16, "warmup_steps": 0, **fields})
    return registry.build("learner", cfg, Parts(SPEC, 4, policy=policy()))


@functools.cache
def shared(rows: int = 64) -> tuple[Windows, Normalizer]:
    """Windows of random numbers in [-1, 1], and the normaliser that leaves everything alone."""
    rng = np.random.default_rng(0)
    integers = jnp.zeros((rows,), jnp.int32)
    obs = jnp.asarray(rng.uniform(-1, 1, (rows, 2)), jnp.float32)
    chunk = jnp.asarray(rng.uniform(-1, 1, (rows, 4, 2)), jnp.float32)
    windows = Windows(obs, chunk, jnp.ones((rows, 4)), integers, integers, integers)
    return windows, Normalizer(-jnp.ones(2), jnp.ones(2), -jnp.ones(2), jnp.ones(2))


def scalars(kind: str, name: str, section: str) -> dict[str, Array]:
    """The traced scalars of a plug-in at their defaults, as "section.NAME"."""
    found = registry.find(kind, name)
    return {
        f"{section}.{field}": jnp.asarray(float(found.default_config()[field])) for field in found.hparams
    }


def hparams() -> dict[str, Array]:
    """Those of cloning and of the policy."""
    return {**scalars("learner", "bc", "bc"), **scalars("policy", "flow", "policy")}


def arrays(tree: Any) -> list[np.ndarray]:
    """Leaves on the host, keys as their integers."""

    def plain(x: Any) -> Any:
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return [np.asarray(plain(leaf)) for leaf in jax.tree.leaves(tree)]


def same(a: Any, b: Any) -> bool:
    """Whether two trees are equal bit for bit."""
    pairs = zip(arrays(a), arrays(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in pairs)
