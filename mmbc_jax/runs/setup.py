"""From a configuration to the objects it names; every check that needs no compilation happens here."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.learning import Discriminator
from mmbc_jax.core.protocols import Env, HasExpert, Policy
from mmbc_jax.core.types import EnvSpec, PolicySpec
from mmbc_jax.data import load
from mmbc_jax.data.collect import record
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.envs import wrappers
from mmbc_jax.learners._collect import Collector
from mmbc_jax.nn.critic import Critic
from mmbc_jax.runs import defaults
from mmbc_jax.policies.wrappers.coordinates import in_coordinates
from mmbc_jax.learners.dagger import Relabeller
from mmbc_jax.evaluation.evaluator import Act, Evaluator, act_with_actor, act_with_policy
from mmbc_jax.learners.ppo import Learner


@dataclasses.dataclass(frozen=True)
class Setup:
    """The objects behind a configuration. Properties build what they need once.

    Attributes:
      config: resolved and checked.
      env: the bare environment; None where `env.name` is empty (cloning without a simulator).
      obs_dim: D.
      action_dim: A.
      episodes: demonstrations that had to be read to learn the sizes; None where an environment says them.
    """

    config: ConfigDict
    env: Env | None
    obs_dim: int
    action_dim: int
    episodes: Episodes | None = None

    @property
    def env_spec(self) -> EnvSpec:
        """Sizes of the environment.

        Raises:
          ConfigError: there is no environment.
        """
        if self.env is None:
            raise ConfigError("env.name", "", "an environment: this stage plays episodes")
        return self.env.spec

    @property
    def policy_spec(self) -> PolicySpec:
        """Sizes of the policy."""
        return PolicySpec(self.obs_dim, self.action_dim, self.config.chunk.predict)

    @cached_property
    def policy(self) -> Policy:
        """The policy of stage `bc`."""
        return self.build_policy("policy")

    @cached_property
    def baseline(self) -> Policy:
        """The policy of stage `baseline`."""
        return self.build_policy("baseline")

    def build_policy(self, section: str) -> Policy:
        """The policy named in a section of the config, with the configured prior and sampler."""
        config, spec = self.config, self.policy_spec
        prior = functools.partial(registry.build, "prior", config.prior, spec=spec)
        prior(spec.chunk_shape)  # so that its section is checked whether or not the policy has a prior
        sampler = registry.build("sampler", config.sampler)
        with defaults.naming(section):
            policy = registry.build("policy", config[section], spec, prior=prior, sampler=sampler)
        return in_coordinates(policy, config.chunk.coordinates)

    @property
    def horizon(self) -> int:
        """Decisions in a full episode."""
        return -(-self.env_spec.episode_length // self.config.chunk.execute)

    def discriminator(self, num_modes: int) -> Discriminator:
        """q over `num_modes` modes."""
        return registry.build(
            "discriminator", self.config.discriminator, self.obs_dim, num_modes, self.horizon
        )

    def learner(self, num_modes: int) -> Learner:
        """The fine-tuner with |Z| = `num_modes`."""
        config = self.config
        execute = config.chunk.execute
        env = wrappers.make(self._env, exec_len=execute, gamma=config.ppo.gamma, autoreset="full")
        actor = registry.build("actor", config.actor, self.policy, num_modes)
        collector = Collector(
            env=env,
            actor=actor,
            discriminator=self.discriminator(num_modes),
            num_envs=config.ppo.num_envs,
            exec_len=execute,
            length=self.env_spec.episode_length,
        )
        return Learner(config.ppo, collector, Critic(tuple(config.ppo.critic_hidden), num_modes))

    def relabeller(self) -> Relabeller:
        """What plays and relabels the episodes of stage `dagger`."""
        return Relabeller(self._env, self.policy, self.config.dagger.episodes, self.config.chunk.execute)

    def evaluator(self, num_modes: int | None = None, policy: Policy | None = None) -> Evaluator:
        """The evaluator of a fine-tuned actor with `num_modes`, or of a cloned policy.

        Args:
          num_modes: Z of the actor; None for a cloned policy.
          policy: the cloned policy; None for that of `bc`.

        Returns:
          The evaluator, with the settings of `evaluation`.
        """
        config, spec = self.config, self.env_spec
        execute = config.chunk.execute
        act: Act
        if num_modes is None:
            act, discriminator = act_with_policy(policy or self.policy), None
        else:
            learner = self.learner(num_modes)
            act, discriminator = act_with_actor(learner.actor), learner.discriminator
        return Evaluator(
            env=wrappers.make(self._env, exec_len=execute, gamma=1.0, autoreset=None),
            act=act,
            discriminator=discriminator if num_modes and num_modes > 1 else None,
            num_modes=num_modes or 1,
            episodes=config.evaluation.episodes,
            paths=min(config.evaluation.paths, config.evaluation.episodes),
            exec_len=execute,
            length=spec.episode_length,
            position=spec.position or (0, min(1, spec.obs_dim - 1)),
        )

    @property
    def _env(self) -> Any:
        self.env_spec  # noqa: B018  (raises where there is no environment)
        return self.env


def build(config: ConfigDict, dims: tuple[int, int] | None = None) -> Setup:
    """Checks a configuration and builds what it names.

    Args:
      config: resolved.
      dims: (D, A) where neither an environment nor a data file says them: those of a checkpoint.

    Returns:
      The setup; nothing has compiled.

    Raises:
      ConfigError: a field cannot work.
      DataError: there is no environment and the data file cannot be read.
    """
    defaults.check_config(config)
    episodes = None
    env = registry.build("env", config.env) if config.env.name else None
    if env is not None:
        dims = (env.spec.obs_dim, env.spec.action_dim)
    elif dims is None:
        if not config.data.path:
            raise ConfigError("data.path", "", "a file of demonstrations, since env.name is empty")
        episodes = load.load(config.data.path, config.data.reader)
        dims = (episodes.obs.shape[1], episodes.action.shape[1])
    setup = Setup(config, env, *dims, episodes)
    _check_stages(setup)
    return setup


def check_point(setup: Setup, values: Mapping[str, float]) -> None:
    """Raises ConfigError where a point of a sweep {dotted field: value} cannot work."""
    config = ConfigDict(setup.config.to_dict())
    for path, value in values.items():
        section, _, field = path.rpartition(".")
        config[section][field] = value
    point = dataclasses.replace(setup, config=config)
    defaults.check_config(config)
    for section in ("policy", "baseline"):
        if any(path.startswith(f"{section}.") for path in values):
            point.build_policy(section)


def _check_stages(setup: Setup) -> None:
    config = setup.config
    setup.policy  # noqa: B018  (builds it, so that its section is checked)
    if "baseline" in config.stages:
        setup.baseline  # noqa: B018
    tuning = [stage for stage in config.stages if stage in ("discover", "finetune", "plain")]
    playing = [stage for stage in config.stages if stage == "dagger"] + tuning
    if playing and setup.env is None:
        raise ConfigError("stages", tuple(config.stages), f"without {', '.join(playing)}: env.name is empty")
    if "dagger" in config.stages and not (isinstance(setup.env, HasExpert) and setup.env_spec.num_modes):
        raise ConfigError(
            "stages", tuple(config.stages), f"without dagger: environment {config.env.name!r} has no expert"
        )
    if tuning:
        setup.learner(config.finetune.num_modes)
        length = setup.env_spec.episode_length
        if config.discover.start_horizon > length:
            raise ConfigError(
                "discover.start_horizon",
                config.discover.start_horizon,
                f"at most the episode length {length}",
            )
    scripted = not config.data.path and {"bc", "baseline", "dagger"} & set(config.stages)
    if scripted and not isinstance(setup.env, HasExpert):
        raise ConfigError(
            "data.path", "", f"a file of demonstrations: environment {config.env.name!r} has no expert"
        )
    if scripted and config.chunk.predict > setup.env_spec.episode_length:
        raise ConfigError(
            "chunk.predict",
            config.chunk.predict,
            f"at most the episode length {setup.env_spec.episode_length}",
        )


def load_episodes(setup: Setup) -> Episodes:
    """The demonstrations: read from `data.path`, or recorded from the scripted expert.

    Raises:
      DataError: they cannot be read, or do not fit the environment or the chunk length.
    """
    config, chunk_len = setup.config.data, setup.config.chunk.predict
    if not config.path:
        assert setup.env is not None
        episodes = record(setup.env, jax.random.key(config.seed), config.episodes, config.noise)
        return dataclasses.replace(episodes, source=expert_source(setup))
    episodes = setup.episodes or load.load(config.path, config.reader)
    if setup.env is not None:
        load.check_fits(episodes, setup.env_spec, chunk_len)
    elif chunk_len > episodes.lengths.max():
        raise ConfigError(
            "chunk.predict",
            chunk_len,
            f"at most {episodes.lengths.max()}, the length of the longest episode in {episodes.source}",
        )
    return episodes


def expert_source(setup: Setup) -> str:
    """Where demonstrations come from that the scripted expert recorded, whether just now or before."""
    return f"expert of {setup.env_spec.name} (noise {setup.config.data.noise})"


def split_episodes(setup: Setup, episodes: Episodes) -> tuple[Episodes, Episodes | None]:
    """(training, held-out) episodes; the latter None where `data.holdout` is 0 or leaves none."""
    holdout = setup.config.data.holdout
    if holdout == 0.0 or int(np.floor(holdout * len(episodes))) == 0:
        return episodes, None
    train, held_out = episodes.split(holdout, setup.config.data.seed)
    return train, held_out
