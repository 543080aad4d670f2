"""Behavioural cloning: one pure training step for any policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Batch, Key, Metrics, PyTree, Variables
from mmbc_jax.data.windows import sample_batch
from mmbc_jax.learners._optim import optimizer, skip_metrics, warmup_cosine

TRACED = ("bc.learning_rate", "bc.weight_decay", "bc.ema_decay", "bc.clip_norm")


def default_config() -> ConfigDict:
    """Settings of behavioural cloning; those in `TRACED` can be swept without recompiling."""
    return ConfigDict(
        {
            "steps": 6000,
            "batch_size": 512,
            "learning_rate": 4e-3,
            "weight_decay": 1e-4,
            "warmup_steps": 100,
            "final_lr_fraction": 0.01,
            "ema_decay": 0.998,
            "clip_norm": 1.0,
            "steps_per_row": 50,
            "steps_per_epoch": 1000,
        }
    )


def check_config(cfg: ConfigDict, prefix: str = "bc") -> None:
    """Raises ConfigError where a field is out of range."""
    for field in ("steps", "batch_size", "steps_per_row", "steps_per_epoch"):
        check_range(f"{prefix}.{field}", cfg[field], 1)
    check_range(f"{prefix}.learning_rate", cfg.learning_rate, 0.0, open_low=True)
    check_range(f"{prefix}.weight_decay", cfg.weight_decay, 0.0)
    check_range(f"{prefix}.warmup_steps", cfg.warmup_steps, 0, cfg.steps)
    check_range(f"{prefix}.final_lr_fraction", cfg.final_lr_fraction, 0.0, 1.0)
    check_range(f"{prefix}.ema_decay", cfg.ema_decay, 0.0, 1.0)
    check_range(f"{prefix}.clip_norm", cfg.clip_norm, 0.0, open_low=True)


def init_state(
    policy: Policy, normalizer: PyTree, key: Key, sample_batch: Batch, hparams: Hparams
) -> TrainState:
    """The state before the first step of one run."""
    key_init, key = jax.random.split(key)
    variables = policy.init(key_init, sample_batch)
    opt_state = optimizer(1.0, 0.0, 1.0).init(variables.params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=variables.params,
        opt_state=opt_state,
        ema=jax.tree.map(jnp.copy, variables.params),
        stats={"policy": variables.stats, "normalizer": normalizer},
        env_state={},
        hparams=hparams,
    )


def make_train_step(
    policy: Policy, cfg: ConfigDict, section: str = "policy"
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """One step of cloning: draw a batch of windows, descend the policy's loss, average the weights.

    Args:
      policy: any policy.
      cfg: the `bc` section.
      section: config section of the policy, under which its traced scalars are found.

    Returns:
      `step(state, windows) -> (state, metrics)`, pure.
    """

    def train_step(state: TrainState, windows: Any) -> tuple[TrainState, Metrics]:
        key, key_batch, key_loss = jax.random.split(state.key, 3)
        batch = sample_batch(key_batch, windows, cfg.batch_size)
        unit = warmup_cosine(state.step, cfg.steps, cfg.warmup_steps, cfg.final_lr_fraction)
        return update(policy, state.replace(key=key), batch, key_loss, unit, section)

    return train_step


def update(
    policy: Policy, state: TrainState, batch: Batch, key: Key, unit: jax.Array, section: str = "policy"
) -> tuple[TrainState, Metrics]:
    """One gradient step on a given batch.

    ema <- d ema + (1 - d) params,  d = min(ema_decay, (1 + step) / (10 + step))

    Args:
      policy: any policy.
      state: of one run, with the traced scalars of `TRACED`.
      batch: B windows.
      key: of the loss.
      unit: [] factor in [0, 1] on the learning rate.
      section: config section of the policy, under which its traced scalars are found.

    Returns:
      (the state, one step further, with the same key; metrics).
    """
    hp = policy_hparams(state.hparams, section)

    def loss_fn(params: PyTree) -> tuple[jax.Array, Any]:
        loss = policy.loss(Variables(params, state.stats["policy"]), key, batch, hp)
        return loss.total(), loss

    (total, loss), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    learning_rate = unit * state.hparams["bc.learning_rate"]
    adam = optimizer(learning_rate, state.hparams["bc.weight_decay"], state.hparams["bc.clip_norm"])
    updates, opt_state = adam.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    step = state.step.astype(jnp.float32)
    decay = jnp.minimum(state.hparams["bc.ema_decay"], (1.0 + step) / (10.0 + step))
    finite = opt_state.last_finite
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
        ema=optax.incremental_update(params, state.ema, 1.0 - decay),
        stats={**state.stats, "policy": stats},
    )
    return state, metrics


def policy_hparams(hparams: Hparams, section: str) -> Hparams:
    """The traced scalars of a policy's section, by field name."""
    prefix = f"{section}."
    return {name.removeprefix(prefix): value for name, value in hparams.items() if name.startswith(prefix)}


def reference(state: TrainState) -> Variables:
    """The variables a cloned policy is used with: the averaged weights."""
    return Variables(state.ema, state.stats["policy"])
