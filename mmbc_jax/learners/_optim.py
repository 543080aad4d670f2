"""AdamW whose every scalar may be traced, and that skips non-finite gradients without a branch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmbc_jax.core.types import Array, Metrics, PyTree

SKIPPED = {"train/skipped_updates": "last", "train/skipped_in_a_row": "last"}
"""How the counters of `skip_metrics` become one figure of a row; see `core.learning.COMBINE`."""


def optimizer(
    learning_rate: Array | float,
    weight_decay: Array | float,
    clip_norm: Array | float,
    patience: Array | float = math.inf,
) -> optax.GradientTransformationExtraArgs:
    """AdamW with global-norm clipping; an update with a non-finite gradient is skipped and counted.

    Build it inside the traced step: all arguments may be traced, so that one compilation
    serves a whole grid of them.

    What `optax.apply_if_finite` does by a branch, which a GPU waits for the host to take, is a choice between arrays
    here: the gradient is finite if its global norm is, which clipping needs anyway. So a finite gradient whose norm
    overflows float32 (1e19 and more) is skipped, too; clipped, it would have been zero. The state is that of
    `apply_if_finite`.

    Args:
      learning_rate: > 0, schedule already applied.
      weight_decay: >= 0, decoupled.
      clip_norm: > 0.
      patience: updates skipped in a row after which nothing is updated any more: the run has diverged, and stays at
        its last finite parameters beside runs that go on.

    Returns:
      The optax transformation. Its `update` also takes `trains` [] bool: where False, updates are nil and the whole
      state, counters too, stays as it is.
    """
    inner = optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(learning_rate, weight_decay=weight_decay),
    )

    def init(params: PyTree) -> optax.ApplyIfFiniteState:
        none = jnp.zeros((), jnp.int32)
        return optax.ApplyIfFiniteState(none, jnp.ones((), bool), none, inner.init(params))

    def update(
        grads: PyTree, state: optax.ApplyIfFiniteState, params: PyTree = None, *, trains: Any = True
    ) -> tuple[PyTree, optax.ApplyIfFiniteState]:
        finite = jnp.isfinite(optax.tree.norm(grads))  # the compiler merges this norm with that of clipping
        trains = (state.notfinite_count < patience) & trains
        go, skipped = finite & trains, ~finite & trains
        updates, moved = inner.update(grads, state.inner_state, params)
        # -0 and not 0, which would make 0 of a parameter that is -0
        updates = jax.tree.map(lambda u: jnp.where(go, u, -jnp.zeros_like(u)), updates)
        return updates, optax.ApplyIfFiniteState(
            jnp.where(go, 0, state.notfinite_count + skipped),
            jnp.where(trains, finite, state.last_finite),
            state.total_notfinite + skipped,
            jax.tree.map(lambda new, old: jnp.where(go, new, old), moved, state.inner_state),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def patience_of(hparams: Mapping[str, Array]) -> Array | float:
    """Updates skipped in a row after which a run counts as diverged; without a stage's word, any number is waited."""
    return hparams.get("stage.patience", math.inf)


def learning(opt_states: Mapping[str, Any], hparams: Mapping[str, Array]) -> Array:
    """[] whether a run of several optimisers has not diverged: none of them has lost its patience."""
    rows = jnp.stack([opt_state.notfinite_count for opt_state in opt_states.values()])
    return rows.max() < patience_of(hparams)


def skip_metrics(opt_state: PyTree) -> Metrics:
    """Counters of skipped updates: in total, and in a row up to now."""
    return {
        "train/skipped_updates": opt_state.total_notfinite.astype(jnp.float32),
        "train/skipped_in_a_row": opt_state.notfinite_count.astype(jnp.float32),
    }


def skip_metrics_of(opt_states: Mapping[str, Any]) -> Metrics:
    """The counters over several optimisers: their totals added up, the longest row of them."""
    each = [skip_metrics(opt_state) for opt_state in opt_states.values()]
    total, row = (jnp.stack([metrics[name] for metrics in each]) for name in SKIPPED)
    return {"train/skipped_updates": total.sum(), "train/skipped_in_a_row": row.max()}


def warmup_cosine(step: Array, total_steps: int, warmup_steps: int, final_fraction: float) -> Array:
    """Unit learning-rate schedule: linear warm-up to 1, then a cosine down to `final_fraction`.

    Args:
      step: [] int, from 0.
      total_steps: static length of the stage.
      warmup_steps: static, < total_steps; 0 for none.
      final_fraction: in [0, 1].

    Returns:
      [] factor in [0, 1], multiplied with the traced peak learning rate.
    """
    step = jnp.asarray(step, jnp.float32)
    warm = jnp.minimum(1.0, (step + 1.0) / max(warmup_steps, 1))
    progress = jnp.clip((step - warmup_steps) / max(total_steps - warmup_steps, 1), 0.0, 1.0)
    cosine = final_fraction + (1.0 - final_fraction) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    return jnp.where(step < warmup_steps, warm, cosine)
