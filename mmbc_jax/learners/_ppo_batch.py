"""What PPO updates on: rewards put together, advantages and targets of a rollout."""

from __future__ import annotations

import jax.numpy as jnp

from mmbc_jax.core.learning import Reward, Transitions
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.state import TrainState
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.learners._collect import Loop, rollout_metrics
from mmbc_jax.learners._values import values_of
from mmbc_jax.nn.critic import Critic
from mmbc_jax.ops.gae import gae
from mmbc_jax.ops.leading_axes import merge_leading
from mmbc_jax.ops.policy_gradient import explained_variance, normalise_advantage


def prepare(
    reward: Reward,
    critic: Critic,
    per_decision: float,
    state: TrainState,
    loop: Loop,
    seen: Transitions,
    key: Key,
) -> tuple[PyTree, Loop, Metrics]:
    """Rewards, advantages and targets of [T, B] decisions, flattened to [T B]; and the loop with what was paid.

    Args:
      reward: the intrinsic one.
      critic: of states.
      per_decision: discount of a decision.
      state: of one run, with the weights of both rewards.
      loop: after the rollout.
      seen: normalised.
      key: of the intrinsic reward.
    """
    params, hp = state.params, state.hparams
    intrinsic, metrics = reward.pay(params["reward"], key, seen, per_decision)
    intrinsic = intrinsic * seen.valid
    paid = hp["stage.env_coef"] * seen.reward + hp["stage.mi_coef"] * intrinsic

    def valued(obs: Obs, time: Array) -> Array:
        return values_of(jnp.asarray(critic.apply(params["critic"], obs, seen.z, time)), state.stats)

    value, next_value = valued(seen.obs, seen.time), valued(seen.final_obs, seen.final_time)
    advantage, target = gae(
        paid,
        value,
        next_value,
        seen.final,
        seen.done,
        seen.discount,
        hp["learner.gae_lambda"],
        seen.valid,
    )
    batch = {
        "obs": seen.obs,
        "z": seen.z,
        "time": seen.time,
        "info": seen.info,
        "features": seen.final_features,
        "advantage": normalise_advantage(advantage, seen.valid),
        "target": target,
        "valid": seen.valid,
    }
    rollout, running = rollout_metrics(seen, intrinsic, loop.paid)
    metrics |= rollout
    metrics["ppo/explained_variance"] = explained_variance(value, target, seen.valid)
    return merge_leading(batch), loop.replace(paid=running), metrics
