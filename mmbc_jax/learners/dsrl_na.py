r"""Diffusion steering with noise aliasing (DSRL-NA): the critic sees the chunk that was executed, not its noise.

Many noises make one chunk, so a critic of chunks learns from each what it says about all of them. With
a' = transport(s', w'), w' ~ pi_W(. | s', z):

  Q^A(s, a) -> r + gamma (1 - final) (min_j Q^A_j,target(s', a') - alpha log pi_W(w' | s', z))
  Q^W_j(s, w) -> Q^A_j(s, transport(s, w)),   w drawn from the base, or from pi_W: `distil_from`
  pi_W climbs min_j Q^W_j - alpha log pi_W

so no gradient passes through the reference. The second line takes `distil_updates` steps of its own after the others.

Source: Wagenmaker et al. 2025 (DSRL, arXiv 2506.15799).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmbc_jax.core.learning import Parts, Transitions
from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, Key, Metrics, PolicySpec, PyTree
from mmbc_jax.learners._optim import skip_metrics_of
from mmbc_jax.learners._replay import ReplayLearner
from mmbc_jax.learners._replay_parts import acting, assembled
from mmbc_jax.learners._replayed_update import Step, Trained
from mmbc_jax.learners._soft_update import SoftOptions, SoftUpdate, soft_actor_of
from mmbc_jax.ops import ring, weighted
from mmbc_jax.ops import soft_policy as sac


@dataclasses.dataclass(frozen=True, kw_only=True)
class AliasedOptions(SoftOptions):
    """Steering with a critic of executed chunks."""

    distil_updates: int = option(10, "steps of the noise's critic in an iteration, after the others", low=1)
    distil_from: str = option(
        "base", "where its noise comes from: N(0, 1) inside the box, or the actor", choices=("base", "actor")
    )


@dataclasses.dataclass(frozen=True)
class AliasedUpdate(SoftUpdate):
    """See the module docstring; "critic" is Q^A, "noise_critic" Q^W.

    Attributes:
      distil_updates, distil_from: see `AliasedOptions`.
      box: of the actor's noise; 0 for none.
    """

    distil_updates: int
    distil_from: str
    box: float

    climbs: ClassVar[str] = "noise_critic"

    def init(self, key: Key, spec: PolicySpec, hparams: Hparams) -> dict[str, PyTree]:
        """Fresh parameters of both critics and of the temperature."""
        key_chunk, key_noise = jax.random.split(key)
        own = {"noise_critic": self.fresh_critic(key_noise, spec, self.actor.action_size)}
        return {**super().init(key_chunk, spec, hparams), **own}

    def played(self, batch: Transitions) -> Array:
        """[B, W] the chunk."""
        return batch.info["chunk"]

    def ahead(
        self, trained: Trained, batch: Transitions, reference: Any, hp: Hparams, key: Key
    ) -> tuple[Array, Array]:
        """(target values [N, B] of the chunk of a drawn noise, alpha log pi [B])."""
        params = trained.params
        key_noise, key_path = jax.random.split(key)
        noise, log_prob = self.sampled(params["actor"], reference, key_noise, batch.obs, batch.z)
        chunk = self._chunk(reference, key_path, batch, noise)
        return self.q(trained.target, batch, chunk), self.alpha(params) * log_prob

    def run(self, state: TrainState, buffer: ring.Ring, ready: Array, key: Key) -> tuple[Trained, Metrics]:
        """All gradient steps of an iteration; see `ReplayedUpdate.run`."""
        key_steps, key_distil = jax.random.split(key)
        middle, metrics = self.repeat(self.step, self.updates, state, buffer, ready, key_steps)
        state = state.replace(
            params=middle.params, opt_state=middle.opt_state, ema={**state.ema, "critic": middle.target}
        )
        end, logged = self.repeat(self.distil, self.distil_updates, state, buffer, ready, key_distil)
        return end, {**metrics, **logged, **skip_metrics_of(end.opt_state)}

    def distil(
        self, trained: Trained, batch: Transitions, reference: Any, hp: Hparams, key: Key
    ) -> tuple[Trained, Metrics]:
        """One step of the noise's critic, head towards head."""
        key_noise, key_path = jax.random.split(key)
        step = Step(dict(trained.params), dict(trained.opt_state), hp)
        noise = self._noise(trained, batch, reference, key_noise)
        wanted = self.q(trained.params["critic"], batch, self._chunk(reference, key_path, batch, noise))

        def loss(critic: PyTree) -> tuple[Array, Metrics]:
            error = weighted.mean(sac.critic_loss(self.q(critic, batch, noise), wanted), batch.valid)
            return error, {"sac/distil_loss": error}

        metrics = step.descend("noise_critic", loss)
        return Trained(step.params, step.opt_state, trained.target), metrics

    def _noise(self, trained: Trained, batch: Transitions, reference: Any, key: Key) -> Array:
        """[B, W] where the noise's critic is to know its values."""
        if self.distil_from == "actor":
            return self.actor.sample(trained.params["actor"], reference, key, batch.obs, batch.z)[0]
        drawn = jax.random.normal(key, batch.info["action"].shape)
        return jnp.clip(drawn, -self.box, self.box) if self.box else drawn

    def _chunk(self, reference: Any, key: Key, batch: Transitions, noise: Array) -> Array:
        chunk = jax.lax.stop_gradient(self.actor.chunk(reference, key, batch.obs, noise))
        return chunk.reshape(*chunk.shape[:-2], -1)


@register("learner", AliasedOptions)
def build(options: AliasedOptions, parts: Parts) -> ReplayLearner:
    """A learner that steers `parts.actor` in `parts.env` on its reward and `parts.reward`.

    Raises:
      ConfigError: a part is missing, or the actor's action is not the noise of a reference.
    """
    actor = soft_actor_of(
        options, parts, ("sample", "chunk", "head"), "steer: this learner's action is a reference's noise"
    )
    own = (options.distil_updates, options.distil_from, actor.box)
    return assembled(options, parts, actor, acting(actor, keep_chunk=True), AliasedUpdate, *own)
