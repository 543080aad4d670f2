r"""Path tasks for closed loops: an expert that comes back to its path, and how far a policy has left it.

The expert feeds forward the step of the mean path and closes the part g of its error per step,
a_t = m(t+1) - m(t) + g (m(t) - p_t) + sigma n, so that the error e_t = p_t - m(t) obeys
e_{t+1} = (1-g) e_t + sigma n from e_0 ~ N(0, s^2 I):

  Var e_t = (1-g)^{2t} s^2 + sigma^2 (1 - (1-g)^{2t}) / (1 - (1-g)^2).

Unlike in the tasks of one chunk, demonstrations show the way back. T = 100. The expert goes by the clock t: with
`clock` the observation is (x, y, t / (T - 1)) and the expert's action a function of it; without, (x, y), and a policy
cannot know that it is late. Everything else as in `_paths`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mmbc_jax.core.config import check_range
from mmbc_jax.core.types import Array, Key, PyTree, State
from mmbc_jax.envs.synthetic._path_task import SIGMAS, PathTask, Spread
from mmbc_jax.envs.synthetic._statistics import RAYLEIGH_MEAN, RAYLEIGH_STD

POINTS = 100


def tracking_config() -> dict[str, Any]:
    """Settings of every tracked path.

    noise: of the expert's action. start_std: of the first position. gain: g, part of the error closed.
    clock: whether the time is observed.
    """
    return {"noise": 0.0, "start_std": 0.02, "gain": 0.3, "clock": False}


class TrackedPath(PathTask):
    """See the module docstring; the metrics also hold "deviation".

    deviation: distance to the mean path at this time, of the mode that is nearest so far.
    """

    def __init__(self, cfg: ConfigDict, mode_names: tuple[str, ...]):
        check_range("env.noise", cfg.noise, 0.0)
        check_range("env.start_std", cfg.start_std, 0.0)
        check_range("env.gain", cfg.gain, 0.0, 1.0, open_low=True)
        super().__init__(cfg, mode_names, POINTS, obs_dim=3 if cfg.clock else 2)

    def default_params(self) -> PyTree:
        """Every number of the config as a [] float."""
        return {name: jnp.asarray(x) for name, x in self.cfg.items() if name not in ("name", "clock")}

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

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """As every path task, with the deviation of the start."""
        return self._deviating(super().reset(key, params))

    def step(self, state: State, action: Array) -> State:
        """As every path task, with the deviation."""
        return self._deviating(super().step(state, action))

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
        """`state` with the metric "deviation", and with the clock in its observation."""
        data, params = state.data, state.info["params"]
        distances = self._distances(params, data["position"], data["step"])
        deviation = distances[jnp.argmin(data["distances"])]
        obs = data["position"]
        if self.cfg.clock:
            obs = jnp.concatenate([obs, (data["step"] / (self.points - 1.0))[None]])
        return state.replace(obs=obs, metrics=state.metrics | {"deviation": deviation})
