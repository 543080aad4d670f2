r"""Planar tasks whose modes are paths: the world, the success rule and the labels, for any geometry.

The world is [0, 1]^2. A path has T positions p_0 ... p_{T-1}; the action is the displacement, position +=
action (then clipped to the world), and the expert's last one is 0, so an episode of T control steps is one
chunk of T actions. Collisions are remembered and end nothing: every episode has T steps, the last of which
is terminal (`done` without `truncation`).

With m_k(t) the mean path of mode k, K modes, and D(p, k) = mean_t |p_t - m_k(t)|:

  nearest mode    argmin_k D(p, k)
  success         no visited position lies in an obstacle (positions are checked, the segments between
                  them are not); the end lies within max(.1, E|e| + 5 Std|e|) of some m_k(T-1), e the
                  experts' error at the end; the path is at least half as long as the experts' mean path
  mode label      the nearest mode on success, -1 before the end and after a failure
  bridge          D(p, nearest) > r, r = max(Delta / 4, the tube that holds the experts), Delta the smallest
                  mean distance of two mean paths: a path outside the tube of every mode. Between two modes
                  at the distance Delta, the middle half is a bridge

The experts' statistics are closed forms in the noise (Rayleigh and Rice moments), where the published
protocol takes them from the recorded data; only the clip at the border of the world is neglected.
K, the noise and the geometry are traced: everything reads `state.info["params"]`. The action box is not: it
holds the largest mean step over all K plus 6 standard deviations of the steps at the built configuration.

Source: tasks and protocol of "Understanding Multimodal Failure in Action-Chunking Behavioral Cloning",
https://arxiv.org/abs/2605.22493.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.observations import Obs, ObsSpec
from mmbc_jax.core.options import Options
from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, State
from mmbc_jax.envs.synthetic._path_geometry import PathGeometry
from mmbc_jax.envs.synthetic._statistics import RAYLEIGH_MEAN, RAYLEIGH_STD, SIGMAS

PLANE = ObsSpec.vector(2, low=(0.0, 0.0), high=(1.0, 1.0))
REACH = 0.1


class PathTask(PathGeometry):
    """A task from a geometry; see the module docstring.

    `State.data` is {"step": [] int32, "position": [2], "distances": [M] sum over time of the distance to each
    mean path, "length": [], "collision": [], and the constants of the episode "tube", "reach" and
    "least_length": []}. M is `MAX_MODES` where K is a traced parameter, else K.

    Subclasses give the geometry, `expert`, and `vector` where more than the position is observed.

    Args:
      options: of the task.
      mode_names: K labels.
      points: T.
      rows: M.
      obs: what is observed.
    """

    def __init__(
        self, options: Options, mode_names: tuple[str, ...], points: int, rows: int = 0, obs: ObsSpec = PLANE
    ):
        super().__init__(points, rows or len(mode_names))
        self.options = options
        bound = self._box()
        self.scale = np.asarray(bound, np.float32)
        self.spec = EnvSpec(
            name=options.name,
            obs_dim=obs.size,
            action_dim=2,
            episode_length=points,
            num_modes=len(mode_names),
            action_low=tuple(-b for b in bound),
            action_high=bound,
            mode_names=mode_names,
            position=(0, 1) if obs.size else (),
            obs=obs,
        )

    def vector(self, state: State) -> Array:
        """[D] the observed numbers, the position first."""
        return state.data["position"]

    def observe(self, state: State) -> Obs:
        """The observation of a state."""
        return self.vector(state)

    def plotted(self, state: State) -> Array:
        """[2] the position."""
        return state.data["position"]

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """Starts at `start`, with every metric of the end at 0 and `nearest_mode` at -1."""
        state = self.begin(key, params)
        return state.replace(obs=self.observe(state))

    def step(self, state: State, action: Array) -> State:
        """Displaces the point by the clipped action; the T-th step terminates and pays 1 on success."""
        nstate = self.advance(state, action)
        return nstate.replace(obs=self.observe(nstate))

    def begin(self, key: Key, params: PyTree | None) -> State:
        """The first state of an episode, without its observation."""
        params = self.default_params() if params is None else params
        position = self.start(params, key)
        spread, zero = self.spread(params), jnp.zeros(())
        reach = (RAYLEIGH_MEAN + SIGMAS * RAYLEIGH_STD) * spread.end
        collision = self.collides(params, position).astype(jnp.float32)
        data = {
            "step": jnp.zeros((), jnp.int32),
            "position": position,
            "distances": self._distances(params, position, jnp.zeros((), jnp.int32)),
            "length": zero,
            "collision": collision,
            "tube": jnp.maximum(0.25 * self.separation(params), spread.distance),
            "reach": jnp.maximum(REACH, reach),
            "least_length": 0.5 * self.expert_length(params),
        }
        ended = {"success": zero, "nearest_mode": zero - 1.0, "bridge": zero, "path_distance": zero}
        return State(
            data=data,
            obs={},
            reward=zero,
            done=zero,
            metrics=ended | {"collision": collision},
            info={"mode": jnp.full((), -1, jnp.int32), "params": params},
        )

    def advance(self, state: State, action: Array) -> State:
        """The state one control step later, without its observation."""
        params, data = state.info["params"], state.data
        displaced = data["position"] + self.scale * jnp.clip(action, -1.0, 1.0)
        position, step = jnp.clip(displaced, 0.0, 1.0), data["step"] + 1
        collision = jnp.maximum(data["collision"], self.collides(params, position).astype(jnp.float32))
        length = data["length"] + jnp.linalg.norm(position - data["position"])
        # The T-th step leads to a position beyond the path; the expert stands still there.
        met = jnp.where(step < self.points, self._distances(params, position, step), 0.0)
        distances, last = data["distances"] + met, step >= self.points
        modes = self._modes(params)
        nearest, path_distance = modes[jnp.argmin(distances)], distances.min() / self.points
        ends = self.point(params, modes, jnp.ones(()))
        arrived = jnp.linalg.norm(position - ends, axis=-1).min() <= data["reach"]
        success = last & (collision == 0) & arrived & (length >= data["least_length"])
        metrics = {
            "success": success.astype(jnp.float32),
            "collision": collision,
            "nearest_mode": jnp.where(last, nearest, -1).astype(jnp.float32),
            "bridge": (last & (path_distance > data["tube"])).astype(jnp.float32),
            "path_distance": jnp.where(last, path_distance, 0.0),
        }
        moved = {"step": step, "position": position, "distances": distances, "length": length}
        return state.replace(
            data=data | moved | {"collision": collision},
            obs={},
            reward=metrics["success"],
            done=last.astype(jnp.float32),
            metrics=metrics,
            info=state.info | {"mode": jnp.where(success, nearest, -1).astype(jnp.int32)},
        )

    def draw(self, ax: Any) -> None:
        """Obstacles and thin mean paths at the default parameters."""
        params = self.default_params()
        for centre, half in zip(*map(np.asarray, self.boxes(params)), strict=True):
            if (half > 0).all():
                x, y = np.stack([centre - half, centre + half], -1)
                ax.fill_between(x, y[0], y[1], color="0.6", linewidth=0, zorder=0)
        for path in np.asarray(self.mean_paths(params))[: self.spec.num_modes]:
            ax.plot(*path.T, color="0.75", linewidth=0.6, zorder=1)
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="x", ylabel="y")

    def _box(self) -> tuple[float, ...]:
        """Largest action per axis: of the mean paths with all rows in use, plus 6 deviations."""
        params = self.default_params()
        widest = params | {"num_modes": self.rows} if "num_modes" in params else params
        steps = np.abs(np.diff(np.asarray(self.mean_paths(widest)), axis=1)).max((0, 1))
        return tuple(float(s) for s in steps + 6.0 * np.asarray(self.spread(params).step).max())
