"""|Z| found in training: commands become one that the discriminator confuses, and one that holds two ways is split.

Which commands there are is part of the reward's parameters ("alive" [Z], 1 and 0), where everybody finds it who needs
to know: what is drawn, what is paid (log q - log p(z) with p uniform over them), what is evaluated. A command that
comes by a split is one that there was before, or has not been yet: it keeps its parameters, and q has a place for it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Reward, Transitions
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.seeing import point_size
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.ops import codes, splitting

SEEN, PATHS = "codes", "code_paths"
_OLD = 2**20  # iterations: of commands that no split made


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodesOptions(Options):
    """How many commands there are."""

    merge: bool = option(False, "commands that the discriminator confuses become one: |Z| is where it starts")
    merge_in: str = option(
        "discover",
        "stage in which they do: before the environment pays, or while it does, when commands are sharper",
        choices=("discover", "finetune"),
    )
    merge_threshold: float = option(
        0.8, "of two commands' confusion, 1 for the same paths", low=0.0, high=1.0, open_low=True
    )
    merge_after: float = option(
        0.75, "share of that stage after which commands are judged", low=0.0, high=1.0
    )
    merge_paths: float = option(8.0, "episodes of a command before it is judged", low=1.0)
    merge_memory: float = option(
        0.9, "of what was seen of a command, from one iteration to the next", low=0.0, high=1.0
    )
    split: bool = option(
        False,
        "in discovery, a command whose paths fall apart into two clusters gives one to a command that is free",
    )
    split_threshold: float = option(
        4.5,
        "of the clusters' distance in standard deviations; one Gaussian passes it in .1 % of judgements",
        low=0.0,
    )
    split_after: float = option(0.5, "share of discovery after which commands are split", low=0.0, high=1.0)
    split_grace: float = option(
        0.1,
        "share of discovery in which the halves do not merge again; no split in the last two",
        low=0.0,
        high=0.5,
    )
    first_codes: int = option(0, "commands there are at first, the others are free; 0 for all", low=0)

    @property
    def judges(self) -> bool:
        """Whether the number of commands changes."""
        return self.merge or self.split

    @property
    def logged(self) -> dict[str, str]:
        """How the figures of `judged` become one of a row, where that is not their mean."""
        return {"mode/splits": "sum"} if self.split else {}


def with_codes(params: PyTree, options: CodesOptions, reward: Reward) -> PyTree:
    """Fresh parameters of a reward with the commands there are at first, where they are to become more or fewer.

    Raises:
      ConfigError: there is no discriminator that could tell them apart, or to which paths are points.
    """
    if not options.judges:
        if options.first_codes:
            raise options.error("first_codes", "0 where commands neither merge nor split")
        return params
    if reward.discriminator is None or not reward.trains:
        field = "merge" if options.merge else "split"
        raise ConfigError(
            f"{options.section}.{field}", True, "False without a discriminator of two commands or more"
        )
    if options.split and not point_size(reward.discriminator):
        raise options.error(
            "split", "False for a discriminator that sees no vectors, to which paths are no points"
        )
    if options.first_codes > reward.num_modes:
        raise options.error("first_codes", f"at most num_modes = {reward.num_modes}")
    first = options.first_codes or reward.num_modes
    return {**params, codes.ALIVE: (jnp.arange(reward.num_modes) < first).astype(jnp.float32)}


def unseen(stats: dict[str, Any], options: CodesOptions, reward: Reward) -> dict[str, Any]:
    """Stats of a stage's first iteration: nothing was seen of any command yet."""
    if not options.judges:
        return stats
    stats = {**stats, SEEN: jnp.zeros((reward.num_modes, reward.num_modes + 1))}
    if not options.split:
        return stats
    assert reward.discriminator is not None
    fresh = splitting.empty(reward.num_modes, point_size(reward.discriminator))
    return {**stats, PATHS: {"paths": fresh, "age": jnp.full((reward.num_modes,), _OLD, jnp.int32)}}


def judged(
    stats: dict[str, Any],
    params: PyTree,
    options: CodesOptions,
    reward: Reward,
    state: TrainState,
    seen: Transitions,
    key: Key,
) -> tuple[dict[str, Any], PyTree, Metrics]:
    """Takes in the episodes that ended in a rollout; merges commands in the stage that does, splits in discovery.

    Args:
      stats: with what was seen before.
      params: by part, after the update.
      options: of the learner, that judges.
      reward: with a discriminator.
      state: before the iteration; "stage.env_coef" of its hparams is 0 in discovery.
      seen: [T, B] of the rollout.
      key: of the discriminator's input noise.

    Returns:
      (stats, params, {"mode/codes": [] commands there are, and where they split "mode/splits": [] 1 for one}).
    """
    assert reward.discriminator is not None
    of, hparams = params["reward"], state.hparams
    alive, ended = of[codes.ALIVE], (seen.done * seen.valid).reshape(-1)
    log_q = reward.discriminator.log_prob(of, key, seen.final_features).reshape(-1, reward.num_modes)
    commanded = jax.nn.one_hot(seen.z.reshape(-1), reward.num_modes) * ended[:, None]
    new = jnp.concatenate([commanded.T @ (jnp.exp(log_q) * alive), commanded.sum(0)[:, None]], 1)
    memory = options.merge_memory * stats[SEEN] + new
    progress = state.step / jnp.maximum(hparams["stage.iterations"], 1.0)
    discovers, left = hparams["stage.env_coef"] == 0, alive
    if options.merge:
        here = discovers if options.merge_in == "discover" else ~discovers
        due = here & (progress >= options.merge_after)
        judged = memory[:, -1] * _settled(stats, options, hparams["stage.iterations"])
        left = codes.merged(alive, memory[:, :-1], judged, options.merge_threshold, options.merge_paths)
        left = jnp.where(due, left, alive)
    counted: Metrics = {}
    changed = left.sum() < alive.sum()
    if options.split:
        due = discovers & (progress >= options.split_after) & (progress < 1.0 - 2.0 * options.split_grace)
        stats, left, happened = _split(stats, options, reward, seen, left, due)
        counted["mode/splits"] = happened.astype(jnp.float32)
        changed = changed | happened
    # then q learns anew whom to give the paths of those that went or came; what it said before does not count
    memory = jnp.where(changed, jnp.zeros_like(memory), memory)
    counted["mode/codes"] = left.sum()
    return {**stats, SEEN: memory}, {**params, "reward": {**of, codes.ALIVE: left}}, counted


def _settled(stats: dict[str, Any], options: CodesOptions, iterations: Array) -> Array | float:
    """[Z] 1 for commands that may merge: not those that a split has just made."""
    if not options.split:
        return 1.0
    return (stats[PATHS]["age"] >= options.split_grace * iterations).astype(jnp.float32)


def _split(
    stats: dict[str, Any],
    options: CodesOptions,
    reward: Reward,
    seen: Transitions,
    alive: Array,
    due: Array,
) -> tuple[dict[str, Any], Array, Array]:
    """(stats with the paths of a rollout, commands there are, whether one was split)."""
    speaks: Any = reward.discriminator
    points, ended = speaks.points(seen.final_features), (seen.done * seen.valid).reshape(-1) > 0
    paths = splitting.kept(stats[PATHS]["paths"], seen.z.reshape(-1), points.reshape(len(ended), -1), ended)
    found = splitting.divided(alive, paths, options.split_threshold)
    found = found._replace(happened=found.happened & due, alive=jnp.where(due, found.alive, alive))
    number = jnp.arange(len(alive))
    touched = ((number == found.donor) | (number == found.heir)) & found.happened
    age = jnp.where(touched, 0, jnp.minimum(stats[PATHS]["age"] + 1, _OLD))
    held = {"paths": splitting.begun(paths, found), "age": age}
    return {**stats, PATHS: held}, found.alive, found.happened
