"""What learners that clone share: their options, one gradient step, and the policy that comes of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmbc_jax.core.options import Options, option
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, Batch, Key, Metrics, PyTree, Variables
from mmbc_jax.learners._optim import optimizer, patience_of, skip_metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class BCOptions(Options):
    """Behavioural cloning."""

    steps: int = option(6000, "gradient steps", low=1)
    batch_size: int = option(512, "windows in a batch", low=1)
    learning_rate: float = option(4e-3, "peak of the schedule", low=0.0, open_low=True, traced=True)
    weight_decay: float = option(1e-4, "decoupled, as in AdamW", low=0.0, traced=True)
    warmup_steps: int = option(100, "steps of linear warm-up, at most `steps`", low=0)
    final_lr_fraction: float = option(0.01, "of the peak, where the cosine ends", low=0.0, high=1.0)
    ema_decay: float = option(0.998, "of the average of the weights", low=0.0, high=1.0, traced=True)
    clip_norm: float = option(
        1.0, "of the gradient, over all parameters", low=0.0, open_low=True, traced=True
    )
    steps_per_row: int = option(50, "steps averaged into a logged row", low=1)
    steps_per_epoch: int = option(1000, "steps of one compiled program", low=1)

    def check(self) -> None:
        """Raises ConfigError where the warm-up is longer than the training."""
        if self.warmup_steps > self.steps:
            raise self.error("warmup_steps", f"must be at most bc.steps = {self.steps}")


def update(
    policy: Policy, state: TrainState, batch: Batch, key: Key, unit: Array
) -> tuple[TrainState, Metrics]:
    """One gradient step on a given batch.

    ema <- d ema + (1 - d) params,  d = min(ema_decay, (1 + step) / (10 + step)), 1 where the step is skipped

    Args:
      policy: any policy.
      state: of one run, with the traced scalars of `BCOptions` as "bc.NAME" and of the policy as "policy.NAME".
      batch: B windows.
      key: of the loss.
      unit: [] factor in [0, 1] on the learning rate.

    Returns:
      (the state, one step further, with the same key; metrics).
    """
    hp_all, hp = state.hparams, policy_hparams(state.hparams)

    def loss_fn(params: PyTree) -> tuple[Array, Any]:
        loss = policy.loss(Variables(params, state.stats["policy"]), key, batch, hp)
        return loss.total(), loss

    (total, loss), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    learning_rate = unit * state.hparams["bc.learning_rate"]
    decay, clip, patience = hp_all["bc.weight_decay"], hp_all["bc.clip_norm"], patience_of(hp_all)
    adam = optimizer(learning_rate, decay, clip, patience)
    updates, opt_state = adam.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    step, finite = state.step.astype(jnp.float32), opt_state.last_finite
    keep = jnp.where(finite, jnp.minimum(hp_all["bc.ema_decay"], (1.0 + step) / (10.0 + step)), 1.0)
    stats = jax.tree.map(lambda new, old: jnp.where(finite, new, old), loss.stats, state.stats["policy"])
    metrics = {
        "bc/loss": total,
        "bc/grad_norm": optax.tree.norm(grads),
        "bc/learning_rate": learning_rate,
        **loss.metrics,
        **skip_metrics(opt_state),
    }
    state = state.replace(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        ema=optax.incremental_update(params, state.ema, 1.0 - keep),
        stats={**state.stats, "policy": stats},
    )
    return state, metrics


def policy_hparams(hparams: Hparams) -> Hparams:
    """The traced scalars of the policy, by field name."""
    prefix = "policy."
    return {name.removeprefix(prefix): value for name, value in hparams.items() if name.startswith(prefix)}


def clone(state: TrainState) -> Variables:
    """The variables that a cloned policy is used with: the averaged weights."""
    return Variables(state.ema, state.stats["policy"])
