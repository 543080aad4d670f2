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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmbc_jax.core.types import Array, EnvSpec, Key, PyTree, State
from mmbc_jax.envs.synthetic._statistics import RAYLEIGH_MEAN, RAYLEIGH_STD, rice_mean

MAX_MODES = 64  # of the tasks where K is traced
REACH = 0.1
SIGMAS = 5.0


class Spread(NamedTuple):
    """How the experts scatter around their mean path; isotropic Gaussian errors.

    Attributes:
      end: [] standard deviation per axis of the last position.
      step: [T - 1] standard deviation per axis of each displacement.
      distance: [] a bound that an expert's mean distance D from its own mean path keeps.
    """

    end: Array
    step: Array
    distance: Array


class PathTask:
    """A task from a geometry; see the module docstring.

    `State.data` is {"step": [] int32, "position": [2], "distances": [M] sum over time of the distance to each
    mean path, "length": [], "collision": [], and the constants of the episode "tube", "reach" and
    "least_length": []}. M is `MAX_MODES` where K is a traced parameter, else K.

    Subclasses give `default_params`, `point`, `boxes` (and `collides` where there is a shorter way), `spread`,
    `start` and `expert`.

    Args:
      cfg: section of the config, with `name`.
      mode_names: K labels.
      points: T.
      rows: M.
      obs_dim: D.
    """

    shifts: tuple[int, ...] = (1,)  # some closest pair of modes is (k, k + shift mod K)

    def __init__(
        self, cfg: ConfigDict, mode_names: tuple[str, ...], points: int, rows: int = 0, obs_dim: int = 2
    ):
        self.cfg, self.points = cfg, points
        self.rows = rows or len(mode_names)
        bound = self._box()
        self.scale = np.asarray(bound, np.float32)
        self.spec = EnvSpec(
            name=cfg.name,
            obs_dim=obs_dim,
            action_dim=2,
            episode_length=points,
            num_modes=len(mode_names),
            action_low=tuple(-b for b in bound),
            action_high=bound,
            mode_names=mode_names,
            position=(0, 1),
        )

    def default_params(self) -> PyTree:
        """The traced parameters; "num_modes" among them where K is free."""
        raise NotImplementedError

    def point(self, params: PyTree, mode: Array, phase: Array) -> Array:
        """Mean path [..., 2] of `mode` [...] int32 at `phase` [...] = t / (T - 1)."""
        raise NotImplementedError

    def boxes(self, params: PyTree) -> tuple[Array, Array]:
        """Obstacles: (centres [n, 2], half sizes [n, 2]); a negative half size is no obstacle."""
        raise NotImplementedError

    def spread(self, params: PyTree) -> Spread:
        """How the experts scatter."""
        raise NotImplementedError

    def start(self, params: PyTree, key: Key) -> Array:
        """Draws the first position [2]."""
        raise NotImplementedError

    def collides(self, params: PyTree, position: Array) -> Array:
        """[...] bool: `position` [..., 2] lies in an obstacle, border included."""
        centres, halves = self.boxes(params)
        return (jnp.abs(position[..., None, :] - centres) <= halves).all(-1).any(-1)

    def mean_paths(self, params: PyTree) -> Array:
        """[M, T, 2] mean path of every mode; rows beyond K repeat row 0, so a minimum needs no mask."""
        phase = jnp.arange(self.points) / (self.points - 1)
        return self.point(params, self._modes(params)[:, None], phase[None])

    def separation(self, params: PyTree) -> Array:
        """[] Delta, the smallest mean distance of two mean paths; 0 where K = 1."""
        paths, modes = self.mean_paths(params), self._modes(params)
        others = [(modes + shift) % self._count(params) for shift in self.shifts]
        distances = [jnp.linalg.norm(paths - paths[other], axis=-1).mean(-1) for other in others]
        return jnp.stack(distances).min()

    def expert_length(self, params: PyTree) -> Array:
        """[] mean over modes of the experts' expected path length, sum_t E|d_t + s_t n|."""
        steps = jnp.linalg.norm(jnp.diff(self.mean_paths(params), axis=1), axis=-1)
        lengths = rice_mean(steps, self.spread(params).step).sum(-1)
        real = jnp.arange(self.rows) < self._count(params)
        return jnp.where(real, lengths, 0.0).sum() / real.sum()

    def reset(self, key: Key, params: PyTree | None = None) -> State:
        """Starts at `start`, with every metric of the end at 0 and `nearest_mode` at -1."""
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
            obs=position,
            reward=zero,
            done=zero,
            metrics=ended | {"collision": collision},
            info={"mode": jnp.full((), -1, jnp.int32), "params": params},
        )

    def step(self, state: State, action: Array) -> State:
        """Displaces the point by the clipped action; the T-th step terminates and pays 1 on success."""
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
            obs=position,
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

    def _count(self, params: PyTree) -> Array:
        """[] K."""
        return jnp.asarray(params.get("num_modes", self.rows), jnp.int32)

    def _modes(self, params: PyTree) -> Array:
        """[M] int32: 0, ..., K - 1, then 0."""
        row = jnp.arange(self.rows)
        return jnp.where(row < self._count(params), row, 0)

    def _mean(self, params: PyTree, mode: Array, step: Array) -> Array:
        """[..., 2] mean path of `mode` [...] at time `step`; the last position from then on."""
        return self.point(params, mode, jnp.minimum(step, self.points - 1) / (self.points - 1))

    def _distances(self, params: PyTree, position: Array, step: Array) -> Array:
        """[M] distance of `position` [2] to every mean path at time `step`."""
        return jnp.linalg.norm(position - self._mean(params, self._modes(params), step), axis=-1)

    def _box(self) -> tuple[float, ...]:
        """Largest action per axis: of the mean paths with all rows in use, plus 6 deviations."""
        params = self.default_params()
        widest = params | {"num_modes": self.rows} if "num_modes" in params else params
        steps = np.abs(np.diff(np.asarray(self.mean_paths(widest)), axis=1)).max((0, 1))
        return tuple(float(s) for s in steps + 6.0 * np.asarray(self.spread(params).step).max())


class NoisyPath(PathTask):
    """A path task of T = 60 whose demonstrations carry i.i.d. Gaussian noise on every position.

    p_t = clip(m_k(t) + sigma n_t), n_t resampled until it is free of collisions, at most 50 draws. The noise
    does not accumulate: the expert's action is (target with fresh noise) - (where it stands), a function of
    the clock, which also leads a displaced state back.
    """

    POINTS, TRIES = 60, 50

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
