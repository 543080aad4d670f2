"""What an actor shares with others that stand in for the reference's chunk, decision by decision."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mmbc_jax.actors._noise_head import required
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.types import Array, Key, PyTree, Variables


def ramped(params: PyTree, decisions: Array, ramp: int) -> PyTree:
    """Parameters with the share min(n / ramp, 1) of decisions that are the actor's, [] under "share"; 0 for all."""
    return {**params, "share": jnp.minimum(decisions / ramp, 1.0)} if ramp else params


def switched_on(params: PyTree, key: Key, shape: tuple[int, ...]) -> Array:
    """[...] 1 where the decision is the actor's, 0 where it is the reference's."""
    if "share" not in params:
        return jnp.ones(shape)
    return (jax.random.uniform(key, shape) < params["share"]).astype(jnp.float32)


def reference_chunk(policy: Policy, reference: Variables | None, obs: Obs, w: PyTree) -> Array:
    """[..., W] flat chunk that the reference makes of w; no gradient."""
    chunk = policy.transport(required(reference), obs, w)
    return jax.lax.stop_gradient(chunk.reshape(*chunk.shape[:-2], -1))
