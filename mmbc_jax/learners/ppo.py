"""Fine-tuning: rollout, mutual-information reward, GAE and PPO as one pure training step."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_choice, check_range
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Actor, Discriminator
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, Key, Metrics, PyTree, Variables
from mmbc_jax.learners._collect import Collector, Trajectory
from mmbc_jax.learners._optim import optimizer
from mmbc_jax.learners._ppo_update import PARTS, Update
from mmbc_jax.nn.critic import Critic
from mmbc_jax.ops.gae import gae
from mmbc_jax.ops.mi_reward import PAYMENTS, information, mi_reward
from mmbc_jax.ops.normalisation import Normalizer
from mmbc_jax.ops.policy_gradient import explained_variance, normalise_advantage

TRACED = (
    "ppo.learning_rate",
    "ppo.critic_learning_rate",
    "ppo.discriminator_learning_rate",
    "ppo.clip",
    "ppo.gae_lambda",
    "ppo.entropy_coef",
    "ppo.target_kl",
    "ppo.clip_norm",
)


def default_config() -> ConfigDict:
    """Settings of PPO and of the MI reward; those in `TRACED` can be swept without recompiling."""
    return ConfigDict(
        {
            "num_envs": 512,
            "decisions": 16,
            "epochs": 4,
            "minibatches": 8,
            "learning_rate": 5e-4,
            "critic_learning_rate": 5e-4,
            "discriminator_learning_rate": 1e-3,
            "clip": 0.2,
            "gamma": 0.9987,
            "gae_lambda": 0.95,
            "entropy_coef": 0.0,
            "target_kl": 0.3,
            "clip_norm": 0.5,
            "critic_hidden": (128, 128),
            "mi_payment": "absorbing",
            "mi_forfeit": True,
            "iterations_per_epoch": 10,
        }
    )


def check_config(cfg: ConfigDict) -> None:
    """Raises ConfigError where a field is out of range."""
    for field in ("num_envs", "decisions", "epochs", "minibatches", "iterations_per_epoch"):
        check_range(f"ppo.{field}", cfg[field], 1)
    for field in (
        "learning_rate",
        "critic_learning_rate",
        "discriminator_learning_rate",
        "clip",
        "target_kl",
    ):
        check_range(f"ppo.{field}", cfg[field], 0.0, open_low=True)
    check_range("ppo.gamma", cfg.gamma, 0.0, 1.0, open_low=True)
    check_range("ppo.gae_lambda", cfg.gae_lambda, 0.0, 1.0)
    check_range("ppo.entropy_coef", cfg.entropy_coef, 0.0)
    check_range("ppo.clip_norm", cfg.clip_norm, 0.0, open_low=True)
    samples = cfg.num_envs * cfg.decisions
    check_range("ppo.minibatches", cfg.minibatches, 1, samples)
    if samples % cfg.minibatches:
        raise ConfigError(
            "ppo.minibatches", cfg.minibatches, f"a divisor of num_envs x decisions = {samples}"
        )
    check_choice("ppo.mi_payment", cfg.mi_payment, PAYMENTS)


@dataclasses.dataclass(frozen=True)
class Phase:
    """What tells one fine-tuning stage from another. All of it is traced, so that stages share a program.

    Attributes:
      iterations: training steps of the stage.
      env_coef: weight of the environment's reward; 0 in discovery.
      start_horizon: control steps of the first episodes, growing linearly to the full length over the
        stage; the full length for none.
      train_discriminator: keep updating q.
    """

    iterations: int
    env_coef: float
    start_horizon: int
    train_discriminator: bool

    def hparams(self, mi_coef: Array) -> Hparams:
        """[R] traced scalars, with the weight lambda of the MI reward, [R]."""
        scalars = {f"phase.{name}": float(value) for name, value in dataclasses.asdict(self).items()}
        values = {name: jnp.full(mi_coef.shape, value, jnp.float32) for name, value in scalars.items()}
        return {**values, "phase.mi_coef": mi_coef}


@dataclasses.dataclass(frozen=True)
class Learner:
    """Builds the state and the training step of a fine-tuning stage.

    Attributes:
      cfg: the `ppo` section.
      collector: environments and actor.
      critic: the value network.
    """

    cfg: ConfigDict
    collector: Collector
    critic: Critic

    @property
    def actor(self) -> Actor:
        """The actor that is trained."""
        return self.collector.actor

    @property
    def discriminator(self) -> Discriminator:
        """q(z | path)."""
        return self.collector.discriminator

    @property
    def update(self) -> Update:
        """The gradient steps of one iteration."""
        return Update(self.cfg, self.actor, self.critic, self.discriminator)

    def init_params(self, key: Key, reference: Variables, obs_dim: int) -> PyTree:
        """Fresh parameters of actor, critic and discriminator."""
        key_actor, key_critic, key_q = jax.random.split(key, 3)
        zeros = jnp.zeros((1, obs_dim))
        return {
            "actor": self.actor.init(key_actor, reference),
            "critic": self.critic.init(key_critic, zeros, jnp.zeros((1,), jnp.int32), jnp.zeros((1,))),
            "discriminator": self.discriminator.init(key_q),
        }

    def init_state(
        self, params: PyTree, reference: Variables, normalizer: Normalizer, key: Key, hparams: Hparams
    ) -> TrainState:
        """The state before the first iteration of one run.

        Args:
          params: of `init_params`, or of an earlier stage.
          reference: frozen variables of the cloned policy.
          normalizer: of the cloned policy.
          key: of the stage.
          hparams: traced scalars.

        Returns:
          The state, with fresh optimisers and environments.
        """
        key_loop, key = jax.random.split(key)
        step = jnp.zeros((), jnp.int32)
        tx = optimizer(1.0, 0.0, 1.0)
        return TrainState(
            step=step,
            key=key,
            params=params,
            opt_state={part: tx.init(params[part]) for part in PARTS},
            ema={},
            stats={"reference": reference, "normalizer": normalizer},
            env_state=self.collector.init(key_loop, normalizer, self.horizon(step, hparams)),
            hparams=hparams,
        )

    def horizon(self, step: Array, hparams: Hparams) -> Array:
        """[] int32 control steps of episodes that start in iteration `step`."""
        start, length = hparams["phase.start_horizon"], float(self.collector.length)
        progress = jnp.clip(step / jnp.maximum(hparams["phase.iterations"] - 1.0, 1.0), 0.0, 1.0)
        return jnp.ceil(start + (length - start) * progress).astype(jnp.int32)

    def train_step(self, state: TrainState, shared: PyTree) -> tuple[TrainState, Metrics]:
        """One iteration: collect T decisions in B environments, then update on them.

        Args:
          state: of one run.
          shared: unused; the experience is made here.

        Returns:
          (the next state, scalar metrics).
        """
        key, key_collect, key_reward, key_update = jax.random.split(state.key, 4)
        stats = state.stats
        loop, trajectory = self.collector.collect(
            state.env_state,
            state.params["actor"],
            stats["reference"],
            stats["normalizer"],
            key_collect,
            self.cfg.decisions,
            self.horizon(state.step, state.hparams),
        )
        batch, metrics = self._prepare(state, trajectory, key_reward)
        params, opt_state, update_metrics = self.update.run(state, batch, key_update)
        state = state.replace(
            step=state.step + 1, key=key, params=params, opt_state=opt_state, env_state=loop
        )
        return state, {**metrics, **update_metrics}

    def _prepare(self, state: TrainState, trajectory: Trajectory, key: Key) -> tuple[PyTree, Metrics]:
        """Rewards, advantages and targets; flattens [T, B] to [T B]."""
        cfg, params, hp = self.cfg, state.params, state.hparams
        key_before, key_after = jax.random.split(key)
        failed = trajectory.terminated * (1.0 - trajectory.success) * float(cfg.mi_forfeit)
        after = self._phi(params["discriminator"], key_after, trajectory.final_features, trajectory.z)
        before = self._phi(params["discriminator"], key_before, trajectory.features, trajectory.z)
        intrinsic = mi_reward(
            cfg.mi_payment,
            before,
            after,
            trajectory.terminated,
            failed,
            trajectory.remaining,
            self.collector.horizon,
            cfg.gamma**self.collector.exec_len,
        )
        reward = hp["phase.env_coef"] * trajectory.reward + hp["phase.mi_coef"] * intrinsic
        value = self._value(params["critic"], trajectory.obs, trajectory.z, trajectory.time)
        next_value = self._value(params["critic"], trajectory.final_obs, trajectory.z, trajectory.final_time)
        advantage, target = gae(
            reward,
            value,
            next_value,
            trajectory.terminated,
            trajectory.done,
            trajectory.discount,
            hp["ppo.gae_lambda"],
        )
        batch = {
            "obs": trajectory.obs,
            "z": trajectory.z,
            "time": trajectory.time,
            "info": trajectory.info,
            "features": trajectory.final_features,
            "advantage": normalise_advantage(advantage),
            "target": target,
        }
        ended = jnp.maximum(trajectory.done.sum(), 1.0)
        metrics = {
            "rollout/env_reward": trajectory.reward.sum() / ended,
            "rollout/mi_reward": intrinsic.sum() / ended,
            "rollout/success_rate": trajectory.success.sum() / ended,
            "rollout/episodes": trajectory.done.sum(),
            "mode/mi": after.mean(),
            "ppo/explained_variance": explained_variance(value, target),
        }
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch), metrics

    def _value(self, params: PyTree, obs: Array, z: Array, time: Array) -> Array:
        return jnp.asarray(self.critic.apply(params, obs, z, time))

    def _phi(self, params: PyTree, key: Key, features: Array, z: Array) -> Array:
        if self.discriminator.num_modes == 1:
            return jnp.zeros(z.shape)
        log_q = self.discriminator.log_prob(params, key, features)
        return information(jnp.take_along_axis(log_q, z[..., None], -1)[..., 0], self.discriminator.num_modes)
