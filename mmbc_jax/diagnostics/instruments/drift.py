r"""Instrument: how closed-loop episodes leave the mean paths of the modes.

An evaluated episode visits x_0 .. x_T; m_k(t) is the mean path of mode k (its last point from its end on) and
k* the mode of the smallest mean distance over the episode. e_t = |x_t - m_k*(t)|, averaged over the
episodes still running at t:

  drift/final     e at each episode's last step, averaged
  drift/relative  the same over the mean length of the modes' paths
  drift/slope     least-squares slope of e_t per step
  drift/growth    mean of e_t over the last quarter of the steps over that over the first quarter
  drift/switches  changes of the mode per episode. A step is decided for mode k where every other mean path is
                  farther than that of k by Delta / 4; changes are counted between decided steps
  drift/middle    mean over steps of min(1, 2 d / Delta_t), d the distance to the nearer of the two nearest mean
                  paths and Delta_t their distance; 1 halfway between modes, over steps with Delta_t >= Delta / 2

Delta is the smallest mean distance over time of two mean paths. With one mode `switches` and `middle` are absent.

Hypotheses: the environment knows mean paths in the plotted plane (HasMeanPaths) and the same clock as
the episode, so that being early or late counts as deviation. An episode between two modes deviates from both:
`final` alone cannot tell drift from averaging. Compounding errors of cloned policies: Ross et al. 2011.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mmbc_jax.core.options import Options, option
from mmbc_jax.core.protocols import HasMeanPaths
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Key
from mmbc_jax.diagnostics.case import Case

_LEAST = 1e-9  # of a deviation that growth is measured against, in units of path length


@dataclasses.dataclass(frozen=True, kw_only=True)
class DriftOptions(Options):
    """What decides a step."""

    hysteresis: float = option(0.25, "lead that decides a step, in units of Delta", low=0.0)


@dataclasses.dataclass(frozen=True)
class DriftInstrument:
    """See the module docstring.

    Attributes:
      options: of the plug-in.
    """

    options: DriftOptions

    def measure(self, case: Case, key: Key) -> dict[str, float]:
        """The figures of the module docstring; empty without episodes or mean paths."""
        if case.rollouts is None or case.env is None or not isinstance(case.env, HasMeanPaths):
            return {}
        params = case.env.default_params() if case.env_params is None else case.env_params
        means = np.asarray(case.env.mean_paths(params), np.float64)[: case.env.spec.num_modes]
        path = np.asarray(case.rollouts.path, np.float64)
        mask = np.asarray(case.rollouts.path_mask) > 0
        moved = mask.sum(1) > 1  # the others were over when they began
        path, mask = path[moved], mask[moved]
        if not len(path) or not len(means) or path.shape[-1] != means.shape[-1]:
            return {}
        at, distance = clocked(path, means)
        found = _deviations(distance, mask, np.linalg.norm(np.diff(means, axis=1), axis=-1).sum(1).mean())
        return found | (self._choices(distance, at, mask) if len(means) > 1 else {})

    def _choices(self, distance: np.ndarray, at: np.ndarray, mask: np.ndarray) -> dict[str, float]:
        """Switches and middle from distances [P, K, L] to mean paths [K, L, 2]."""
        between = np.linalg.norm(at[:, None] - at, axis=-1)
        apart = between.mean(-1)[np.triu_indices(len(at), 1)].min()
        order = np.argsort(distance, axis=1)
        nearest, second = order[:, 0], order[:, 1]
        ranked = np.sort(distance, axis=1)
        lead = ranked[:, 1] - ranked[:, 0]
        decided = mask & (lead > self.options.hysteresis * apart)
        switches = [
            np.count_nonzero(np.diff(row[chosen])) for row, chosen in zip(nearest, decided, strict=True)
        ]
        local = between[nearest, second, np.arange(at.shape[1])]
        counted = mask & (local >= apart / 2)
        found = {"drift/switches": float(np.mean(switches))}
        if counted.any() and apart > 0:
            share = np.minimum(2 * ranked[:, 0][counted] / local[counted], 1.0)
            found["drift/middle"] = float(share.mean())
        return found


def clocked(path: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean paths [K, T, 2] at the steps of episodes [P, L, 2], as [K, L, 2], and distances to them [P, K, L]."""
    at = means[:, np.minimum(np.arange(path.shape[1]), means.shape[1] - 1)]
    return at, np.linalg.norm(path[:, None] - at, axis=-1)


def deviation(distance: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """e_t [P, L]: distances [P, K, L] to the mean paths, of the mode nearest over the steps in `mask` [P, L]."""
    own = ((distance * mask[:, None]).sum(-1) / mask.sum(-1)[:, None]).argmin(axis=1)
    return distance[np.arange(len(distance)), own]


def _deviations(distance: np.ndarray, mask: np.ndarray, length: float) -> dict[str, float]:
    """Figures of e_t from distances [P, K, L], a mask [P, L] and the modes' mean path length."""
    error = deviation(distance, mask)
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    final = float(error[np.arange(len(error)), last].mean())
    running = mask.any(axis=0)
    mean = (error * mask).sum(0)[running] / mask.sum(0)[running]
    quarter = max(len(mean) // 4, 1)
    early = mean[:quarter].mean()
    found = {"drift/final": final, "drift/slope": float(np.polyfit(np.arange(len(mean)), mean, 1)[0])}
    if length > 0:
        found["drift/relative"] = final / float(length)
        if early > _LEAST * length:
            found["drift/growth"] = float(mean[-quarter:].mean() / early)
    return found


@register("diagnostic", DriftOptions)
def build(options: DriftOptions) -> DriftInstrument:
    """The instrument."""
    return DriftInstrument(options)
