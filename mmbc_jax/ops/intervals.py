"""Confidence intervals: Wilson for proportions, over seeds inside a domain, bootstrap for other statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # no checker can tell at run time what numpy takes for an array
    from numpy.typing import ArrayLike

Interval = tuple[float, float]


def _stats() -> Any:
    """`scipy.stats`, imported where an interval is asked for: it is half of what a run would import at its start."""
    from scipy import stats

    return stats


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level {level} is not between 0 and 1")


def wilson(successes: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion.

    With `p = successes / n` and z the standard normal quantile at `(1 + level) / 2`:
    `(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`.
    Unlike the normal approximation it has width at p = 0 and p = 1.

    Args:
      successes: in [0, n].
      n: trials, >= 0; a number that is not whole where they are an equivalent.
      level: coverage in (0, 1).

    Returns:
      (low, high) within [0, 1]; (0, 1), that is no knowledge, where n is 0.

    Raises:
      ValueError: successes outside [0, n] or a level outside (0, 1).
    """
    _check_level(level)
    if n < 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials")
    if n == 0:
        return 0.0, 1.0
    z = float(_stats().norm.ppf(0.5 + level / 2.0))
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # at p = 0 and p = 1 one end is exact; rounding would leave it an ulp off
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + half) / scale)
    return low, high


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent runs.

    `mean -+ t_{N-1}((1 + level) / 2) * s / sqrt(N)` with s the sample standard deviation (N - 1).
    It knows only the scatter between runs: N equal values give an interval of width 0.

    Args:
      values: [N] one value per seed, N >= 2, finite.
      level: coverage in (0, 1).

    Returns:
      (low, high), not clipped to the range of the quantity.

    Raises:
      ValueError: fewer than two values, or one that is not finite.
    """
    _check_level(level)
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"{array.size} values; an interval over seeds needs at least 2")
    if not np.all(np.isfinite(array)):
        raise ValueError("values must be finite")
    half = (
        float(_stats().t.ppf(0.5 + level / 2.0, array.size - 1)) * array.std(ddof=1) / math.sqrt(array.size)
    )
    mean = float(array.mean())
    return mean - float(half), mean + float(half)


def bootstrap(
    values: ArrayLike,
    statistic: Callable[..., np.ndarray] = np.mean,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic of independent episodes.

    Draws `resamples` samples of size n with replacement and returns the `(1 -+ level) / 2` quantiles of
    the statistic over them. The generator is seeded, so equal input gives an equal interval.

    Args:
      values: [n] finite, n >= 1.
      statistic: reduces one axis, called as `statistic(samples [resamples, n], axis=1)`.
      level: coverage in (0, 1).
      resamples: >= 1.
      seed: of numpy's default generator.

    Returns:
      (low, high).

    Raises:
      ValueError: no values, or one that is not finite.
    """
    _check_level(level)
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"values of shape {array.shape}; [n] with n >= 1 needed")
    if not np.all(np.isfinite(array)):
        raise ValueError("values must be finite")
    index = np.random.default_rng(seed).integers(array.size, size=(resamples, array.size))
    draws = np.asarray(statistic(array[index], axis=1))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _rounded_t(array: np.ndarray, level: float, step: float) -> Interval:
    """Student's t with at least the standard deviation of values that are rounded to multiples of `step`."""
    start, end = t_interval(array, level)
    half = float(_stats().t.ppf(0.5 + level / 2.0, array.size - 1)) * step / math.sqrt(12.0 * array.size)
    mean = float(array.mean())
    return min(start, mean - half), max(end, mean + half)


def over_seeds(
    values: ArrayLike,
    domain: Interval = (-math.inf, math.inf),
    episodes: int | None = None,
    level: float = 0.95,
    step: float = 0.0,
) -> Interval:
    r"""Interval of the mean over seeds of a quantity that lies in `domain`, within that domain.

    In units of the domain, x = (value - low) / (high - low), with mean p and population variance v of N seeds:

    - Student's t, clipped to the domain, is the interval of seeds that scatter. It has no width where they are
      equal, and none of its assumptions where each is 0 or 1.
    - Wilson's interval of m trials, p m of them successes, has width always. A mean of N independent x in [0, 1] has
      at most the variance p (1 - p) / N of N trials, so m = N is safe whatever the seeds are.
    - Of a share of n episodes per seed more is known: N n trials, were seeds alike. Seeds that scatter more than
      trials do are worth fewer: `m = N p (1 - p) / v` has the variance v / N that they show. m lies between N,
      reached where every seed is 0 or 1, and N n, taken where they are equal.

    So: Wilson with m = N where every x is 0 or 1 and they differ; for a share of episodes the hull of the clipped t
    and of Wilson with that m; otherwise, in a bounded domain, Wilson with m = N where all x are equal and the clipped
    t where they are not. In a domain without an upper or lower end, the clipped t. Counts that agree differ by less
    than their unit: a `step` above 0 gives t at least the deviation of rounding, step / sqrt(12), and no other floor.

    Args:
      values: [N] one value per seed, N >= 2, finite, in `domain`.
      domain: (low, high), either may be infinite.
      episodes: n >= 1, where each value is a share of so many episodes and the domain is (0, 1).
      level: coverage in (0, 1).
      step: distance between the values that a seed can have, 1 for a count; 0 for none.

    Returns:
      (low, high) within the domain.

    Raises:
      ValueError: fewer than two values, one that is not finite, or one outside the domain.
    """
    low, high = domain
    array = np.asarray(values, np.float64)
    start, end = _rounded_t(array, level, step)
    slack = 1e-6 * (high - low) if math.isfinite(high - low) else 1e-6  # of figures that were rounded
    if array.min() < low - slack or array.max() > high + slack:
        raise ValueError(f"values from {array.min()} to {array.max()} outside [{low}, {high}]")
    clipped = min(max(start, low), high), max(min(end, high), low)
    if step > 0 or not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return clipped
    unit = np.clip((array - low) / (high - low), 0.0, 1.0)
    count, mean, scatter = unit.size, float(unit.mean()), float(unit.var())
    equal = scatter <= 1e-18
    binary = not equal and bool(np.isin(unit, (0.0, 1.0)).all())
    if episodes is None and not (equal or binary):
        return clipped
    trials = float(count)
    if episodes is not None and not binary:
        most = float(count * episodes)
        trials = most if equal else min(most, max(count, count * mean * (1.0 - mean) / scatter))
    floor = tuple(low + (high - low) * side for side in wilson(mean * trials, trials, level))
    if episodes is None or binary:
        return floor[0], floor[1]
    return min(clipped[0], floor[0]), max(clipped[1], floor[1])
