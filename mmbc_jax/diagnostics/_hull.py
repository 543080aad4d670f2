r"""Whether what lies off the modes lies between them or around one.

A point x outside every tube has left the modes, and its departure has two parts: with p = sum_k l_k m_k (l_k >= 0,
sum_k l_k = 1) the point nearest to x of the convex hull of the modes' mean paths, and m the mean path nearest to p,

  along = |p - m|   towards other modes,      aside = |x - p|   away from all of them.

x is *between* modes, a bridge, where along >= aside and no mode has `OWN` of l; else it is *around* a mode,
over-dispersed inside it. (A mode has several mean paths where labels merged, and p may lie between those.) Halfway
between two modes that allows as much noise as half of their distance, and what lies beyond a mode has along = 0.
With three modes and more, the hull is filled by what averages some of them.

Hypothesis: paths have many more entries than the hull has dimensions, so that noise inside a mode hardly ever
points at another one. In few dimensions noise towards a neighbour counts as between.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from mmbc_jax.diagnostics._path_metric import LocalModes

OWN = 0.9
_TIGHT = 1e3  # weight of sum_k l_k = 1 in the least squares, in units of the hull


def between(modes: LocalModes, points: np.ndarray) -> np.ndarray:
    """[n] bool, for points [n, P] outside every tube: between modes, and not around one."""
    if modes.count < 2:
        return np.zeros(len(points), bool)
    origin = modes.centres.mean(axis=0)
    centred = modes.centres - origin
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    corners, inside = centred @ axes.T, (points - origin) @ axes.T
    off_plane = np.maximum(np.square(points - origin).sum(1) - np.square(inside).sum(1), 0.0)
    tight = _TIGHT * np.abs(corners).max()
    system = np.vstack([corners.T, np.full(len(corners), tight)])
    found = np.zeros(len(points), bool)
    for i, (x, rest) in enumerate(zip(inside, off_plane, strict=True)):
        share = nnls(system, np.append(x, tight))[0]
        nearest = share @ corners
        along = np.square(nearest - corners).sum(1).min()
        aside = np.square(x - nearest).sum() + rest
        by_mode = np.bincount(modes.group, share, minlength=modes.count)
        found[i] = along >= aside and by_mode.max() < OWN
    return found
