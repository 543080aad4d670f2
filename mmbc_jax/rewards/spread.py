r"""A reward for going where the other commands do not: the nearest paths of each of them, in the rollout itself.

Of an episode that ended with path x under command z, let d(x, z') be the mean distance to the k nearest paths among
the episodes of z' that ended in the same rollout, fewer where there are fewer. It is paid once, at its end,

  r = mean over z' != z of log(1 + d(x, z') / s),

at least 0, growing ever more slowly; commands without an end in the rollout are left out. A path x is what the
discriminator would see of it, as a point (`core.seeing.HasPoints`), so d is the root mean square over what is
remembered, in normalised units; s is the distance below which a difference hardly counts. Without the offset
E log d is, up to a constant and per dimension, the nearest-neighbour estimate of the cross-entropy of p(x | z) under
p(x | z') (Wang et al. 2009): it measures how little commands overlap, pair by pair, and not the entropy of all paths.

A command whose paths another one shares is paid for leaving them, even where q tells the two apart by a millimetre:
.007 for d = .002 and s = .3, and 1.47 for d = 1. q takes no part, and nothing is trained. Each command counts by
itself, since there may be more of them than ways: the nearest of all others together is then near wherever one goes.

An episode that terminates without success is paid nothing with `forfeit`; as a neighbour it counts. What a path is
worth depends on the others of its rollout, which a replay buffer does not keep together: off-policy learners refuse
this reward (`core.seeing.Compares`). At most `particles` ended episodes, drawn at random, are neighbours; distances
are taken in blocks of decisions, so that memory does not grow with the rollout.

Source: particle rewards of Liu & Abbeel 2021 (APT, arXiv 2103.04551), here between commands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mmbc_jax.core.learning import Discriminator, Transitions
from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.seeing import Played, remembered
from mmbc_jax.core.types import Array, Key, Metrics, PyTree
from mmbc_jax.ops.nearest import neighbour_distances
from mmbc_jax.rewards._of_points import with_points


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpreadOptions(Options):
    """The reward of the nearest paths of other commands."""

    neighbours: int = option(3, "k, nearest paths of each other z that count", low=1, high=1024)
    scale: float = option(
        0.3, "s, distance below which a difference hardly counts, in normalised units", low=0.0, open_low=True
    )
    particles: int = option(1024, "most ended episodes of a rollout that are neighbours", low=1)
    forfeit: bool = option(True, "an episode that terminates without success is paid nothing")


@dataclasses.dataclass(frozen=True)
class SpreadReward:
    """See the module docstring. With one mode it pays nothing. Memory and points are the discriminator's.

    Attributes:
      options: its options.
      seen: the discriminator, for what it sees of a path.
    """

    options: SpreadOptions
    seen: Any

    discriminator: ClassVar[Discriminator | None] = None
    trains: ClassVar[bool] = False
    compares: ClassVar[bool] = True
    logs: ClassVar[Mapping[str, str]] = {"mode/spread": "known", "mode/neighbour": "known"}

    @property
    def num_modes(self) -> int:
        """Z."""
        return int(self.seen.num_modes)

    def init(self, key: Key) -> PyTree:
        """An empty dict."""
        return {}

    def init_memory(self, obs: Obs) -> PyTree:
        """The discriminator's memory at the first observation."""
        return self.seen.init_memory(obs)

    def remember(self, memory: PyTree, obs: Obs) -> PyTree:
        """Its memory after the decision that led to `obs`."""
        return self.seen.remember(memory, obs)

    def remember_played(self, memory: PyTree, obs: Obs, played: Played) -> PyTree:
        """Its memory after the decision `played`, which led to `obs`."""
        return remembered(self.seen, memory, obs, played)

    def features(self, memory: PyTree) -> PyTree:
        """[..., E] the path as a point."""
        return jnp.asarray(self.seen.points(self.seen.features(memory)))

    def pay(
        self, params: PyTree, key: Key, transitions: Transitions, discount: float
    ) -> tuple[Array, Metrics]:
        """The reward of the decisions of one rollout.

        Args:
          params: none.
          key: draws which ended episodes are neighbours, where there are more than `particles`.
          transitions: [...], in any number of axes; all of them are compared.
          discount: unused.

        Returns:
          ([...] before lambda, metrics [] over the valid episodes that ended, NaN where none did: "mode/spread" the
          mean of r before any forfeit, "mode/neighbour" the mean of d over other commands).
        """
        shape = transitions.z.shape
        if self.num_modes == 1:
            return jnp.zeros(shape), {name: jnp.zeros(()) for name in self.logs}
        points = transitions.final_features.reshape(-1, transitions.final_features.shape[-1])
        ended = (transitions.done * transitions.valid).reshape(-1)
        z = jax.nn.one_hot(transitions.z.reshape(-1), self.num_modes)
        chosen = self._particles(key, ended)
        near, count = points[chosen], ended[chosen]
        of = transitions.z.reshape(-1)[chosen]
        apart = neighbour_distances(points, near, of, count, self.num_modes, self.options.neighbours)
        others = (1.0 - z) * (count @ z[chosen] > 0)
        others = others / jnp.maximum(others.sum(-1, keepdims=True), 1.0)
        distance = (others * apart).sum(-1)
        worth = (others * jnp.log1p(apart / self.options.scale)).sum(-1)
        failed = (transitions.terminated * (1.0 - transitions.success)).reshape(-1) * self.options.forfeit
        means = {
            name: (of * ended).sum() / ended.sum()  # 0 / 0 where no episode ended
            for name, of in (("mode/spread", worth), ("mode/neighbour", distance))
        }
        return (worth * ended * (1.0 - failed)).reshape(shape), means

    def _particles(self, key: Key, ended: Array) -> Array:
        """[M] indices of decisions [N] among which are as many ended episodes as there is room for."""
        if len(ended) <= self.options.particles:
            return jnp.arange(len(ended))
        order = ended + jax.random.uniform(key, ended.shape, maxval=0.5)
        return jax.lax.top_k(order, self.options.particles)[1]

    def loss(self, params: PyTree, key: Key, features: PyTree, z: Array) -> tuple[Array, Metrics]:
        """([...] zeros, no metrics)."""
        return jnp.zeros(z.shape), {}


@register("reward", SpreadOptions)
def build(options: SpreadOptions, *, discriminator: Discriminator | None, horizon: int) -> SpreadReward:
    """The reward of paths as `discriminator` sees them.

    Raises:
      ConfigError: there is no discriminator, or paths are no points to it.
    """
    return SpreadReward(options, with_points(discriminator, "spread"))
