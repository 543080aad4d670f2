r"""Whether what lies off the modes lies between them or around one.

A point x outside every tube is *between* modes where it is within a tube's width of an average of mode paths: with
p = sum_k l_k m_k (l_k >= 0, sum_k l_k = 1) the point nearest to x of the convex hull of the modes' mean paths,

  |x - p| <= sum_k l_k r_k   and   l is not all on one mode,

r_k the radii of the tubes. For two modes that is the capsule from one tube to the other, for more what averages of
some of them fill. Else it is *around* a mode: it left its tube in a direction in which no other mode lies.

Hypothesis: paths have many more entries than there are modes, so that noise inside a mode hardly ever points at
another one. In few dimensions noise towards a neighbour counts as between.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from mmbc_jax.diagnostics._path_metric import LocalModes

_TIGHT = 1e3  # weight of sum_k l_k = 1 in the least squares, in units of the hull
_WHOLE = 1e-6  # share of other modes below which l is all on one


def between(modes: LocalModes, points: np.ndarray) -> np.ndarray:
    """[n] bool, for points [n, P] outside every tube: between modes, and not around one."""
    if modes.count < 2:
        return np.zeros(len(points), bool)
    origin = modes.centres.mean(axis=0)
    centred = modes.centres - origin
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    corners, inside = centred @ axes.T, (points - origin) @ axes.T
    aside = np.maximum(np.square(points - origin).sum(1) - np.square(inside).sum(1), 0.0)
    tight = _TIGHT * np.abs(corners).max()
    system = np.vstack([corners.T, np.full(len(corners), tight)])
    found = np.zeros(len(points), bool)
    for i, (x, rest) in enumerate(zip(inside, aside, strict=True)):
        share = nnls(system, np.append(x, tight))[0]
        distance = np.sqrt(np.square(x - share @ corners).sum() + rest)
        by_mode = np.bincount(modes.group, share, minlength=modes.count)
        found[i] = distance <= share @ modes.tube and by_mode.max() < 1.0 - _WHOLE
    return found
