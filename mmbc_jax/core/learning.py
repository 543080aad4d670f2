"""The contracts of learning: actors, discriminators, intrinsic rewards and learners.

`reference` holds the frozen variables of the cloned policy, None where there is none. It is an argument and not a
closure, so that every run of a sweep can have its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import flax.struct
from jaxtyping import Float, Int

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options
from mmbc_jax.core.protocols import Env, Policy
from mmbc_jax.core.state import Hparams, TrainState
from mmbc_jax.core.types import Array, Key, Metrics, PolicySpec, PyTree, Variables

COMBINE = ("mean", "last", "sum", "known")
"""How the training steps of a logged row become one figure; `known` is the mean of those that have one, not NaN."""


class Transitions(flax.struct.PyTreeNode):
    """Decisions with what they led to; leading axes [...], [T, B] time-major in a rollout.

    Attributes:
      obs: normalised observation at the decision.
      final_obs: normalised observation it led to, before any reset.
      z: [...] int32 the commanded mode.
      time: [...] fraction of the full horizon passed at the decision.
      final_time: [...] the same after it.
      remaining: [...] int32 decisions left until the full horizon, after it.
      info: what the actor remembers of the decision.
      features: what the reward sees of the path before the decision.
      final_features: and after it.
      reward: [...] the environment's, discounted inside the chunk.
      discount: [...] gamma^k for k executed control steps.
      terminated: [...] 1 where the task ended.
      final: [...] 1 where it ended, or the full horizon was reached: nothing is left, for a critic that sees the
        time. An episode that a curriculum cuts before is done, but not final.
      done: [...] 1 where the episode ended.
      success: [...] 1 where it ended in success.
      diverged: [...] 1 where it ended because the environment was no longer finite; `done` is 1 there.
      valid: [...] 0 where there is nothing to learn: the instance diverged in this decision, or its episode was over
        when it began and no decision took place. Such decisions are finite, but count in no mean.
    """

    obs: Obs
    final_obs: Obs
    z: Int[Array, "*batch"]
    time: Float[Array, "*batch"]
    final_time: Float[Array, "*batch"]
    remaining: Int[Array, "*batch"]
    info: PyTree
    features: PyTree
    final_features: PyTree
    reward: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    terminated: Float[Array, "*batch"]
    final: Float[Array, "*batch"]
    done: Float[Array, "*batch"]
    success: Float[Array, "*batch"]
    diverged: Float[Array, "*batch"]
    valid: Float[Array, "*batch"]


class Actor(Protocol):
    """What a learner trains on top of the reference policy, or in its place."""

    num_modes: int

    def init(self, key: Key, reference: Variables | None) -> PyTree:
        """Fresh parameters; on a reference the actor at first behaves (nearly) as it."""
        ...

    def act(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Int[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch H A"], PyTree]:
        """(chunk [..., H, A], info): info is whatever `log_ratio` needs to know later."""
        ...

    def likeliest(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Int[Array, "*batch"]
    ) -> Float[Array, "*batch H A"]:
        """Chunk [..., H, A] of the likeliest action; `key` is for bases that do not know their mode."""
        ...

    def log_ratio(
        self,
        params: PyTree,
        reference: Variables | None,
        obs: Obs,
        z: Int[Array, "*batch"],
        info: PyTree,
    ) -> Float[Array, "*batch R"]:
        """[..., R] log of new over old probability of each part of a decision; 0 at unchanged parameters."""
        ...

    def entropy(
        self, params: PyTree, reference: Variables | None, obs: Obs, z: Int[Array, "*batch"]
    ) -> Float[Array, "*batch"]:
        """[...] entropy of the action distribution in nats."""
        ...


class ReparameterisedActor(Actor, Protocol):
    """An actor that off-policy learners can train: its action is a differentiable function of its parameters."""

    action_size: int  # W
    box: float  # half-width of the box that the action is squashed into, 0 for none

    def sample(
        self, params: PyTree, reference: Variables | None, key: Key, obs: Obs, z: Int[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch W"], Float[Array, "*batch"]]:
        """(action [..., W], its log density [...]), both differentiable in `params`."""
        ...

    def chunk(
        self, reference: Variables | None, key: Key, obs: Obs, action: Float[Array, "*batch W"]
    ) -> Float[Array, "*batch H A"]:
        """Chunk [..., H, A] that an action [..., W] stands for; `key` draws the noise path of a sampler."""
        ...


class Discriminator(Protocol):
    """q(z | what it sees of the path so far).

    What it may do besides is in `core.seeing`.
    """

    num_modes: int

    def init(self, key: Key) -> PyTree:
        """Fresh parameters."""
        ...

    def init_memory(self, obs: Obs) -> PyTree:
        """What is remembered of the path at the first observation."""
        ...

    def remember(self, memory: PyTree, obs: Obs) -> PyTree:
        """Memory after the decision that led to `obs`."""
        ...

    def features(self, memory: PyTree) -> PyTree:
        """What the network sees of the path, with the memory's leading axes; [..., F] where that is vectors."""
        ...

    def log_prob(self, params: PyTree, key: Key, features: PyTree) -> Float[Array, "*batch Z"]:
        """[..., Z] log q(.|features); `key` draws the input noise."""
        ...

    def loss(
        self, params: PyTree, key: Key, features: PyTree, z: Int[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch"], Metrics]:
        """([...] cross-entropy with input noise, metrics: [...] of each example, or [] of all)."""
        ...


class Reward(Protocol):
    """An intrinsic reward, with parameters and a memory of the path of its own.

    What it may do besides is in `core.seeing`.
    """

    num_modes: int
    discriminator: Discriminator | None  # q, where the reward has one: evaluation reports it
    trains: bool  # False where `loss` has nothing to train
    logs: Mapping[str, str]  # its metrics that are not averaged over a row, as of a `Learner`

    def init(self, key: Key) -> PyTree:
        """Fresh parameters; an empty dict where there are none."""
        ...

    def init_memory(self, obs: Obs) -> PyTree:
        """What is remembered of the path at the first observation."""
        ...

    def remember(self, memory: PyTree, obs: Obs) -> PyTree:
        """Memory after the decision that led to `obs`."""
        ...

    def features(self, memory: PyTree) -> PyTree:
        """What the reward sees of the path, with the memory's leading axes."""
        ...

    def pay(
        self, params: PyTree, key: Key, transitions: Transitions, discount: float
    ) -> tuple[Float[Array, "*batch"], Metrics]:
        """([...] reward of each decision before its weight lambda, metrics); `discount` is that of a decision."""
        ...

    def loss(
        self, params: PyTree, key: Key, features: PyTree, z: Int[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch"], Metrics]:
        """([...] what is minimised so that the reward follows the actor, metrics: [...] of each example, or [])."""
        ...


@runtime_checkable
class Scales(Protocol):
    """What is used of a normaliser to evaluate (see `ops.normalisation.Normalizer`)."""

    def normalize_obs(self, obs: Obs) -> Obs:
        """Observations in physical units to [-1, 1]; images as they are."""
        ...

    def to_box(self, action: Array) -> Array:
        """Actions [..., A] of a policy as the environment takes them."""
        ...

    def denormalize_action(self, action: Array) -> Array:
        """Actions [..., A] of a policy in physical units."""
        ...


class Subject(flax.struct.PyTreeNode):
    """What one run is evaluated with.

    Attributes:
      key: of the evaluation.
      reference: variables of the cloned policy; None where there is none.
      normalizer: of observations and actions.
      actor: parameters of the actor; empty where the cloned policy itself acts.
      reward: parameters of the intrinsic reward, q among them; empty where there is none.
    """

    key: Key
    reference: Variables | None
    normalizer: Scales
    actor: PyTree
    reward: PyTree


class Learner(Protocol):
    """The training step of a stage: turns demonstrations or experience into parameters.

    A learner is built with its options and `Parts`, from which it takes what it needs.
    """

    logs: Mapping[str, str]  # metrics that are not averaged over a row, with an entry of `COMBINE` each
    env_steps: int  # control steps of one training step, at most
    num_envs: int  # environment instances that it plays at once; 0 for none
    buffered: bool  # True where the state holds a replay buffer, which is too large for every checkpoint

    def init(self, key: Key, hparams: Hparams, parent: TrainState | None, shared: PyTree) -> TrainState:
        """The state of one run before its first step.

        Args:
          key: of the stage.
          hparams: traced scalars: of the `bc` section as "bc.NAME", of the policy as "policy.NAME", of any other
            learner's own section as "learner.NAME", of the stage as "stage.NAME".
          parent: final state of the stage that this one starts from; None for none.
          shared: arrays that all runs read, such as demonstrations; the same as `train_step` gets.
        """
        ...

    def train_step(self, state: TrainState, shared: PyTree) -> tuple[TrainState, Metrics]:
        """One step of one run, pure; metrics are scalars named `group/name`, the same at every step."""
        ...

    def subject(self, state: TrainState, key: Key) -> Subject:
        """What is evaluated of a state; also with a leading axis R on both."""
        ...


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a learner is built from, besides its own options; each takes what it needs.

    Attributes:
      spec: sizes and observations.
      exec_len: h, actions executed of every chunk.
      observe: T_o, observations that a decision sees.
      policy: the policy that is cloned, or the reference of the actor; None for none.
      env: the bare environment; None without a simulator.
      actor: what is trained by reinforcement; None in cloning.
      reward: the intrinsic reward; None in cloning.
      cloning: options of `bc`, which other learners that clone take their gradient steps from.
    """

    spec: PolicySpec
    exec_len: int
    observe: int = 1
    policy: Policy | None = None
    env: Env | None = None
    actor: Actor | None = None
    reward: Reward | None = None
    cloning: Options | None = None
