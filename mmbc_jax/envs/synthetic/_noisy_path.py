"""Path tasks of one chunk: noisy demonstrations, and a scene that can be observed as an image."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from mmbc_jax.core.observations import Obs, ObsEntry, ObsSpec
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.types import Array, Key, PyTree, State
from mmbc_jax.envs.synthetic import _render
from mmbc_jax.envs.synthetic._path_geometry import Spread
from mmbc_jax.envs.synthetic._path_task import PLANE, PathTask
from mmbc_jax.envs.synthetic._statistics import RAYLEIGH_MEAN, RAYLEIGH_STD, SIGMAS

OBSERVE = ("state", "image", "both")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyPathOptions(Options):
    """What every such task can be asked."""

    observe: str = option("state", "numbers, an image of 64 x 64 x 3, or both", choices=OBSERVE)


class NoisyPath(PathTask):
    """A path task of T = 60 whose demonstrations carry i.i.d. Gaussian noise on every position.

    p_t = clip(m_k(t) + sigma n_t), n_t resampled until it is free of collisions, at most 50 draws. The noise
    does not accumulate: the expert's action is (target with fresh noise) - (where it stands), a function of
    the clock, which also leads a displaced state back.

    Where images are observed, `State.data` also holds "ground" [64, 64, 3] uint8, the scene without the point; each
    control step draws one frame on it (`_render`).

    Args:
      options: of the task.
      mode_names: K labels.
      rows: M.
      vector: what the numbers of the observation are.
    """

    POINTS, TRIES = 60, 50

    def __init__(
        self, options: NoisyPathOptions, mode_names: tuple[str, ...], rows: int = 0, vector: ObsSpec = PLANE
    ):
        self.observed = options.observe
        super().__init__(options, mode_names, self.POINTS, rows, _described(options.observe, vector))

    def observe(self, state: State) -> Obs:
        """The numbers, the drawn image, or both."""
        if self.observed == "state":
            return self.vector(state)
        seen = {"image": _render.render(state.data["position"], state.data["ground"])}
        return seen if self.observed == "image" else seen | {"state": self.vector(state)}

    def goal(self, state: State) -> tuple[Array, Array] | None:
        """Centre [2] and radius [] of what is asked for in this episode, where that is to be seen."""
        return None

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """As every path task; where images are observed, with what does not change in them."""
        state = self.begin(key, params)
        if self.observed != "state":
            empty = _render.ground(*self.boxes(state.info["params"]), self.goal(state))
            state = state.replace(data=state.data | {"ground": empty})
        return state.replace(obs=self.observe(state))

    def spread(self, params: PyTree) -> Spread:
        """Independent errors: steps differ by sqrt(2) sigma n; D has the mean of T Rayleigh variables."""
        sigma = params["noise"]
        tube = sigma * (RAYLEIGH_MEAN + SIGMAS * RAYLEIGH_STD / self.points**0.5)
        return Spread(sigma, jnp.broadcast_to(2**0.5 * sigma, (self.points - 1,)), tube)

    def start(self, params: PyTree, key: Key) -> Array:
        """The common first point of all modes, with noise."""
        return self._noisy(params, self.point(params, jnp.zeros((), jnp.int32), jnp.zeros(())), key)

    def expert(self, state: State, mode: Array, key: Key) -> Array:
        """Goes to the next mean position of `mode` plus fresh noise; stands still at the last step.

        Args:
          state: the current state.
          mode: [] int32 in [0, K).
          key: for the noise.

        Returns:
          [2] action in [-1, 1].
        """
        params, step = state.info["params"], state.data["step"]
        target = self._noisy(params, self._mean(params, mode, step + 1), key)
        move = jnp.where(step + 1 < self.points, target - state.data["position"], 0.0)
        return jnp.clip(move / self.scale, -1.0, 1.0)

    def _noisy(self, params: PyTree, mean: Array, key: Key) -> Array:
        """[2] the first collision-free of 50 draws around `mean` [2], else the last."""
        noise = params["noise"] * jax.random.normal(key, (self.TRIES, 2))
        drawn = jnp.clip(mean + noise, 0.0, 1.0)
        free = ~self.collides(params, drawn)
        return drawn[jnp.where(free.any(), jnp.argmax(free), self.TRIES - 1)]


def _described(observe: str, vector: ObsSpec) -> ObsSpec:
    """The observation of a task whose numbers are `vector`."""
    if observe == "state":
        return vector
    image = {"image": ObsEntry(_render.SHAPE, "image")}
    return ObsSpec.of(image if observe == "image" else image | dict(vector.entries))
