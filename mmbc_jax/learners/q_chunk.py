"""A critic of chunks, climbed by an actor that is anchored to its reference: Q-chunking, FQL, DICE-RL.

A chunk is worth what its executed actions are paid, and gamma^k of what comes after k of them, without bias: it is
executed open loop. Exploration is the noise of the reference. See `_anchored_update` and `_best_of`.

| method | actor | learner |
|---|---|---|
| Q-chunking | `residual`, `scale` 0: the reference as it is | `best_of` 32 |
| FQL | `one_step`: a student of the reference | `filtered=False`, `reduce=mean` |
| DICE-RL | `residual`, `sees_noise`, a wide `scale` | `filtered`, `best_of` and `draws` 16 |

The papers go on cloning, or start from recorded rewards; here the reference stays as it was cloned, and the buffer
starts empty.
"""

from __future__ import annotations

import dataclasses

import jax

from mmbc_jax.core.learning import Parts
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PyTree, Variables
from mmbc_jax.learners._anchored_update import AnchoredUpdate
from mmbc_jax.learners._best_of import BestOf
from mmbc_jax.learners._replay import ReplayLearner, ReplayOptions
from mmbc_jax.learners._replay_parts import actor_of, assembled, critic_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class QChunkOptions(ReplayOptions):
    """A chunk's critic and an anchored actor."""

    anchor_coef: float = option(
        10.0, "beta, what a mean squared distance of 1 from the reference costs", low=0.0, traced=True
    )
    filtered: bool = option(True, "the anchor lets go where the critic prefers the actor's chunk")
    normalise_q: bool = option(True, "values count in units of their mean magnitude")
    best_of: int = option(
        1,
        "K, chunks of which the critic chooses one: in exploring, in its targets, and when it is played",
        low=1,
    )
    draws: int = option(1, "noises of each replayed decision in the actor's loss", low=1)
    timeless: bool = option(
        False,
        "the critic is not told the time; always so with best_of > 1, since nobody tells a policy when it is played",
    )


@register("learner", QChunkOptions)
def build(options: QChunkOptions, parts: Parts) -> ReplayLearner:
    """A learner that trains `parts.actor` in `parts.env` on its reward and `parts.reward`.

    Raises:
      ConfigError: a part is missing, or the actor corrects no reference.
    """
    actor = actor_of(
        parts,
        ("paired", "chunk", "action_size"),
        "residual or one_step: this learner holds an actor to a reference",
    )
    chosen = BestOf(actor, critic_of(options, parts, actor.num_modes), options.best_of, options.reduce)

    def act(
        params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Array
    ) -> tuple[Array, PyTree]:
        key_action, key_chunk = jax.random.split(key)
        action = chosen.choose(params, reference, key_action, obs, z)
        return actor.chunk(reference, key_chunk, obs, action), {"action": action}

    timeless = options.timeless or options.best_of > 1
    own = (options.filtered, options.normalise_q, chosen, options.draws, timeless)
    return assembled(options, parts, actor, act, AnchoredUpdate, *own)
