"""From a configuration to the objects it names; every check that needs no compilation happens here."""

from __future__ import annotations

import dataclasses
import functools
import math
from functools import cached_property
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mmbc_jax.core import registry
from mmbc_jax.core.config import at
from mmbc_jax.core.errors import ConfigError
from mmbc_jax.core.keys import pin_randomness, seeded
from mmbc_jax.core.learning import Parts, Reward
from mmbc_jax.core.observations import ObsSpec, with_history
from mmbc_jax.core.options import Options
from mmbc_jax.core.protocols import Env, Policy
from mmbc_jax.core.types import EnvSpec, PolicySpec
from mmbc_jax.data import load, several
from mmbc_jax.data.collect import record
from mmbc_jax.data.episodes import Episodes
from mmbc_jax.evaluation.shifts import played_env, shifted_params
from mmbc_jax.nn.precision import exact_elsewhere, networks_in
from mmbc_jax.policies.wrappers.coordinates import in_coordinates
from mmbc_jax.runs.env_contract import check_env, reported
from mmbc_jax.runs.grid import Grid
from mmbc_jax.runs.sections import check_config, check_section, learner_options


@dataclasses.dataclass(frozen=True)
class Setup:
    """The objects behind a configuration. Properties build what they need once.

    Attributes:
      config: resolved and checked.
      env: the bare environment; None where `env.name` is empty (cloning without a simulator).
      obs: one observation of it, or of the demonstrations, without history.
      action_dim: A.
      episodes: demonstrations that had to be read to learn the sizes; None where an environment says them.
    """

    config: ConfigDict
    env: Env | None
    obs: ObsSpec
    action_dim: int
    episodes: Episodes | None = None

    @property
    def env_spec(self) -> EnvSpec:
        """Sizes of the environment.

        Raises:
          ConfigError: there is no environment.
        """
        return self.bare_env.spec

    @property
    def bare_env(self) -> Any:
        """The environment without wrappers.

        Raises:
          ConfigError: there is none.
        """
        if self.env is None:
            raise ConfigError("env.name", "", "an environment: this stage plays episodes")
        return self.env

    @cached_property
    def played_env(self) -> Any:
        """That in which episodes are evaluated, with every parameter that `evaluation.shifts` names."""
        return played_env(self.config.evaluation.shifts, self.env)

    @property
    def policy_spec(self) -> PolicySpec:
        """Sizes of the policy, and what a decision sees."""
        obs = with_history(self.obs, self.config.chunk.observe)
        return PolicySpec(obs.size, self.action_dim, self.config.chunk.predict, obs)

    @cached_property
    def policy(self) -> Policy:
        """The policy of section `policy`."""
        return self.build_policy("policy")

    @cached_property
    def baseline(self) -> Policy:
        """The policy of section `baseline`."""
        return self.build_policy("baseline")

    def build_policy(self, section: str) -> Policy:
        """The policy named in a section of the config, with the configured prior and sampler."""
        config, spec = self.config, self.policy_spec
        prior = functools.partial(registry.build, "prior", config.prior, spec=spec)
        prior(spec.chunk_shape)  # so that its section is checked whether or not the policy has a prior
        sampler = registry.build("sampler", config.sampler)
        with networks_in(config.precision):
            policy = registry.build(
                "policy", config[section], spec, section=section, prior=prior, sampler=sampler
            )
        return in_coordinates(policy, config.chunk.coordinates)

    @property
    def horizon(self) -> int:
        """Decisions in a full episode."""
        return -(-self.env_spec.episode_length // self.config.chunk.execute)

    def part(self, stage: str, kind: str) -> str:
        """The path of the section that selects a stage's actor, reward or learner: its own, or the run's."""
        return f"{stage}.{kind}" if self.config[stage][kind].name else kind

    def cloning_options(self, section: str) -> Options:
        """The checked options of a section of `CLONING`."""
        return learner_options(section).from_config(self.config[section], section)

    def clone_parts(self, policy: Policy) -> Parts:
        """What a learner that clones `policy` is built from."""
        return Parts(
            self.policy_spec,
            self.config.chunk.execute,
            policy=policy,
            env=self.env,
            observe=self.config.chunk.observe,
            cloning=self.cloning_options("bc"),
        )

    def reward(self, stage: str, num_modes: int) -> Reward:
        """The intrinsic reward of a stage that is trained by reinforcement."""
        spec, path = self.policy_spec, self.part(stage, "reward")
        with networks_in(self.config.precision):
            executed = (self.config.chunk.execute, spec.action_dim)
            sizes = (spec.obs, num_modes, self.horizon)
            q = registry.build("discriminator", self.config.discriminator, *sizes, chunk=executed)
            cfg = at(self.config, path)
            return registry.build("reward", cfg, section=path, discriminator=q, horizon=self.horizon)

    def tune_parts(self, stage: str, num_modes: int, policy: Policy | None) -> Parts:
        """What the learner of a stage that is trained by reinforcement is built from.

        Args:
          stage: its name.
          num_modes: |Z|.
          policy: the reference; None where there is no clone.
        """
        path = self.part(stage, "actor")
        sizes = {"spec": self.policy_spec, "policy": policy, "num_modes": num_modes}
        with networks_in(self.config.precision):
            actor = registry.build("actor", at(self.config, path), section=path, **sizes)
        return Parts(
            self.policy_spec,
            self.config.chunk.execute,
            policy=policy,
            env=self.bare_env,
            observe=self.config.chunk.observe,
            actor=actor,
            reward=self.reward(stage, num_modes),
        )


def build(config: ConfigDict, sizes: tuple[ObsSpec, int] | None = None) -> Setup:
    """Checks a configuration and builds what it names.

    Args:
      config: resolved.
      sizes: (observation, A) where neither an environment nor a data file says them: those of a checkpoint.

    Returns:
      The setup; nothing has compiled.

    Raises:
      ConfigError: a field cannot work, or the environment breaks its contract.
      UserError: JAX is set to 64 bits.
      DataError: there is no environment and the data file cannot be read.
    """
    check_config(config)
    exact_elsewhere()
    pin_randomness()
    episodes = None
    env = None
    if config.env.name:
        with reported(None, config.env.name, "builder"):
            env = registry.build("env", config.env)
        check_env(env, config.env.name)
        sizes = (env.spec.obs, env.spec.action_dim)
    elif sizes is None:
        if not config.data.path:
            raise ConfigError("data.path", "", "a file of demonstrations, since env.name is empty")
        episodes = several.for_section(config.data)
        sizes = (episodes.spec, episodes.action.shape[1])
    shifted_params(config.evaluation.shifts, env)
    if config.data.scale == "box" and not _bounded(env):
        raise ConfigError(
            "data.scale", "box", "auto, data, quantile or mean_std: no environment bounds the actions"
        )
    return Setup(config, env, *sizes, episodes)


def _bounded(env: Env | None) -> bool:
    """Whether every action has bounds."""
    return env is not None and bool(np.isfinite([env.spec.action_low, env.spec.action_high]).all())


def check_points(setup: Setup, grid: Grid) -> None:
    """Raises ConfigError where a point of a sweep cannot work; a section is checked in each of its own states."""
    columns: dict[str, list[int]] = {}
    for column, path in enumerate(grid.paths):
        columns.setdefault(path.rpartition(".")[0], []).append(column)
    for section, own in columns.items():
        config = ConfigDict(setup.config.to_dict())
        swept = dataclasses.replace(setup, config=config)
        for values in dict.fromkeys(tuple(point[i] for i in own) for point in grid.points):
            for i, value in zip(own, values, strict=True):
                if not math.isfinite(value):
                    raise ConfigError(grid.paths[i], value, "finite")
                at(config, section)[grid.paths[i].rpartition(".")[2]] = value
            check_section(config, section)
            if section in ("policy", "baseline"):
                swept.build_policy(section)


def load_episodes(setup: Setup) -> Episodes:
    """The demonstrations: read from `data.path`, or recorded from the scripted expert.

    Raises:
      DataError: they cannot be read, or do not fit the environment or the chunk length.
    """
    config, chunk_len = setup.config.data, setup.config.chunk.predict
    if not config.path:
        assert setup.env is not None
        episodes = record(setup.env, seeded(config.seed), config.episodes, config.noise)
        return dataclasses.replace(episodes, source=expert_source(setup))
    episodes = setup.episodes or several.for_section(config)
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
