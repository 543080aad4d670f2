"""What a learner that replays is put together from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Parts, ReparameterisedActor
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.seeing import compares
from mmbc_jax.core.types import Array, Key, PyTree, Variables
from mmbc_jax.envs import wrappers
from mmbc_jax.learners._collect import Act, Collector
from mmbc_jax.learners._replay import ReplayLearner, ReplayOptions
from mmbc_jax.learners._replayed_update import ReplayedUpdate
from mmbc_jax.learners._require import require
from mmbc_jax.nn.critic import ActionCritic


def acting(actor: ReparameterisedActor, keep_chunk: bool = False) -> Act:
    """An actor that remembers its action, with the chunk [..., W] where that is wanted, and nothing else."""

    def act(
        params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, PyTree]:
        key_action, key_path = jax.random.split(key)
        action, _ = actor.sample(params, reference, key_action, obs, z)
        chunk = actor.chunk(reference, key_path, obs, action)
        kept = {"chunk": chunk.reshape(*chunk.shape[:-2], -1)} if keep_chunk else {}
        return chunk, {"action": action, **kept}

    return act


def actor_of(parts: Parts, needs: tuple[str, ...], allowed: str) -> Any:
    """The actor that is trained.

    Raises:
      ConfigError: there is none, or it lacks one of the methods `needs`; `allowed` names some that have them.
    """
    actor: Any = require(parts.actor, "actor.name", "an actor to train")
    if not all(hasattr(actor, name) for name in needs):
        raise ConfigError("actor.name", getattr(getattr(actor, "options", None), "name", ""), allowed)
    return actor


def collector_of(options: ReplayOptions, parts: Parts, actor: Any, act: Act) -> Collector:
    """Environments and actor.

    Raises:
      ConfigError: there is no environment, or no intrinsic reward that can be paid anew.
    """
    env = require(parts.env, "env.name", "an environment: this learner plays episodes")
    reward: Any = require(parts.reward, "reward.name", "an intrinsic reward, or none")
    if compares(reward):
        raise reward.options.error(
            "name",
            "a reward that pays each decision by itself, such as mi or metra: this one compares the paths of a "
            "rollout, and decisions are replayed here",
        )
    return Collector(
        env=wrappers.make(env, parts.exec_len, options.gamma, "full", observe=parts.observe),
        act=act,
        reward=reward,
        num_modes=actor.num_modes,
        num_envs=options.num_envs,
        exec_len=parts.exec_len,
        length=env.spec.episode_length,
    )


def critic_of(options: ReplayOptions, parts: Parts, num_modes: int) -> ActionCritic:
    """The action values that the options describe."""
    return ActionCritic(
        parts.spec.obs,
        options.critic_hidden,
        num_modes,
        options.heads,
        options.critic_octaves,
        options.critic_layer_norm,
    )


def assembled(
    options: ReplayOptions,
    parts: Parts,
    actor: Any,
    act: Act,
    update: Callable[..., ReplayedUpdate],
    *more: Any,
) -> ReplayLearner:
    """The learner of an actor that explores with `act` and takes the gradient steps of `update`.

    `more` are the arguments of `update` that are its own.
    """
    collector = collector_of(options, parts, actor, act)
    made = update(
        options.updates,
        options.batch_size,
        options.reduce,
        options.gamma**parts.exec_len,
        actor,
        critic_of(options, parts, actor.num_modes),
        collector.reward,
        *more,
    )
    return ReplayLearner(options, parts.spec, actor, collector.reward, collector, made)
