"""|Z| found in discovery: start with many commands, and let those become one that the discriminator confuses.

Which commands there are is part of the reward's parameters ("alive" [Z], 1 and 0), where everybody finds it who needs
to know: what is drawn, what is paid (log q - log p(z) with p uniform over them), what is evaluated.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Reward, Transitions
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Key, Metrics, PyTree
from mmbc_jax.ops import codes

SEEN = "codes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodesOptions(Options):
    """How many commands there are."""

    merge: bool = option(
        False, "in discovery, commands that the discriminator confuses become one: |Z| is where it starts"
    )
    merge_threshold: float = option(
        0.8, "of two commands' confusion, 1 for the same paths", low=0.0, high=1.0, open_low=True
    )
    merge_after: float = option(0.75, "share of discovery after which commands are judged", low=0.0, high=1.0)
    merge_paths: float = option(8.0, "episodes of a command before it is judged", low=1.0)
    merge_memory: float = option(
        0.9, "of what was seen of a command, from one iteration to the next", low=0.0, high=1.0
    )


def with_codes(params: PyTree, options: CodesOptions, reward: Reward) -> PyTree:
    """Fresh parameters of a reward with all commands there, where they are to merge.

    Raises:
      ConfigError: there is no discriminator that could confuse them.
    """
    if not options.merge:
        return params
    if reward.discriminator is None or not reward.trains:
        raise ConfigError(
            f"{options.section}.merge", True, "False without a discriminator of two commands or more"
        )
    return {**params, codes.ALIVE: jnp.ones(reward.num_modes)}


def unseen(stats: dict[str, Any], options: CodesOptions, reward: Reward) -> dict[str, Any]:
    """Stats of a stage's first iteration: nothing was seen of any command yet."""
    if not options.merge:
        return stats
    return {**stats, SEEN: jnp.zeros((reward.num_modes, reward.num_modes + 1))}


def judged(
    stats: dict[str, Any],
    params: PyTree,
    options: CodesOptions,
    reward: Reward,
    state: TrainState,
    seen: Transitions,
    key: Key,
) -> tuple[dict[str, Any], PyTree, Metrics]:
    """Takes in the episodes that ended in a rollout, and merges commands while the stage discovers.

    Args:
      stats: with what was seen before.
      params: by part, after the update.
      options: of the learner, that merges.
      reward: with a discriminator.
      state: before the iteration; "stage.env_coef" of its hparams is 0 in discovery.
      seen: [T, B] of the rollout.
      key: of the discriminator's input noise.

    Returns:
      (stats, params, {"mode/codes": [] commands there are}).
    """
    assert reward.discriminator is not None
    of, hparams = params["reward"], state.hparams
    alive, ended = of[codes.ALIVE], (seen.done * seen.valid).reshape(-1)
    log_q = reward.discriminator.log_prob(of, key, seen.final_features).reshape(-1, reward.num_modes)
    commanded = jax.nn.one_hot(seen.z.reshape(-1), reward.num_modes) * ended[:, None]
    new = jnp.concatenate([commanded.T @ (jnp.exp(log_q) * alive), commanded.sum(0)[:, None]], 1)
    memory = options.merge_memory * stats[SEEN] + new
    progress = state.step / jnp.maximum(hparams["stage.iterations"], 1.0)
    due = (hparams["stage.env_coef"] == 0) & (progress >= options.merge_after)
    left = codes.merged(alive, memory[:, :-1], memory[:, -1], options.merge_threshold, options.merge_paths)
    left = jnp.where(due, left, alive)
    # after a merger q learns anew whom to give the paths of those that went; what it said before does not count
    memory = jnp.where(left.sum() < alive.sum(), jnp.zeros_like(memory), memory)
    counted = {"mode/codes": left.sum()}
    return {**stats, SEEN: memory}, {**params, "reward": {**of, codes.ALIVE: left}}, counted
