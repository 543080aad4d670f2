"""Soft actor-critic on replayed decisions.

The action is what the actor calls so: the initial noise of a reference policy (`steer`; this is then diffusion
steering by reinforcement, DSRL, Wagenmaker et al. 2025, with its critic on the noise), or the chunk (`gaussian`,
`residual`; the latter is the Policy Decorator, Yuan et al. 2024).

Source: Haarnoja et al. 2018 (arXiv 1812.05905).
"""

from __future__ import annotations

import dataclasses

from mmbc_jax.core.learning import Parts
from mmbc_jax.core.registry import register
from mmbc_jax.learners._replay import ReplayLearner
from mmbc_jax.learners._replay_parts import acting, assembled
from mmbc_jax.learners._soft_update import SoftOptions, SoftUpdate, soft_actor_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class SACOptions(SoftOptions):
    """Soft actor-critic, with the intrinsic reward's parameters trained beside the actor's.

    Gradient steps per collected decision (the update-to-data ratio) are updates / (num_envs x decisions).
    """


@register("learner", SACOptions)
def build(options: SACOptions, parts: Parts) -> ReplayLearner:
    """A learner that trains `parts.actor` in `parts.env` on its reward and `parts.reward`.

    Raises:
      ConfigError: a part is missing, the actor's action is no differentiable function of its parameters, or its
        entropy cannot be what is asked.
    """
    needs = ("sample", "chunk", "action_size", "box")
    actor = soft_actor_of(
        options, parts, needs, "an actor that sac can differentiate, such as steer, residual or gaussian"
    )
    return assembled(options, parts, actor, acting(actor), SoftUpdate)
