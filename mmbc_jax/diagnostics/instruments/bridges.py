r"""Instrument: what a policy puts between the modes, and where in its base that comes from.

At anchors with labels (tubes, sets and groups as in `diagnostics._path_metric`):

  bridges/samples             of the policy at an anchor
  bridges/modes               G, modes demonstrated at the anchor
  bridges/off_support         share of samples outside every tube
  bridges/between, bridges/around   the two parts of `off_support`: samples that left their mode towards others,
                              which are bridges, and those that left it sideways, which are over-dispersion
                              (`diagnostics._hull`)
  bridges/off_support_demos   the same of the demonstrations themselves, the level that counts as none
  bridges/multimodal          share of the anchors with two modes or more
  bridges/reached             share of the modes with at least a tenth of their demonstrated share
  bridges/served              the same where a sample counts for the mode that it is nearest to, inside its tube or
                              not, and one between modes for none: what dispersion leaves of `reached`
  bridges/spread              deviation of the samples from their mean over that of the demonstrations:
                              0 for a deterministic policy
  bridges/middle              mean distance of samples over that of demonstrations from the demonstrations'
                              mean path: small where samples gather in the middle of the modes
  bridges/base_norm, bridges/base_norm_others   mean |w|^2 / dim of off-support samples and of the others
  bridges/walk_off            share of a walk between modes in base space that is off-support
  bridges/sharpness           largest over mean speed |dT/dtau| on such a walk: 1 for a straight line,
                              about S for a jump seen in S steps

Without labels a sample is off-support where its nearest demonstration is farther than the .99 quantile of the
demonstrations' distances to their own nearest (leave one out), `between`, `around` and `multimodal` go by groups
of the demonstrations (`diagnostics.data_separation.cluster`), and `modes`, `reached`, `served` and walks are absent.

Hypotheses: those of `diagnostics._path_metric`; the unlabelled rule also needs demonstrations dense enough that a
gap between modes is wider than the gaps within one. Walks need a base without integer leaves: between codes
there is no path to walk. Bridge mass and sharpness: arXiv 2605.22493.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial.distance import cdist

from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Key
from mmbc_jax.diagnostics._hull import between
from mmbc_jax.diagnostics._path_metric import (
    OFF,
    TUBE_QUANTILE,
    Anchor,
    AnchorOptions,
    AnchorRule,
    LocalModes,
    average,
    draw,
    local_modes,
    shares,
)
from mmbc_jax.diagnostics._walks import base_kind, flat_leaves, walk_between
from mmbc_jax.diagnostics.case import Case
from mmbc_jax.diagnostics.data_separation import cluster

REACHED = 0.1
_LEAST = 5  # samples for a mean of base norms
_LEAST_SERVING = 0.25  # share of the samples that must not be bridges for `served`
_MOST_GROUPS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class BridgesOptions(AnchorOptions):
    """Anchors, and the walks."""

    walks: int = option(16, "pairs of base samples that are walked between at each anchor", low=1, high=2**16)
    steps: int = option(64, "S, steps of a walk", low=2, high=2**16)


@dataclasses.dataclass(frozen=True)
class BridgesInstrument:
    """See the module docstring.

    Attributes:
      options: of the plug-in.
    """

    options: BridgesOptions

    def measure(self, case: Case, key: Key) -> dict[str, float]:
        """The figures of the module docstring; empty where no observation has enough demonstrations."""
        return average(AnchorRule(self.options).visit(self._at, case, key))

    def _at(self, case: Case, anchor: Anchor, key: Key) -> dict[str, float]:
        w, drawn = draw(case, key, anchor.obs, self.options.samples)
        points, modes = np.asarray(drawn, np.float64), anchor.modes
        if modes is None:
            label, known = _near(anchor.points, points), _near(anchor.points)
            groups = _clustered(anchor.points)
        else:
            label, known, groups = modes.assign(points), modes.assign(anchor.points), modes
        bridge = np.zeros(len(points), bool)
        bridge[label == OFF] = between(groups, points[label == OFF])
        centre = anchor.points.mean(axis=0)
        found = {
            "bridges/samples": len(points),
            "bridges/off_support": float((label == OFF).mean()),
            "bridges/between": float(bridge.mean()),
            "bridges/around": float(((label == OFF) & ~bridge).mean()),
            "bridges/multimodal": float(groups.count > 1),
            "bridges/off_support_demos": float((known == OFF).mean()),
            "bridges/spread": _ratio(_deviation(points), _deviation(anchor.points)),
            "bridges/middle": _ratio(_distance(points, centre), _distance(anchor.points, centre)),
        }
        flat = np.asarray(flat_leaves(w))
        if flat.shape[1]:
            norm = np.square(flat).mean(axis=1)
            for name, rows in (("base_norm", label == OFF), ("base_norm_others", label != OFF)):
                if rows.sum() >= _LEAST:
                    found[f"bridges/{name}"] = float(norm[rows].mean())
        if modes is None:
            return found
        found |= {"bridges/modes": modes.count, "bridges/reached": _reached(modes, label)}
        if np.mean(~bridge) >= _LEAST_SERVING:
            found["bridges/served"] = _reached(modes, modes.nearest(points[~bridge]))
        discrete, normal = base_kind(case, anchor.obs, w)
        if discrete or not flat.shape[1]:
            return found
        walks = walk_between(case, anchor, w, label, self.options.walks, self.options.steps, normal)
        if walks is None:
            return found
        on_the_way = modes.assign(walks.points.reshape(-1, walks.points.shape[-1]))
        speed = walks.length.max(axis=1) / np.maximum(walks.length.mean(axis=1), 1e-12)
        return found | {
            "bridges/walk_off": float((on_the_way == OFF).mean()),
            "bridges/sharpness": float(speed.mean()),
        }


def _reached(modes: LocalModes, label: np.ndarray) -> float:
    """Share of the modes that have at least a tenth of their demonstrated share among labels [n]."""
    return float((shares(label, modes.count)[:-1] >= REACHED * modes.share).mean())


def _clustered(points: np.ndarray) -> LocalModes:
    """Groups of demonstrations without labels as modes, one where they do not separate."""
    scale = np.maximum(points.std(), 1e-12)
    modes = local_modes(points, cluster(points / scale, _MOST_GROUPS, 0))
    modes = modes or local_modes(points, np.zeros(len(points), int))  # where every group is too small for one
    assert modes is not None
    return modes


def _near(demos: np.ndarray, points: np.ndarray | None = None) -> np.ndarray:
    """[n] 0 where a point is as near to a demonstration as these are to each other, else `OFF`."""
    between = cdist(demos, demos)
    np.fill_diagonal(between, np.inf)
    own = between.min(axis=1)
    distance = own if points is None else cdist(points, demos).min(axis=1)
    return np.where(distance <= np.quantile(own, TUBE_QUANTILE), 0, OFF)


def _deviation(points: np.ndarray) -> float:
    return float(np.sqrt(np.square(points - points.mean(axis=0)).sum(axis=1).mean()))


def _distance(points: np.ndarray, centre: np.ndarray) -> float:
    return float(np.linalg.norm(points - centre, axis=1).mean())


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference > 0 else float("nan")


@register("diagnostic", BridgesOptions)
def build(options: BridgesOptions) -> BridgesInstrument:
    """The instrument."""
    return BridgesInstrument(options)
