"""Behavioural cloning: one pure training step for any policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from mmbc_jax.core.learning import Parts, Subject
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.registry import register
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Key, Metrics
from mmbc_jax.data.windows import Windows, sample_batch, spread_indices
from mmbc_jax.learners._cloning import BCOptions, clone, update
from mmbc_jax.learners._optim import SKIPPED, optimizer, warmup_cosine
from mmbc_jax.learners._require import require
from mmbc_jax.ops.normalisation import Normalizer
from mmbc_jax.ops.unrolled import rolled, unrolled

_INIT_WINDOWS = (
    2048  # that a policy may look at before training, to place codebooks and components; the range is of all
)

Demonstrations = tuple[Windows, Normalizer]


@dataclasses.dataclass(frozen=True)
class CloningLearner:
    """Draws batches of windows, descends the policy's loss and averages the weights.

    Attributes:
      options: of the `bc` section.
      policy: any policy.
    """

    options: BCOptions
    policy: Policy

    logs: ClassVar[Mapping[str, str]] = SKIPPED
    buffered: ClassVar[bool] = False
    env_steps: ClassVar[int] = 0
    num_envs: ClassVar[int] = 0

    def init(
        self, key: Key, hparams: Hparams, parent: TrainState | None, shared: Demonstrations
    ) -> TrainState:
        """The state before the first step of one run.

        Args:
          key: of the stage.
          hparams: "bc.NAME" and "policy.NAME".
          parent: final state of a stage that cloned the same policy, for a warm start: its averaged weights
            with a fresh optimiser; None to start from nothing.
          shared: the demonstrations and their normaliser.
        """
        windows, normalizer = shared
        key_init, key = jax.random.split(key)
        if parent is None:
            sample = windows.batch(jnp.asarray(spread_indices(len(windows), _INIT_WINDOWS)))
            if len(windows) > _INIT_WINDOWS:
                sample = sample.replace(every=windows.chunk)
            variables = self.policy.init(key_init, sample)
        else:
            variables = clone(parent)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            key=key,
            params=variables.params,
            opt_state=optimizer(1.0, 0.0, 1.0).init(variables.params),
            ema=jax.tree.map(jnp.copy, variables.params),
            stats={"policy": variables.stats, "normalizer": normalizer},
            env_state={},
            hparams=hparams,
        )

    def train_step(self, state: TrainState, shared: Demonstrations) -> tuple[TrainState, Metrics]:
        """One gradient step of one run."""
        options = self.options
        key, key_batch, key_loss = jax.random.split(unrolled(state.key), 3)
        batch = sample_batch(key_batch, shared[0], options.batch_size)
        unit = warmup_cosine(state.step, options.steps, options.warmup_steps, options.final_lr_fraction)
        return update(self.policy, state.replace(key=rolled(key)), batch, key_loss, unit)

    def subject(self, state: TrainState, key: Key) -> Subject:
        """The clone, with its averaged weights."""
        return Subject(key, clone(state), state.stats["normalizer"], {}, {})


@register("learner", BCOptions)
def build(options: BCOptions, parts: Parts) -> CloningLearner:
    """A learner that clones `parts.policy`."""
    return CloningLearner(options, require(parts.policy, "policy.name", "a policy to clone"))
