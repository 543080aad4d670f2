"""The training state: arrays only, so that all of it can be saved, vmapped and donated."""

from __future__ import annotations

import flax.struct
from jaxtyping import Int

from mmbc_jax.core.types import Array, Key, PyTree

Hparams = dict[str, Array]
"""Traced scalars by their dotted config path, e.g. {"finetune.mi_coef": ...}."""


class TrainState(flax.struct.PyTreeNode):
    """Everything that must survive a restart. Under a sweep every leaf has a leading axis R.

    Attributes:
      step: [] int32 training steps done in this stage.
      key: the stage's random key.
      params: what the optimiser updates.
      opt_state: optax state, with the count of skipped non-finite updates.
      ema: exponential moving average of `params`; empty where the stage keeps none.
      stats: what is carried but not differentiated: normaliser, policy statistics, frozen reference.
      env_state: environments, commanded modes and path memories between two steps; empty in cloning.
      hparams: traced scalars by their dotted config path.
    """

    step: Int[Array, "*R"]
    key: Key
    params: PyTree
    opt_state: PyTree
    ema: PyTree
    stats: PyTree
    env_state: PyTree
    hparams: Hparams
