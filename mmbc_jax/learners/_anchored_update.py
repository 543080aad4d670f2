r"""Gradient steps that climb a critic of chunks while an anchor holds the actor to its reference.

  actor:  minimise -Q(s, a) / c + beta m |a - a_ref|^2 / W,   (a, a_ref) of one noise,
  critic: Q(s, a) -> r + gamma^k (1 - end) min_j Q_j,target(s', a')

c is the mean |Q| of the batch, or 1; m is 1, or with `filtered` 0 where the critic prefers a to a_ref. So each noise
moves towards the best chunk near its own: this contracts the distribution by design, and is the natural adversary of
keeping several ways. The loss is averaged over `draws` noises of a decision. Of K chunks a' is the one that the
critic itself, not its target, prefers (`_best_of`).

Source: Park et al. 2025 (FQL, arXiv 2502.02538); Li et al. 2025 (Q-chunking, arXiv 2507.07969); DICE-RL (2603.10263).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core.acting import rates_of
from mmbc_jax.core.learning import Transitions
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.state import Hparams
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.learners._best_of import BestOf
from mmbc_jax.learners._replayed_update import ReplayedUpdate, Step, Trained
from mmbc_jax.ops import weighted
from mmbc_jax.ops.soft_policy import reduce_heads

_LEAST = 1e-3  # of c


@dataclasses.dataclass(frozen=True)
class AnchoredUpdate(ReplayedUpdate):
    """See the module docstring.

    Attributes:
      filtered: m.
      normalise: c is the mean |Q|.
      chosen: who draws a'.
      draws: noises of a decision in the actor's loss.
      timeless: the critic is told the time 0, whatever it is.
    """

    filtered: bool
    normalise: bool
    chosen: BestOf
    draws: int
    timeless: bool

    @property
    def player(self) -> Any:
        """The actor, or the choice among its chunks."""
        return self.actor if self.chosen.count == 1 else self.chosen

    def acts_with(self, params: PyTree, actor: PyTree) -> PyTree:
        """The actor's own, with the critic's where that chooses."""
        return self.chosen.params(params, actor)

    def q(self, params: PyTree, batch: Transitions, action: Array) -> Array:
        """[N, B] values of chunks [B, W] at the decisions of a batch."""
        return super().q(params, batch.replace(time=0.0 * batch.time) if self.timeless else batch, action)

    def ends(self, batch: Transitions) -> Array:
        """[B] without the time, a critic cannot know of the time limit, and values go on past it."""
        return batch.terminated if self.timeless else batch.final

    def played(self, batch: Transitions) -> Array:
        """[B, W] the chunk."""
        return batch.info["action"]

    def drawn(self, params: PyTree, reference: Any, key: Key, obs: Obs, z: Array) -> Array:
        """[..., W] a chunk."""
        return self.chosen.choose(self.acts_with(params, params["actor"]), reference, key, obs, z)

    def ahead(
        self, trained: Trained, batch: Transitions, reference: Any, hp: Hparams, key: Key
    ) -> tuple[Array, Array]:
        """(target values [N, B] of a drawn chunk, 0 [B])."""
        action = self.drawn(trained.params, reference, key, batch.obs, batch.z)
        return self.q(trained.target, batch, action), jnp.zeros(batch.z.shape)

    def improve(self, step: Step, batch: Transitions, reference: Any, hp: Hparams, key: Key) -> Metrics:
        """One step of the actor."""
        critic = step.params["critic"]

        def loss(actor: PyTree) -> tuple[Array, Metrics]:
            q, apart, held = self._valued(critic, actor, batch, reference, key)
            valid = jnp.broadcast_to(batch.valid, q.shape)
            scale = jnp.maximum(weighted.mean(jnp.abs(q), valid), _LEAST) if self.normalise else 1.0
            each = -q / jax.lax.stop_gradient(scale) + hp["learner.anchor_coef"] * held * apart
            logged = {"sac/apart": weighted.mean(apart, valid), "sac/held": weighted.mean(held, valid)}
            return weighted.mean(each, valid), logged

        return step.descend("actor", loss, rates=rates_of(self.actor, step.params["actor"], hp))

    def _valued(
        self, critic: PyTree, actor: PyTree, batch: Transitions, reference: Any, key: Key
    ) -> tuple[Array, Array, Array]:
        """(Q, |a - a_ref|^2 / W, m) of drawn chunks, [B] each, or [draws, B] of several."""

        def one(key: Key) -> tuple[Array, Array, Array]:
            action, anchor = self.actor.paired(actor, reference, key, batch.obs, batch.z)
            q = reduce_heads(self.q(critic, batch, action), self.reduce)
            held = jnp.ones_like(q)
            if self.filtered:
                held = (reduce_heads(self.q(critic, batch, anchor), self.reduce) >= q).astype(q.dtype)
            return q, jnp.square(action - anchor).mean(-1), held

        return one(key) if self.draws == 1 else jax.vmap(one)(jax.random.split(key, self.draws))
