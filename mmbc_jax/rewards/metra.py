r"""A reward that grows with how far apart the commands lead, and not with how surely they are told apart.

Where q tells two z apart, log q is at its bound and pays nothing for leading them farther apart: a trait of a
millimetre is worth as much as another way round. Here a map phi of paths into R^Z replaces q. The codes e_z are the
corners of a regular simplex on the unit sphere, (1[z] - 1/Z) sqrt(Z / (Z - 1)), and phi solves

  max_phi  E[ (phi(x_t) - phi(x_0)) . e_z ]   subject to   |phi(x) - phi(y)| <= d(x, y),

the Kantorovich dual of a Wasserstein dependency between path and z (Ozair et al. 2019): for Z = 2 its value is half
the Wasserstein-1 distance of what the two commands do, in the metric d. A decision pays the difference that it made,

  r_t = (phi(x_{t+1}) - phi(x_t)) . e_z,

whose sum over an episode is (phi(x_T) - phi(x_0)) . e_z, at most d(x_T, x_0) whatever its length: there is no gain
from loitering. With `forfeit` an episode that terminates without success hands back what it was paid.

A path x is what the discriminator would see of it, as a point (`core.seeing.HasPoints`); images and the time
take no part, nor does q. `metric` is

- `distance`: the distance of points, the root mean square over what is remembered, in normalised units. The bound is
  certain: each layer of phi has a spectral norm of at most 1 (`nn.mlp.BoundedDense`) and tanh has slope at most 1.
  Two commands of which one is the other shifted by d earn at most d / 2 each (Lipschitz-constrained skill discovery,
  Park et al. 2022).
- `decisions`: 1 for the paths before and after a decision, so that d counts decisions (METRA, Park et al. 2024). The
  bound is a constraint with a dual variable: phi minimises -gain - lambda min(eps, 1 - |phi(x_{t+1}) - phi(x_t)|^2),
  and log lambda falls where the constraint has room. A bound that training approaches, not a certain one. Paid over
  the n decisions of the horizon, so that an episode earns about 1 at most. A trait that grows little by little is
  as far as one that grows in leaps: the metric does not know which of them matters.

Each decision is paid by itself, so off-policy learners can use it.

Sources: Ozair et al. 2019 (arXiv 1903.11780); Park et al. 2022 (arXiv 2202.00914); Park et al. 2024
(arXiv 2310.08887); Zheng et al. 2025 (arXiv 2412.08021), who show that METRA is about a bound of information, too.
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
from mmbc_jax.nn.mlp import MLP
from mmbc_jax.ops.capped import capped
from mmbc_jax.rewards._of_points import with_points

_ROOM = 1e-3  # eps, most room of the constraint that phi is rewarded for


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetraOptions(Options):
    """The reward of distances."""

    metric: str = option(
        "distance",
        "distance: of paths, in normalised units; decisions: how many of them lie between two paths",
        choices=("distance", "decisions"),
    )
    forfeit: bool = option(True, "an episode that terminates without success hands back what it was paid")
    hidden: tuple[int, ...] = option((128,), "widths of the hidden layers of phi", low=1)


@dataclasses.dataclass(frozen=True)
class MetraReward:
    """See the module docstring. With one mode it pays nothing and trains nothing.

    Parameters are {"phi": of the network}, with "dual" [] log lambda for `decisions`. The memory is {"path": the
    discriminator's, "start": [..., E] the first point}, with "last" [..., E] the point before for `decisions`;
    features are {"now": [..., E]} and these.

    Attributes:
      options: its options.
      seen: the discriminator, for what it sees of a path.
      horizon: n, decisions in a full episode.
      network: phi.
    """

    options: MetraOptions
    seen: Any
    horizon: int
    network: MLP

    discriminator: ClassVar[Discriminator | None] = None
    logs: ClassVar[Mapping[str, str]] = {"mode/metra": "known"}

    @property
    def num_modes(self) -> int:
        """Z."""
        return int(self.seen.num_modes)

    @property
    def trains(self) -> bool:
        """Whether there is more than one mode to lead apart."""
        return self.num_modes > 1

    @property
    def _dual(self) -> bool:
        return self.options.metric == "decisions"

    def init(self, key: Key) -> PyTree:
        """Parameters of phi, and lambda = 1."""
        phi = self.network.init(key, jnp.zeros((1, self.seen.point_size)))
        return {"phi": phi, "dual": jnp.zeros(())} if self._dual else {"phi": phi}

    def init_memory(self, obs: Obs) -> PyTree:
        """What is remembered at the first observation."""
        path = self.seen.init_memory(obs)
        start = self._point(path)
        return {"path": path, "start": start, "last": start} if self._dual else {"path": path, "start": start}

    def remember(self, memory: PyTree, obs: Obs) -> PyTree:
        """Memory after the decision that led to `obs`."""
        return self._after(memory, self.seen.remember(memory["path"], obs))

    def remember_played(self, memory: PyTree, obs: Obs, played: Played) -> PyTree:
        """Memory after the decision `played`, which led to `obs`."""
        return self._after(memory, remembered(self.seen, memory["path"], obs, played))

    def _after(self, memory: PyTree, path: PyTree) -> PyTree:
        last = {"last": self._point(memory["path"])} if self._dual else {}
        return {**memory, "path": path, **last}

    def _point(self, path: PyTree) -> Array:
        return jnp.asarray(self.seen.points(self.seen.features(path)))

    def features(self, memory: PyTree) -> PyTree:
        """The points that are compared."""
        return {"now": self._point(memory["path"])} | {
            name: point for name, point in memory.items() if name != "path"
        }

    def codes(self) -> Array:
        """[Z, Z] the unit vectors e_z."""
        z = self.num_modes
        return (jnp.eye(z) - 1.0 / z) * (z / max(z - 1, 1)) ** 0.5

    def phi(self, params: PyTree, points: Array) -> Array:
        """[..., Z] of points [..., E]."""
        return jnp.asarray(self.network.apply(params["phi"], points))

    def pay(
        self, params: PyTree, key: Key, transitions: Transitions, discount: float
    ) -> tuple[Array, Metrics]:
        """The reward of decisions under the present phi.

        Args:
          params: of phi.
          key: unused.
          transitions: [...], in any number of axes.
          discount: unused.

        Returns:
          ([...] before lambda, {"mode/metra": [] mean of what the valid episodes that ended with one of these
          decisions are worth, NaN where none did}).
        """
        if not self.trains:
            return jnp.zeros(transitions.z.shape), {"mode/metra": jnp.zeros(())}
        seen = transitions.final_features
        points = jnp.stack([seen["start"], transitions.features["now"], seen["now"]])
        start, before, after = self.phi(params, points)
        code = self._code(transitions.z)
        worth, held = (((of - start) * code).sum(-1) / self._unit for of in (after, before))
        failed = transitions.terminated * (1.0 - transitions.success) * float(self.options.forfeit)
        ended = transitions.done * transitions.valid
        return worth * (1.0 - failed) - held, {"mode/metra": (worth * ended).sum() / ended.sum()}

    def loss(self, params: PyTree, key: Key, features: PyTree, z: Array) -> tuple[Array, Metrics]:
        """Minus what phi makes of a path, with the constraint where the bound is not certain; `key` is unused.

        Returns:
          ([...] of each example, metrics [...]: "mode/metra_gain" what is maximised; for `decisions` also
          "mode/metra_step" |phi(x_{t+1}) - phi(x_t)| and "mode/metra_dual" lambda).
        """
        if not self.trains:
            return jnp.zeros(z.shape), {}
        since = features["last"] if self._dual else features["start"]
        before, after = self.phi(params, jnp.stack([since, features["now"]]))
        moved = after - before
        gain = (moved * self._code(z)).sum(-1)
        if not self._dual:
            return -gain, {"mode/metra_gain": gain}
        square = jnp.square(moved).sum(-1)
        room = jnp.minimum(_ROOM, 1.0 - square)
        dual = jnp.exp(capped(params["dual"]))
        loss = -gain - jax.lax.stop_gradient(dual) * room + params["dual"] * jax.lax.stop_gradient(room)
        metrics = {"mode/metra_step": jnp.sqrt(square), "mode/metra_dual": jnp.broadcast_to(dual, z.shape)}
        return loss, {"mode/metra_gain": gain, **metrics}

    @property
    def _unit(self) -> float:
        return float(self.horizon) if self._dual else 1.0

    def _code(self, z: Array) -> Array:
        # one-hot and not an index: nothing here needs a gather
        return jax.nn.one_hot(z, self.num_modes) @ self.codes()


@register("reward", MetraOptions)
def build(options: MetraOptions, *, discriminator: Discriminator | None, horizon: int) -> MetraReward:
    """The reward of paths as `discriminator` sees them, over episodes of `horizon` decisions.

    Raises:
      ConfigError: there is no discriminator, or paths are no points to it.
    """
    seen = with_points(discriminator, "metra")
    bound = 1.0 if options.metric == "distance" else 0.0
    network = MLP(options.hidden, seen.num_modes, activation="tanh", spectral_norm=bound)
    return MetraReward(options, seen, horizon, network)
