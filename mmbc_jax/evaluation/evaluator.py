"""The one evaluator: used during training, by `mmbc_jax.evaluate` and by the tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mmbc_jax.core.commanding import HasHead
from mmbc_jax.core.learning import Actor, Parts, Reward, Subject
from mmbc_jax.core.most_likely import most_likely
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.protocols import Policy
from mmbc_jax.core.seeing import Played, remembered
from mmbc_jax.core.sharding import spread
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, Rollouts, State
from mmbc_jax.diagnostics.outcomes import DIVERGED, SWITCHES
from mmbc_jax.envs import wrappers
from mmbc_jax.evaluation.playing import AS_TRAINED, Playing
from mmbc_jax.ops import codes
from mmbc_jax.ops.picked import picked

_NOT_OUTCOME = ("success", "reward")  # these have fields of their own
Act = Callable[[Subject, Key, Obs, Array], Array]


def act_with_policy(policy: Policy, deterministic: bool = False) -> Act:
    """The cloned policy: w from its base, or the likeliest w, then transport; z is ignored."""

    def act(subject: Subject, key: Key, obs: Obs, z: Array) -> Array:
        assert subject.reference is not None
        base = policy.base_distribution(subject.reference, obs)
        w = most_likely(base, key) if deterministic else base.sample(seed=key)
        return policy.transport(subject.reference, obs, w)

    return act


def acting(parts: Parts, deterministic: bool = False, headless: bool = False) -> Act:
    """Who decides: the actor of `parts`, if asked for without its steering head, or where none is left the policy."""
    actor = parts.actor
    if headless and isinstance(actor, HasHead):
        actor = actor.headless()
    if actor is not None:
        return act_with_actor(actor, deterministic)
    assert parts.policy is not None
    return act_with_policy(parts.policy, deterministic)


def act_with_actor(actor: Actor, deterministic: bool = False) -> Act:
    """A fine-tuned actor, as it is deployed (`play`, where it explores otherwise), or its likeliest chunk."""
    play = getattr(actor, "play", None)

    def act(subject: Subject, key: Key, obs: Obs, z: Array) -> Array:
        if deterministic:
            return actor.likeliest(subject.actor, subject.reference, key, obs, z)
        if play is not None:
            return play(subject.actor, subject.reference, key, obs, z)
        return actor.act(subject.actor, subject.reference, key, obs, z)[0]

    return act


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Plays episodes to their end in vmapped environments.

    Attributes:
      env: batched and chunked, without automatic reset with plotted paths (see `envs.wrappers.make`).
      act: who decides.
      reward: the intrinsic reward, whose q is reported; None where there is none to report.
      num_modes: Z; z is spread evenly over the episodes, so that each z has B / Z of them.
      episodes: B.
      paths: P, how many episodes' positions are returned.
      exec_len: h.
      length: control steps in a full episode.
      playing: how, where that is not as it was trained.
    """

    env: Any
    act: Act
    reward: Reward | None
    num_modes: int
    episodes: int
    paths: int
    exec_len: int
    length: int
    playing: Playing = AS_TRAINED

    def start(self, subject: Subject, env_params: PyTree) -> State:
        """The first states [B] of the episodes that `run` plays."""
        return self._started(jax.random.split(subject.key)[0], env_params)

    def _started(self, key: Key, env_params: PyTree) -> State:
        return spread(self.env.reset(self.playing.reset_keys(key, self.episodes), env_params))

    def run(self, subject: Subject, env_params: PyTree, commands: Array | None = None) -> Rollouts:
        """Evaluates one run.

        Args:
          subject: the run.
          env_params: environment parameters, or None for the defaults.
          commands: [B] int32 z of each episode; None for those of `playing`, or spread evenly.

        Returns:
          B episodes; jit- and vmap-safe.
        """
        key_reset, key_decide = jax.random.split(subject.key)
        state = self._started(key_reset, env_params)
        z = self._commands(subject)
        if self.playing.command is not None:
            z = jnp.full_like(z, self.playing.command)
        z = z if commands is None else commands
        obs = subject.normalizer.normalize_obs(state.obs)
        memory = self.reward.init_memory(obs) if self.reward else {}
        zeros = jnp.zeros(self.episodes)
        decisions = -(-self.length // self.exec_len)
        key_hold, key_decide = jax.random.split(key_decide) if self.playing.hold else (key_decide, key_decide)
        plans = self.playing.no_plans(
            lambda: jax.eval_shape(self.act, subject, key_reset, obs, z).shape, self.exec_len
        )
        start = (state, memory, zeros, jnp.full_like(zeros, jnp.nan), zeros, plans)

        xs = (jax.random.split(key_decide, decisions), jnp.arange(decisions))
        end, paths = jax.lax.scan(self._decider(subject, z, key_hold), start, xs)
        final, _, reward, log_q, switches, _ = end
        success = (final.metrics["success"] > 0) & (final.done > 0)
        path, mask = self._paths(state, paths, final.info["final_steps"])
        dropped = (*_NOT_OUTCOME, *self.env.spec.summed)
        outcome = {name: x for name, x in final.metrics.items() if name not in dropped}
        return Rollouts(
            success=success,
            mode=jnp.where(success, final.info["final_mode"], -1),
            z=z,
            reward=reward,
            steps=final.info["final_steps"],
            log_q=log_q,
            path=path,
            path_mask=mask,
            outcome=outcome | {DIVERGED: final.info["diverged"], SWITCHES: switches},
        )

    def _commands(self, subject: Subject) -> Array:
        """[B] z of each episode: those there are, in turn."""
        if (alive := codes.alive_of(subject.reward)) is not None:
            return codes.evenly(alive, self.episodes)
        return jnp.arange(self.episodes, dtype=jnp.int32) % self.num_modes

    def _decider(
        self, subject: Subject, z: Array, key_hold: Key
    ) -> Callable[[tuple, tuple[Key, Array]], Any]:
        """One decision of all episodes, as a step of a scan."""

        def decide(carry: tuple, xs: tuple[Key, Array]) -> tuple[tuple, Array]:
            state, memory, reward, log_q, switches, plans = carry
            key_act, key_q = jax.random.split(xs[0])
            key_act = jax.random.clone(key_hold) if self.playing.hold else key_act
            alive = 1.0 - state.done
            obs = subject.normalizer.normalize_obs(state.obs)
            chunk, plans = self.playing.executed(
                self.act(subject, key_act, obs, z), plans, xs[1], self.exec_len
            )
            next_state = self.env.step(state, subject.normalizer.to_box(chunk))
            if self.reward and self.reward.discriminator:
                final = subject.normalizer.normalize_obs(next_state.obs)
                played = Played(chunk[:, : self.exec_len], next_state.done)
                memory = remembered(self.reward, memory, final, played)
                features = self.reward.features(memory)
                all_z = self.reward.discriminator.log_prob(subject.reward, key_q, features)
                if (there := codes.alive_of(subject.reward)) is not None:
                    all_z = codes.against_all(all_z, there)
                now = picked(all_z, z)
                log_q = jnp.where(alive > 0, now, log_q)  # the last decision sees the whole path
            path = next_state.info["path"][: self.paths]
            reward = reward + alive * next_state.metrics["reward"]
            switches = switches + alive * _switched(state.info["mode"], next_state.info["final_mode"])
            return (next_state, memory, reward, log_q, switches, plans), path

        return decide

    def _paths(self, start: Any, paths: Array, steps: Array) -> tuple[Array, Array]:
        """[decisions, P, h, 2] to [P, 1 + decisions h, 2], with the mask of steps that were taken."""
        first = start.info["path"][: self.paths, :1]
        rest = jnp.moveaxis(paths, 0, 1).reshape(first.shape[0], -1, 2)
        path = jnp.concatenate([first, rest], 1)
        mask = jnp.arange(path.shape[1]) <= steps[: self.paths, None]
        return path, mask.astype(jnp.float32)


def _switched(before: Array, after: Array) -> Array:
    """1 where the environment's label went from one mode to another."""
    return ((before >= 0) & (after >= 0) & (before != after)).astype(jnp.float32)


def make_evaluator(
    parts: Parts,
    env_spec: EnvSpec,
    episodes: int,
    paths: int,
    num_modes: int = 1,
    playing: Playing = AS_TRAINED,
    headless: bool = False,
) -> Evaluator:
    """The evaluator of what was made of `parts`: of its actor where there is one, else of its policy.

    Args:
      parts: of the learner.
      env_spec: of the environment.
      episodes: B.
      paths: whose positions are returned, at most B.
      num_modes: Z.
      playing: how.
      headless: the actor without its steering head; see `core.commanding.HasHead`.
    """
    assert parts.env is not None
    act = acting(parts, playing.deterministic, headless)
    reports_q = num_modes > 1 and parts.reward is not None and parts.reward.discriminator is not None
    return Evaluator(
        env=wrappers.make(
            parts.env, parts.exec_len, gamma=1.0, autoreset=None, observe=parts.observe, path=True
        ),
        act=act,
        reward=parts.reward if reports_q else None,
        num_modes=num_modes,
        episodes=episodes,
        paths=min(paths, episodes),
        exec_len=parts.exec_len,
        length=env_spec.episode_length,
        playing=playing,
    )
