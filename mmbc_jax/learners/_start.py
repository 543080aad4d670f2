"""What learning by reinforcement starts from: a clone, an earlier stage of its kind, or nothing.

Without a clone nobody has seen observations before, so their scale is learned: y = (x - mean) / std over all that
was visited, from a short random walk on. Angles and quaternions stay as they are, and so does the scale of what
never changed. What the intrinsic reward remembers keeps the scale of its time.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Subject
from mmbc_jax.core.observations import Obs, ObsSpec
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree
from mmbc_jax.learners._cloning import clone
from mmbc_jax.learners._collect import Collector
from mmbc_jax.ops.normalisation import Normalizer
from mmbc_jax.ops.running_moments import Moments, merge, moments_of

GIVEN = ("reference", "normalizer", "moments")
"""The stats that a stage takes over from the one that it starts from."""
_WANDER = 16  # decisions of the random walk in each environment
_TINY = 1e-12  # variance below which a number counts as constant


def stats_from(
    parent: TrainState | None,
    key: Key | None,
    collector: Collector,
    obs: ObsSpec,
    chunk_shape: tuple[int, int],
) -> dict[str, Any]:
    """`TrainState.stats`: "reference", "normalizer", and without a clone "moments".

    Args:
      parent: final state of a stage that cloned, or of one that learned by reinforcement; None for none.
        What its learner kept besides (a weight, a unit of values, counts of commands) is that learner's.
      key: for the random walk; needed where there is no parent.
      collector: with the environment to walk in.
      obs: what an observation looks like.
      chunk_shape: (H, A).
    """
    if parent is None:
        assert key is not None
        moments = _moments(obs, *collector.wander(key, _WANDER, chunk_shape))
        return {
            "reference": None,
            "normalizer": _normalizer(moments, obs, collector.env.spec),
            "moments": moments,
        }
    if "reference" in parent.stats:
        return {name: parent.stats[name] for name in GIVEN if name in parent.stats}
    return {"reference": clone(parent), "normalizer": parent.stats["normalizer"]}


def follow(
    stats: dict[str, Any], visited: Obs, obs: ObsSpec, env: EnvSpec, valid: Array | None = None
) -> dict[str, Any]:
    """The stats after observations in physical units were visited; the same where there is a clone.

    `valid` is 0 for those that do not count, else 1; None where all do.
    """
    if "moments" not in stats:
        return stats
    new = _moments(obs, visited, valid)
    moments = {name: merge(old, new[name]) for name, old in stats["moments"].items()}
    return {**stats, "normalizer": _normalizer(moments, obs, env), "moments": moments}


def _moments(obs: ObsSpec, visited: Obs, valid: Array | None) -> dict[str, Moments]:
    named = obs.named(visited)
    return {name: moments_of(named[name], valid) for name, entry in obs.entries if entry.kind == "vector"}


def _normalizer(moments: dict[str, Moments], obs: ObsSpec, env: EnvSpec) -> Normalizer:
    low, high = {}, {}
    for name, entry in obs.entries:
        if entry.kind != "vector":
            continue
        mean, variance = moments[name].mean, moments[name].variance
        kept = np.isin(np.arange(entry.shape[0]), entry.kept)
        mean = jnp.where(kept, 0.0, mean)
        std = jnp.where(kept | (variance < _TINY), 1.0, jnp.sqrt(jnp.maximum(variance, _TINY)))
        low[name], high[name] = mean - std, mean + std
    bounds = (jnp.asarray(env.action_low, jnp.float32), jnp.asarray(env.action_high, jnp.float32))
    return Normalizer(obs.joined(low), obs.joined(high), *bounds)


def kept_params(parent: TrainState | None, fresh: PyTree) -> PyTree:
    """Parameters by part: those of an earlier stage that learned by reinforcement, else the fresh ones.

    Parts that the earlier learner did not have, or had otherwise (a critic of another kind), are fresh.

    Raises:
      ConfigError: the earlier stage trained another actor.
    """
    if parent is None or "reference" not in parent.stats:
        return fresh
    if not alike(parent.params["actor"], fresh["actor"]):
        raise ConfigError(
            "actor.name", "", "the actor, with the options, of the stage that this one starts from"
        )
    return {
        part: parent.params[part] if part in parent.params and alike(parent.params[part], new) else new
        for part, new in fresh.items()
    }


def alike(a: PyTree, b: PyTree) -> bool:
    """Whether two trees have the same structure, shapes and types."""

    def shapes(tree: PyTree) -> Any:
        return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)

    one: Any = jax.tree.structure(a)
    return bool(one == jax.tree.structure(b)) and shapes(a) == shapes(b)


def tuned_subject(state: TrainState, key: Key) -> Subject:
    """What is evaluated of a state that learned by reinforcement: the actor on its reference, with the reward's q."""
    stats, params = state.stats, state.params
    return Subject(key, stats["reference"], stats["normalizer"], params["actor"], params["reward"])


def episode_horizon(step: Array, hparams: Hparams, length: int) -> Array:
    """[] int32 control steps of episodes that start in iteration `step`.

    They grow linearly from "stage.start_horizon" to `length` over "stage.iterations".
    """
    start, full = hparams["stage.start_horizon"], float(length)
    progress = jnp.clip(step / jnp.maximum(hparams["stage.iterations"] - 1.0, 1.0), 0.0, 1.0)
    return jnp.ceil(start + (full - start) * progress).astype(jnp.int32)
