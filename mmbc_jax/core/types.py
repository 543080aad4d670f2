"""Shared types and the shape legend that every docstring refers to.

Shape legend:
  B batch or environments · T decisions · H chunk predicted · h chunk executed ·
  D observation · A action · W base (noise or latent) size · Z discrete modes ·
  K demonstrated modes · S sweep points · N seeds · R runs (S x N, flattened).

Time convention: generation time runs from t=0 (noise) to t=1 (data) everywhere,
diffusion included. Arrays over decisions are time-major, [T, B, ...].
Log-probabilities are summed over event dimensions.
Data files hold actions in physical units. An environment takes [-1, 1] of its bounds, a policy answers in [-1, 1] of
its normaliser's, and `Normalizer.to_box` maps one to the other.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax
import jaxtyping
from jaxtyping import Bool, Float, Int, Shaped

from mmbc_jax.core.observations import Obs, ObsSpec

Array = jax.Array
Key = jaxtyping.Key[Array, "..."]  # typed keys, as `jax.random.key` makes them
PyTree = Any  # a type of "any registered node" does not exist
Metrics = dict[str, Array]


class Variables(flax.struct.PyTreeNode):
    """Everything a policy owns: trained parameters and non-gradient statistics.

    Attributes:
      params: pytree that the optimiser updates.
      stats: pytree that it does not (codebooks, bin centres, running moments); may be empty.
    """

    params: PyTree
    stats: PyTree = flax.struct.field(default_factory=dict)


class Batch(flax.struct.PyTreeNode):
    """One batch of windows, normalised to [-1, 1].

    Attributes:
      obs: leading axis B, observation at the start of the window; [B, D] where it is a plain vector.
      chunk: [B, H, A] the actions that follow it.
      mask: [B, H] 1 where the action was recorded, 0 where the window runs past the episode.
      every: [M, H, A] chunks of all windows that are at hand, for a policy's `init` to measure their range; None in
        training, and where the batch is all there is.
    """

    obs: Obs
    chunk: Float[Array, "*batch H A"]
    mask: Float[Array, "*batch H"]
    every: Float[Array, "M H A"] | None = None


class Loss(flax.struct.PyTreeNode):
    """What a policy's loss returns.

    Attributes:
      per_example: [B] the loss of each example.
      batch: scalar terms that only exist for a batch (MMD, Sinkhorn, load balance); 0 if none.
      metrics: scalars to log, named `group/name`.
      stats: the new `Variables.stats`.
    """

    per_example: Float[Array, "*batch"]
    batch: Float[Array, ""]
    metrics: Metrics
    stats: PyTree

    def total(self) -> Float[Array, ""]:
        """The scalar that is minimised: mean of `per_example` plus `batch`."""
        return self.per_example.mean() + self.batch


@dataclasses.dataclass(frozen=True)
class PolicySpec:
    """The sizes a policy is built for.

    Attributes:
      obs_dim: D, numbers in the observation's vectors; 0 where it holds only images.
      action_dim: A.
      chunk_len: H, the number of actions predicted at once.
      obs: what an observation looks like; a plain vector of `obs_dim` where not given.
    """

    obs_dim: int
    action_dim: int
    chunk_len: int
    obs: ObsSpec = dataclasses.field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        _complete_obs(self)

    @property
    def chunk_shape(self) -> tuple[int, int]:
        """(H, A)."""
        return (self.chunk_len, self.action_dim)

    @property
    def chunk_size(self) -> int:
        """W = H A, the numbers of a flat chunk."""
        return self.chunk_len * self.action_dim

    def shaped(self, flat: Array) -> Array:
        """Chunks [..., H, A] of flat ones [..., W]."""
        return flat.reshape(*flat.shape[:-1], *self.chunk_shape)


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """What the rest of the framework may know about an environment.

    Attributes:
      name: as typed in `env.name`.
      obs_dim: D, numbers in the observation's vectors; 0 where it holds only images.
      action_dim: A.
      episode_length: control steps after which an episode is truncated.
      num_modes: K, number of mode labels; 0 if the environment labels none.
      action_low: [A] physical action that -1 stands for in the environment.
      action_high: [A] physical action that +1 stands for there.
      mode_names: K short labels for tables and figures; empty if there are none.
      position: indices of the two observation entries to plot as (x, y); empty if there are none.
      control_dt: seconds per control step; 0 if it has no physical meaning.
      obs: what an observation looks like; a plain vector of `obs_dim` where not given.
      displaced: for each action entry the numbers of the observation, counted over its vectors, that its physical
        value displaces; empty where actions are no displacements.
      summed: names of metrics that add up over the control steps of a decision; of the others the last counts.
      latched: True where an episode that was once successful remains so; else what counts is its end.
      serial_chain: True where its physics holds a robot arm or another long chain of joints, whose programs need an
        option of the compiler on a CPU (see `core.compiling`).
      has_success: False where success is not defined, as in brax: whatever is a share of successes is then None, and
        a table shows a dash. `metrics["success"]` is there all the same, and says nothing.
    """

    name: str
    obs_dim: int
    action_dim: int
    episode_length: int
    num_modes: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    mode_names: tuple[str, ...] = ()
    position: tuple[int, ...] = ()
    control_dt: float = 0.0
    obs: ObsSpec = dataclasses.field(default=None)  # type: ignore[assignment]
    displaced: tuple[tuple[int, ...], ...] = ()
    summed: tuple[str, ...] = ()
    latched: bool = False
    serial_chain: bool = False
    has_success: bool = True

    def __post_init__(self) -> None:
        _complete_obs(self)

    @property
    def mode_labels(self) -> list[str]:
        """`mode_names`, or the K numbers where there are none."""
        return list(self.mode_names) or [str(index) for index in range(self.num_modes)]


def _complete_obs(spec: PolicySpec | EnvSpec) -> None:
    if spec.obs is None:
        object.__setattr__(spec, "obs", ObsSpec.vector(spec.obs_dim))
    elif spec.obs.size != spec.obs_dim:
        raise ValueError(f"obs_dim = {spec.obs_dim}, but the vectors of obs have {spec.obs.size} numbers")


class State(flax.struct.PyTreeNode):
    """State of one environment; brax's and playground's states fit structurally.

    Attributes:
      data: the physics, any pytree.
      obs: observation as `EnvSpec.obs` describes it, in physical units; [D] where it is a plain vector.
      reward: [] float.
      done: [] float, 1 when the episode ended (terminated or truncated).
      metrics: dict of [] floats; `success` is always there, 0 or 1.
      info: dict that keeps its keys from reset on: `mode` ([] int32, -1 while undecided or failed)
        and `params` (the traced environment parameters) from the environment; `steps` ([] int32),
        `truncation` ([] float), `final_obs` ([D]) and `discount` ([] float, gamma^k of a chunk)
        from the wrappers.

    The environment's own leaves are finite. A state whose data, obs, reward, done or success is not ends its episode
    as a failure (see `envs.wrappers`).
    """

    data: PyTree
    obs: Obs
    reward: Float[Array, "*batch"]
    done: Float[Array, "*batch"]
    metrics: Metrics
    info: dict[str, PyTree]


class Rollouts(flax.struct.PyTreeNode):
    """One episode per row, as every evaluation returns them.

    Attributes:
      success: [B] bool.
      mode: [B] int32 mode label of the environment; -1 for failed episodes.
      z: [B] int32 the discrete mode that was commanded; 0 where there is none.
      reward: [B] undiscounted sum of the environment's reward.
      steps: [B] int32 control steps until the end.
      log_q: [B] log q(z|path) in nats, of the whole path up to the episode's end; NaN without q, or a decision.
      path: [P, L, 2] plotted positions of the first P episodes at every control step, physical units.
      path_mask: [P, L] 1 up to the episode's end.
      outcome: {name: [B]} the environment's other metrics at the episode's end (collision, bridge, ...), and
        "diverged", 1 where it ended because the environment was no longer finite.
    """

    success: Bool[Array, " B"]
    mode: Int[Array, " B"]
    z: Int[Array, " B"]
    reward: Float[Array, " B"]
    steps: Int[Array, " B"]
    log_q: Float[Array, " B"]
    path: Float[Array, "P L 2"]
    path_mask: Float[Array, "P L"]
    outcome: dict[str, Shaped[Array, " B"]] = flax.struct.field(default_factory=dict)
