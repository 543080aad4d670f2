r"""Lambda, the weight of the intrinsic reward, set by a constraint: keep a measured m at t, maximise the return.

  max E[return]  subject to  m >= t:   with e = (t - m) / |t|, once an iteration

  log mu <- log mu + rate e,   lambda = mu exp(gain e)

dual ascent on the multiplier mu, in its logarithm, so that it stays positive and its size does not matter. A policy
answers late, so that the integral alone swings; the second factor, of the present shortfall, damps it. m is a metric
of the training step, such as mode/mi in nats. An iteration without it (no episode ended) changes nothing, nor does a
stage without the environment's reward, where there is nothing to weigh. mu stays within a factor of 30 of its start.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, Metrics

_WIDEST = 30.0  # factor of mu over its start, or under it


@dataclasses.dataclass(frozen=True, kw_only=True)
class DualOptions(Options):
    """A constraint on the training."""

    keeps: str = option(
        "",
        "metric of the training step that lambda keeps at `keep_at`, such as mode/mi; empty: lambda is fixed",
    )
    keep_at: float = option(1.0, "the least that it is to be, in its own unit", traced=True)
    dual_rate: float = option(
        0.05, "how fast the logarithm of the multiplier follows the relative shortfall", low=0.0, traced=True
    )
    dual_gain: float = option(
        5.0, "what the present relative shortfall adds to lambda's logarithm", low=0.0, traced=True
    )


def weighable(stats: dict[str, Any], options: DualOptions, hparams: Hparams) -> dict[str, Any]:
    """Stats of a stage's first iteration: lambda starts at `finetune.mi_coef`, whatever a stage before ended with."""
    if not options.keeps:
        return stats
    start = hparams["stage.mi_coef"]
    return {**stats, "lambda": start * 1.0, "multiplier": start * 1.0}


def weighed(state: TrainState) -> Hparams:
    """The hparams of an iteration, with lambda as it is now."""
    if "lambda" not in state.stats:
        return state.hparams
    return {**state.hparams, "stage.mi_coef": state.stats["lambda"]}


def followed(
    stats: dict[str, Any], options: DualOptions, hparams: Hparams, metrics: Metrics
) -> tuple[dict[str, Any], Metrics]:
    """(stats with the next lambda, metrics with the present one as "mode/lambda").

    Raises:
      ConfigError: there is no such metric.
    """
    if not options.keeps:
        return stats, metrics
    if options.keeps not in metrics:
        known = ", ".join(sorted(metrics))
        raise ConfigError(f"{options.section}.keeps", options.keeps, f"one of {known}")
    short = shortfall(metrics[options.keeps], hparams["learner.keep_at"])
    moves = (hparams["stage.env_coef"] > 0) & jnp.isfinite(short)
    start, mu = hparams["stage.mi_coef"], stats["multiplier"]
    moved = mu * jnp.exp(hparams["learner.dual_rate"] * short)
    moved = jnp.clip(moved, start / _WIDEST, start * _WIDEST)
    now = moved * jnp.exp(hparams["learner.dual_gain"] * short)
    new = {"lambda": jnp.where(moves, now, stats["lambda"]), "multiplier": jnp.where(moves, moved, mu)}
    return {**stats, **new}, {**metrics, "mode/lambda": stats["lambda"]}


def shortfall(measured: Array, target: Array) -> Array:
    """[] (t - m) / |t|, between -1 and 1."""
    return jnp.clip((target - measured) / jnp.maximum(jnp.abs(target), 1e-6), -1.0, 1.0)
