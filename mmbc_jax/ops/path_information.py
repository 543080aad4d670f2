r"""Estimates of information from samples, with intervals over them: contrastive, by neighbours, and at a resolution.

All in nats, on the host. Intervals are percentile bootstraps over the samples (`intervals.bootstrap` says how): they
hold what another draw of as many samples would change, and not the bias of the estimate.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.spatial.distance import cdist

from mmbc_jax.ops.intervals import bootstrap

if TYPE_CHECKING:  # no checker can tell at run time what numpy takes for an array
    from numpy.typing import ArrayLike

_DOUBT = 0.02
_JITTER = 1e-10  # of the spread of a coordinate: samples that coincide have no distances to speak of


class Estimate(NamedTuple):
    """An estimate in nats with the ends of its interval."""

    value: float
    low: float
    high: float


def _checked(points: ArrayLike) -> Float64[np.ndarray, "n E"]:
    array = np.asarray(points, np.float64)
    if array.ndim != 2 or len(array) < 2:
        raise ValueError(f"points of shape {array.shape}; [n, E] with n >= 2 needed")
    if not np.isfinite(array).all():
        raise ValueError("points must be finite")
    return array


def _labels(label: ArrayLike, count: int) -> Int64[np.ndarray, " n"]:
    array = np.asarray(label)
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"labels of shape {array.shape} and type {array.dtype}; {count} whole numbers needed"
        )
    return array.astype(np.int64)


def _weights(count: int, resamples: int, seed: int) -> Float64[np.ndarray, "n R"]:
    """[n, R] shares of the samples in R samples of size n drawn with replacement."""
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=resamples)
    return drawn.T / count


def _about(value: float, values: np.ndarray, level: float) -> Estimate:
    """A value with what resampling makes of it, `values`, less their mean's distance from it.

    Samples that a resampling repeats tell less, of K groups some (K - 1) / 2n nats, which is no part of what another
    draw would change.
    """
    return Estimate(value, *_interval(values + (value - values.mean()), level))


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def contrastive_information(
    scores: ArrayLike, label: ArrayLike, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Estimate:
    r"""InfoNCE of pairs (x_i, z_i) under a critic f, from below.

    `1/n sum_i [ f(x_i, z_i) - log 1/n sum_j exp f(x_j, z_i) ]`: how much better the critic tells x_i from the other
    samples, given its z, than a guess. For any f that does not depend on these samples its mean is at most I(X; Z)
    (van den Oord et al. 2018, Poole et al. 2019), and log n; with f = log q(z|x) of the true posterior it tends to
    I(X; Z). What a critic says of z in general costs nothing here, and the variational bound something.

    Args:
      scores: [n, Z] finite, f(x_i, z) of every label.
      label: [n] z_i in [0, Z).
      level: coverage of the interval.
      resamples: of the bootstrap.
      seed: of the bootstrap.

    Returns:
      The estimate; not above log n, negative where the critic is worse than none.

    Raises:
      ValueError: shapes that do not fit, or numbers that are not finite.
    """
    found = _checked(scores)
    z = _labels(label, len(found))
    if z.min() < 0 or z.max() >= found.shape[1]:
        raise ValueError(f"labels from {z.min()} to {z.max()} with {found.shape[1]} scores each")
    chosen = np.eye(found.shape[1])[z]
    own = (found * chosen).sum(1)
    top = found.max(0)  # of each label, so that no exponential overflows
    likeness = np.exp(found - top)

    def values(weights: np.ndarray) -> np.ndarray:
        normaliser = np.log(np.maximum(likeness.T @ weights, 1e-300)) + top[:, None]
        return np.asarray(own @ weights - ((chosen.T @ weights) * normaliser).sum(0))

    value = values(np.full((len(found), 1), 1.0 / len(found)))[0]
    return _about(float(value), values(_weights(len(found), resamples, seed)), level)


def kernel_scores(
    points: ArrayLike, label: ArrayLike, asked: ArrayLike, num_labels: int
) -> Float64[np.ndarray, "m Z"]:
    r"""log q(z|x) at other points, of a kernel vote of labelled ones: a critic that doubts where labels overlap.

    `q(z|x) = (1 - d) sum_j 1[z_j = z] K_j / sum_j K_j + d share_z`, `K_j = exp(-|x - x_j|^2 / 2 h^2)` (Nadaraya 1964,
    Watson 1964), with d = .02, so that one confident mistake does not decide a mean. h is the one of 16, from the
    median distance to a nearest neighbour up to the root mean square distance of two points, under which the labels
    of the labelled points are likeliest when no point has a vote on its own.

    Args:
      points: [n, E] finite.
      label: [n] in [0, Z).
      asked: [m, E] finite.
      num_labels: Z.

    Returns:
      [m, Z], at least log(d share_z).

    Raises:
      ValueError: shapes that do not fit, or numbers that are not finite.
    """
    found, other = _checked(points), _checked(asked)
    z = np.eye(num_labels)[_labels(label, len(found))]
    share = np.maximum(z.mean(0), 1.0 / len(found) ** 2)
    within, across = (cdist(one, found, "sqeuclidean") for one in (found, other))
    np.fill_diagonal(within, np.inf)
    widest = math.sqrt(max(2.0 * float(found.var(0).sum()), 1e-300))
    least = min(max(math.sqrt(float(np.median(within.min(1)))), 1e-6 * widest), widest)

    def scores(squares: np.ndarray, h: float) -> np.ndarray:
        votes = np.exp((squares.min(1, keepdims=True) - squares) / (2.0 * h * h))
        return np.asarray(np.log((1.0 - _DOUBT) * votes @ z / votes.sum(1, keepdims=True) + _DOUBT * share))

    widths = np.geomspace(least, widest, 16)
    likely = [float((scores(within, h) * z).sum()) for h in widths]
    return scores(across, float(widths[int(np.argmax(likely))]))


def neighbour_information(
    points: ArrayLike,
    label: ArrayLike,
    neighbours: int = 3,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    r"""Information of a continuous x and a discrete z by nearest neighbours, without a fit.

    With d_i the distance of x_i to its k-th neighbour among the N_i samples of its label, and m_i the samples of any
    label that are no farther, `I = psi(N) + psi(k) - < psi(N_i) + psi(m_i) >` (Ross 2014, after Kraskov et al. 2004).
    Its bias vanishes with N; in many dimensions it is too small, since neighbours are far. Labels with one sample
    say nothing and are left out; k is lowered for labels with k samples or fewer. Samples that coincide are told
    apart by 1e-10 of the spread, as scikit-learn does for one dimension.

    Args:
      points: [n, E] finite.
      label: [n] whole numbers.
      neighbours: k >= 1.
      level: coverage of the interval.
      resamples: of the bootstrap, which draws the terms of the mean above and leaves the neighbours as they are.
      seed: of the bootstrap, and of what tells samples apart.

    Returns:
      The estimate, not cut off at 0; 0 where no label has two samples.

    Raises:
      ValueError: shapes that do not fit, or numbers that are not finite.
    """
    from scipy.spatial import cKDTree
    from scipy.special import digamma

    found = _checked(points)
    z = _labels(label, len(found))
    names, index, counts = np.unique(z, return_inverse=True, return_counts=True)
    kept = counts[index] > 1
    if neighbours < 1:
        raise ValueError(f"{neighbours} neighbours; at least 1 needed")
    if not kept.any():
        return Estimate(0.0, 0.0, 0.0)
    found, index = found[kept], index[kept]
    rng = np.random.default_rng(seed)
    found = found + _JITTER * np.maximum(found.std(0), 1e-30) * rng.standard_normal(found.shape)
    radius, k = np.zeros(len(found)), np.minimum(neighbours, counts[index] - 1)
    for one in range(len(names)):
        rows = np.flatnonzero(index == one)
        if len(rows):
            nearest = cKDTree(found[rows]).query(found[rows], [int(k[rows[0]]) + 1])[0]
            radius[rows] = np.nextafter(nearest[:, 0], 0.0)
    within = cKDTree(found).query_ball_point(found, radius, return_length=True)
    terms = digamma(len(found)) + digamma(k) - digamma(counts[index]) - digamma(within)
    return Estimate(float(terms.mean()), *bootstrap(terms, level=level, resamples=resamples, seed=seed))


def resolved_information(
    points: ArrayLike,
    sigma: float,
    draws: int = 4,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    r"""How much samples tell of themselves through noise: I(X; X + sigma e), e ~ N(0, I).

    `-E log 1/n sum_j exp(-(|x_i + sigma e - x_j|^2 - |sigma e|^2) / 2 sigma^2)`, which is the information of the
    channel when its input is uniform over the n samples, exact but for the draws of e. That of a channel is concave
    in the distribution of its input, so on average this is below that of the distribution the samples come from. K
    groups farther apart than sigma and narrower than it count log K: a number of modes without labels of modes, e^I
    of them. A spread s within a mode adds 1/2 log(1 + s^2 / sigma^2) for each direction.

    Args:
      points: [n, E] finite.
      sigma: the resolution, > 0, in the points' units.
      draws: of e for each sample.
      level: coverage of the interval.
      resamples: of the bootstrap over samples.
      seed: of e and of the bootstrap.

    Returns:
      The estimate, at most log n.

    Raises:
      ValueError: shapes or numbers that cannot work.
    """
    found = _checked(points)
    if not (sigma > 0 and math.isfinite(sigma)) or draws < 1:
        raise ValueError(f"resolution {sigma} with {draws} draws; both must be above 0")
    count = len(found)
    unit = (found - found.mean(0)) / sigma
    squares = np.square(unit).sum(1)
    apart = np.maximum(squares[:, None] + squares - 2.0 * unit @ unit.T, 0.0) / 2.0
    rng = np.random.default_rng(seed)
    even, drawn = np.full((count, 1), 1.0 / count), _weights(count, resamples, seed + 1)
    value, spread = 0.0, np.zeros(resamples)
    for _ in range(draws):
        along = rng.standard_normal(unit.shape) @ unit.T
        likeness = apart + np.diagonal(along)[:, None] - along
        top = likeness.min(1, keepdims=True)
        weight = np.exp(top - likeness)
        value += float((top - np.log(weight @ even)).mean())
        spread += (drawn * (top - np.log(np.maximum(weight @ drawn, 1e-300)))).sum(0)
    return _about(value / draws, spread / draws, level)


def principal(points: Float[np.ndarray, "n E"], count: int) -> Float64[np.ndarray, "n C"]:
    """[n, min(count, E)] coordinates of points [n, E] along the directions of their largest variance."""
    centred = _checked(points)
    centred = centred - centred.mean(0)
    return np.asarray(centred @ np.linalg.svd(centred, full_matrices=False)[2][:count].T)
