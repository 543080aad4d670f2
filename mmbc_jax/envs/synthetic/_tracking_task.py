r"""Path tasks for closed loops: an expert that comes back to its path, and how far a policy has left it.

The expert feeds forward the step of the mean path and closes the part g of its error per step,
a_t = m(t+1) - m(t) + g (m(t) - p_t) + sigma n, so that the error e_t = p_t - m(t) obeys
e_{t+1} = (1-g) e_t + sigma n from e_0 ~ N(0, s^2 I):

  Var e_t = (1-g)^{2t} s^2 + sigma^2 (1 - (1-g)^{2t}) / (1 - (1-g)^2).

Unlike in the tasks of one chunk, demonstrations show the way back. T = 100. The expert goes by the clock t: with
`clock` the observation is (x, y, t / (T - 1)) and the expert's action a function of it; without, (x, y), and a policy
cannot know that it is late. Everything else as in `_path_task`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.types import Array, Key, PyTree, State
from mmbc_jax.envs.synthetic._path_geometry import Spread
from mmbc_jax.envs.synthetic._path_task import PLANE, PathTask
from mmbc_jax.envs.synthetic._statistics import RAYLEIGH_MEAN, RAYLEIGH_STD, SIGMAS

POINTS = 100
TIMED = ObsSpec.vector(3, low=(0.0, 0.0, 0.0), high=(1.0, 1.0, POINTS / (POINTS - 1)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackedPathOptions(Options):
    """Options of every tracked path."""

    noise: float = option(0.0, "standard deviation of the expert's action", low=0.0)
    start_std: float = option(0.02, "standard deviation of the first position", low=0.0)
    gain: float = option(
        0.3, "g, part of the error that is closed per step", low=0.0, high=1.0, open_low=True
    )
    clock: bool = option(False, "whether the time is observed")


class TrackedPath(PathTask):
    """See the module docstring; the metrics also hold "deviation".

    deviation: distance to the mean path at this time, of the mode that is nearest so far.
    """

    def __init__(self, options: TrackedPathOptions, mode_names: tuple[str, ...]):
        self.clock = options.clock
        super().__init__(options, mode_names, POINTS, obs=TIMED if options.clock else PLANE)

    def default_params(self) -> PyTree:
        """Every number of the options as a [] float."""
        names = [field.name for field, _ in self.options.stated() if field.name != "clock"]
        return {name: jnp.asarray(getattr(self.options, name)) for name in names}

    def vector(self, state: State) -> Array:
        """[2] the position, or [3] with the clock."""
        position = state.data["position"]
        if not self.clock:
            return position
        return jnp.concatenate([position, (state.data["step"] / (self.points - 1.0))[None]])

    def spread(self, params: PyTree) -> Spread:
        """Steps differ by -g e_t + sigma n; D is bounded as if all e_t of an episode were one draw."""
        keep = (1.0 - params["gain"]) ** (2.0 * jnp.arange(self.points))
        grown = params["noise"] ** 2 * (1.0 - keep) / (1.0 - (1.0 - params["gain"]) ** 2)
        variance = keep * params["start_std"] ** 2 + grown
        step = jnp.sqrt(params["gain"] ** 2 * variance[:-1] + params["noise"] ** 2)
        std = jnp.sqrt(variance)
        return Spread(std[-1], step, (RAYLEIGH_MEAN + SIGMAS * RAYLEIGH_STD) * std.mean())

    def start(self, params: PyTree, key: Key) -> Array:
        """N(m(0), start_std^2 I), clipped to the world."""
        mean = self.point(params, jnp.zeros((), jnp.int32), jnp.zeros(()))
        return jnp.clip(mean + params["start_std"] * jax.random.normal(key, (2,)), 0.0, 1.0)

    def begin(self, key: Key, params: PyTree | None) -> State:
        """As every path task, with the deviation of the start."""
        return self._deviating(super().begin(key, params))

    def advance(self, state: State, action: Array) -> State:
        """As every path task, with the deviation."""
        return self._deviating(super().advance(state, action))

    def expert(self, state: State, mode: Array, key: Key) -> Array:
        """Feed-forward and feedback; see the module docstring. Stands still at the last step.

        Args:
          state: the current state.
          mode: [] int32 in [0, K).
          key: for the noise.

        Returns:
          [2] action in [-1, 1].
        """
        params, step = state.info["params"], state.data["step"]
        here, ahead = (self._mean(params, mode, time) for time in (step, step + 1))
        move = ahead - here + params["gain"] * (here - state.data["position"])
        move = move + params["noise"] * jax.random.normal(key, (2,))
        return jnp.clip(jnp.where(step + 1 < self.points, move, 0.0) / self.scale, -1.0, 1.0)

    def _deviating(self, state: State) -> State:
        """`state` with the metric "deviation"."""
        data, params = state.data, state.info["params"]
        distances = self._distances(params, data["position"], data["step"])
        deviation = distances[jnp.argmin(data["distances"])]
        return state.replace(metrics=state.metrics | {"deviation": deviation})
