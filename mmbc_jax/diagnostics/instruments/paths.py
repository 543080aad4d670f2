r"""Instrument: how much the paths of the evaluated episodes tell, in nats; of stages that clone nothing, too.

A path is its plotted positions at `points` even fractions of the horizon, held where the episode ended, in normalised
units and over sqrt(points): the Euclidean distance of two paths is the root mean square over time of that in the
plane. Episodes in which the environment diverged are left out.

  paths/information     I(X; X + sigma e) of the path X through noise of `resolution` sigma, from below: a number of
                        modes that needs neither labels nor commands, 0 for one mode, log K for K modes that are
                        equally frequent, narrower than sigma and farther apart. The proxy of Behavioral Mode
                        Discovery for a policy (0, .58 and 1.06 for 1, 2 and 4 modes) is what trained commands
                        extract at the discriminator's input noise; this is what there is to extract at that scale
  paths/z_contrastive   InfoNCE of command and path, from below: the critic is a kernel vote among half of the
                        episodes, asked about the others, so it is at most log(n / 2), too
  paths/z_neighbours    the same information by nearest neighbours (Ross 2014) in the first `components` principal
                        coordinates, without a fit; what these leave out it cannot see

Each has `_low` and `_high`, the 95 % bootstrap interval over episodes. Beside them stand `mi_estimate`, the bound of
the q that was trained, and `mi_z_mode`, what z tells of the mode: a path may tell much of z and little of modes.

Hypotheses: what matters shows in the plotted plane; the first `evaluation.paths` episodes are enough, since only
their positions are kept. The figures of z need two commands or more and are absent for a clone.
Sources: arXiv 2605.11387 (proxy), van den Oord et al. 2018, Ross 2014; `ops.path_information`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from mmbc_jax.core.options import Options, option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import EnvSpec, Key, Rollouts
from mmbc_jax.diagnostics.case import Case
from mmbc_jax.diagnostics.outcomes import DIVERGED
from mmbc_jax.ops import path_information as information
from mmbc_jax.ops.normalisation import Normalizer

_LEAST = 8  # episodes
_NARROW = 1e-9  # of a range that says nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class PathsOptions(Options):
    """How paths are compared."""

    points: int = option(16, "of the plotted positions, at even fractions of the horizon", low=2, high=1024)
    resolution: float = option(
        0.3, "sigma, distance at which paths begin to differ, in normalised units", low=0.0, open_low=True
    )
    neighbours: int = option(3, "k, of the estimate by nearest neighbours", low=1, high=1024)
    components: int = option(4, "principal coordinates of a path for nearest neighbours", low=1, high=64)
    resamples: int = option(1000, "of the bootstrap over episodes", low=2, high=2**16)


@dataclasses.dataclass(frozen=True)
class PathsInstrument:
    """See the module docstring.

    Attributes:
      options: of the plug-in.
      of_episodes: it asks the episodes alone, so that stages that clone nothing are measured, too.
    """

    of_episodes: ClassVar[bool] = True
    options: PathsOptions

    def measure(self, case: Case, key: Key) -> dict[str, float]:
        """The figures of the module docstring; empty without episodes whose positions are known."""
        rollouts, o = case.rollouts, self.options
        if rollouts is None or case.env is None or not case.env.spec.position:
            return {}
        path, kept = path_points(rollouts, case.normalizer, case.env.spec, o.points)
        if len(path) < _LEAST:
            return {}
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
        drawn = {"resamples": o.resamples, "seed": seed}
        found = {"information": information.resolved_information(path, o.resolution, **drawn)}
        z = np.asarray(rollouts.z)[: len(kept)][kept]
        names, label = np.unique(z, return_inverse=True)
        if len(names) > 1:
            near = information.principal(path, o.components)
            found["z_neighbours"] = information.neighbour_information(near, label, o.neighbours, **drawn)
            order = np.random.default_rng(seed).permutation(len(label))
            told, asked = order[: len(order) // 2], order[len(order) // 2 :]
            scores = information.kernel_scores(path[told], label[told], path[asked], len(names))
            found["z_contrastive"] = information.contrastive_information(scores, label[asked], **drawn)
        return {
            f"paths/{name}{end}": value
            for name, estimate in found.items()
            for end, value in zip(("", "_low", "_high"), estimate, strict=True)
        }


def path_points(
    rollouts: Rollouts, normalizer: Normalizer, spec: EnvSpec, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Plotted paths as points.

    Args:
      rollouts: of one run.
      normalizer: of its observations, also of several of them one after another.
      spec: of the environment, with positions.
      count: positions of a path.

    Returns:
      ([n, 2 count] points whose Euclidean distance is the RMS distance of paths in normalised units, [P] bool which
      of the plotted episodes they are of).
    """
    path = np.asarray(rollouts.path, np.float64)
    steps = np.asarray(rollouts.path_mask).sum(1).astype(int)
    at = np.minimum(
        np.linspace(0, path.shape[1] - 1, count).round().astype(int), np.maximum(steps - 1, 0)[:, None]
    )
    low, high = (_position(normalizer, bound, spec) for bound in ("obs_low", "obs_high"))
    half = np.maximum(high - low, _NARROW) / 2.0
    points = (path[np.arange(len(path))[:, None], at] - (low + high) / 2.0) / half / count**0.5
    diverged = np.asarray(rollouts.outcome.get(DIVERGED, np.zeros(len(rollouts.success))))[: len(path)]
    kept = (diverged == 0) & (steps > 0) & np.isfinite(points).all((1, 2))
    return points.reshape(len(points), -1)[kept], kept


def _position(normalizer: Normalizer, bound: str, spec: EnvSpec) -> np.ndarray:
    """[2] bound of the plotted position."""
    seen = sum(np.shape(leaf)[-1] for leaf in jax.tree.leaves(normalizer.obs_low))
    one = normalizer.without_history(max(seen // spec.obs_dim, 1))
    return np.asarray(spec.obs.flat(getattr(one, bound)), np.float64)[list(spec.position)]


@register("diagnostic", PathsOptions)
def build(options: PathsOptions) -> PathsInstrument:
    """The instrument."""
    return PathsInstrument(options)
