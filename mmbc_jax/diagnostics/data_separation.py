"""How far apart the demonstrated modes lie: inter-mode distance, spread within a mode, modes per observation.

Around an anchor observation, the demonstrated chunks form groups with centres c_i. With the distance
|u| = sqrt(mean of u^2 over the H A entries of a chunk), in normalised units, this reports

    Delta_ij = |c_i - c_j|,  Delta = min over i < j of Delta_ij,
    sigma^2  = sum over groups and members of |chunk - c_i|^2 / (members - groups),
    ratio    = Delta / (2 sigma).

Ratio 1 puts the nearest two centres two within-mode standard deviations apart. A deterministic regression
can succeed where the ratio is small or where there is one mode, so these numbers belong next to
every success rate.

Hypotheses:
  1. Near means near: chunks whose observations lie within `radius` of the anchor (root mean square over
     normalised entries of their vectors; images take no part) are treated as if demonstrated at the anchor.
     What the policy should do must change little over that radius, or the change counts as spread. Where only
     images are observed nothing is known to be near: the figures are then of chunks whatever their
     observation, an "anchor" is one draw of a window from every episode, and modes of different places count
     together.
  2. One vote per episode: an episode gives only its window nearest to the anchor, so that slow passages
     and neighbouring steps of one episode do not pass for agreement.
  3. Only fully recorded windows count; padding is not demonstrated.
  4. Without labels, groups come from k-means, and K groups count as modes if ratio >= 2 (`SEPARATED`) and
     each holds 5 % of the chunks; the largest such K is taken, else 1. Cutting one cloud in K never gets
     there: a uniform line cut into equal parts gives ratio sqrt(3) for every K, a Gaussian cut in half
     1.32, both less in more dimensions. Two Gaussian modes whose centres are less than 4 sigma apart are
     therefore reported as one.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

import jax
import numpy as np

from mmbc_jax.core.errors import DataError
from mmbc_jax.core.observations import ObsSpec
from mmbc_jax.data.windows import Windows

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

SEPARATED = 2.0
_MIN_SHARE = 0.05
# Below this, spread is rounding of float32 chunks of size 1; it also keeps the ratio finite.
_MIN_SPREAD = 1e-4


def separation(
    windows: Windows,
    num_anchors: int = 64,
    neighbours: int = 64,
    seed: int = 0,
    *,
    radius: float = 0.1,
    max_modes: int = 8,
    min_neighbours: int = 8,
    spec: ObsSpec | None = None,
) -> dict[str, float]:
    """Measures mode separation around randomly drawn anchor observations.

    Args:
      windows: demonstrations.
      num_anchors: to draw, without replacement, uniformly over the fully recorded windows.
      neighbours: most episodes that vote at an anchor, nearest first.
      seed: of the anchors and of k-means.
      radius: largest root mean square distance of a voting window's observation (the data span 2).
      max_modes: largest number of groups tried.
      min_neighbours: anchors with fewer votes are left out.
      spec: what an observation looks like; None for one vector.

    Returns:
      Floats under `separation/`, averaged over anchors unless said otherwise; distances in normalised units.
      Always: `anchors` used (count), `neighbours`, `neighbour_distance`.
      By clustering: `modes`, `modes_max`, `multimodal` (share of anchors with two modes or more),
      `modes_<k>` (share of anchors with k = 1 .. max_modes), and over multimodal anchors `delta_min`,
      `delta_mean`, `ratio`; `spread` within modes over all anchors.
      By label, the same with the prefix `label_`; only modes with two votes or more count.
      NaN where nothing could be measured (no anchor, no multimodal anchor, no labels, no vector).

    Raises:
      DataError: no window is fully recorded.
      ValueError: a count below 1, or `radius` not positive.
    """
    if min(num_anchors, neighbours, max_modes, min_neighbours) < 1 or not radius > 0:
        raise ValueError("num_anchors, neighbours, max_modes and min_neighbours need >= 1, radius > 0")
    place, chunk, episode, mode = _recorded(windows, spec)
    rng = np.random.default_rng(seed)
    by_cluster, by_label, near = [], [], []
    for anchor in rng.choice(len(chunk), min(num_anchors, len(chunk)), replace=False):
        if place is None:
            votes, distance = _anywhere(rng, episode, neighbours)
        else:
            votes, distance = _neighbours(place, episode, place[anchor], neighbours, radius)
        if len(votes) < min_neighbours:
            continue
        near.append((len(votes), distance.mean()))
        labels = cluster(chunk[votes], max_modes, int(rng.integers(2**31)))
        by_cluster.append(group_statistics(chunk[votes], labels))
        by_label.append(group_statistics(chunk[votes], _popular(mode[votes])))
    found = {
        "anchors": float(len(near)),
        "neighbours": _mean([count for count, _ in near]),
        "neighbour_distance": _mean([distance for _, distance in near]),
    }
    labelled = by_label if (mode >= 0).any() else []
    found |= _summary(by_cluster, "") | _histogram(by_cluster, max_modes) | _summary(labelled, "label_")
    return {f"separation/{name}": float(value) for name, value in found.items()}


def _histogram(by_cluster: list[dict[str, float]], max_modes: int) -> dict[str, float]:
    """Share of anchors with k groups, for every k."""
    counts = np.asarray([entry["modes"] for entry in by_cluster])
    return {f"modes_{k}": _mean(list(counts == k)) for k in range(1, max_modes + 1)}


def _recorded(
    windows: Windows, spec: ObsSpec | None
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray, np.ndarray]:
    """(observed vectors [n, D] or None, flat chunk, episode, mode) of the fully recorded windows."""
    full = np.asarray(windows.mask).min(axis=1) > 0
    if not full.any():
        raise DataError("separation: no window is fully recorded; the chunk is longer than every episode")
    spec = spec or ObsSpec.vector(jax.tree.leaves(windows.obs)[0].shape[-1])
    place = np.asarray(spec.flat(windows.every()))[full] if spec.size else None
    chunk = np.asarray(windows.chunk)[full].reshape(full.sum(), -1).astype(np.float64)
    return place, chunk, np.asarray(windows.episode)[full], np.asarray(windows.mode)[full]


def cluster(chunks: np.ndarray, max_modes: int, seed: int) -> np.ndarray:
    """Groups chunks into the largest number of separated modes (hypothesis 4 of the module).

    Args:
      chunks: [n, H A].
      max_modes: largest number tried.
      seed: seed of k-means.

    Returns:
      [n] int labels 0 .. K-1.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    smallest = max(2, int(np.ceil(_MIN_SHARE * len(chunks))))
    for count in range(min(max_modes, len(chunks) // smallest), 1, -1):
        # threads gain nothing on a few hundred chunks, and waiting for a busy core costs ten times the work
        with _thread_pools().limit(limits=1), warnings.catch_warnings():
            # Fewer distinct chunks than clusters: two centres coincide and the ratio below is 0.
            warnings.simplefilter("ignore", ConvergenceWarning)
            labels = KMeans(count, n_init=4, random_state=seed).fit_predict(chunks)
        sizes = np.bincount(labels, minlength=count)
        if sizes.min() >= smallest and group_statistics(chunks, labels)["ratio"] >= SEPARATED:
            return labels
    return np.zeros(len(chunks), int)


@functools.cache
def _thread_pools() -> ThreadpoolController:
    """The process's pools, looked up once: going through its loaded libraries takes as long as k-means does."""
    from threadpoolctl import ThreadpoolController  # comes with scikit-learn

    return ThreadpoolController()


def group_statistics(chunks: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Distances between and within given groups, as defined in the module's docstring.

    Args:
      chunks: [n, H A].
      labels: [n] int; negative entries are left out.

    Returns:
      `modes` (number of groups), `delta_min`, `delta_mean`, `spread` (sigma) and `ratio`; NaN where there
      are too few groups or members.
    """
    chunks, labels = chunks[labels >= 0], labels[labels >= 0]
    names, index = np.unique(labels, return_inverse=True)
    nan = float("nan")
    found = {"modes": float(len(names)), "delta_min": nan, "delta_mean": nan, "spread": nan, "ratio": nan}
    if not len(names):
        return found
    centres = np.stack([chunks[index == i].mean(axis=0) for i in range(len(names))])
    if len(chunks) > len(names):
        squares = ((chunks - centres[index]) ** 2).mean(axis=1).sum()
        found["spread"] = float(np.sqrt(squares / (len(chunks) - len(names))))
    if len(names) > 1:
        first, second = np.triu_indices(len(names), 1)
        delta = np.sqrt(((centres[first] - centres[second]) ** 2).mean(axis=1))
        found |= {"delta_min": float(delta.min()), "delta_mean": float(delta.mean())}
        found["ratio"] = found["delta_min"] / (2 * max(found["spread"], _MIN_SPREAD))
    return found


def _neighbours(
    place: np.ndarray, episode: np.ndarray, anchor: np.ndarray, count: int, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """(indices, distances) of the nearest window of each episode within the radius, nearest first."""
    distance = np.sqrt(((place - anchor) ** 2).mean(axis=1))
    near = np.flatnonzero(distance <= radius)
    order = near[np.argsort(distance[near], kind="stable")]
    _, first = np.unique(episode[order], return_index=True)
    votes = order[np.sort(first)[:count]]
    return votes, distance[votes]


def _anywhere(rng: np.random.Generator, episode: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(indices, unknown distances) of one random window of each of at most `count` random episodes."""
    order = rng.permutation(len(episode))
    _, first = np.unique(episode[order], return_index=True)
    votes = order[np.sort(first)[:count]]
    return votes, np.full(len(votes), np.nan)


def _popular(labels: np.ndarray) -> np.ndarray:
    """Labels with those that occur once replaced by -1: one vote shows no spread."""
    names, counts = np.unique(labels, return_counts=True)
    return np.where(np.isin(labels, names[counts > 1]), labels, -1)


def _summary(entries: list[dict[str, float]], prefix: str) -> dict[str, float]:
    modes = [entry["modes"] for entry in entries]
    found = {
        "modes": _mean(modes),
        "modes_max": max(modes, default=float("nan")),
        "multimodal": _mean([count > 1 for count in modes]),
    }
    found |= {
        name: _mean([e[name] for e in entries]) for name in ("delta_min", "delta_mean", "ratio", "spread")
    }
    return {prefix + name: value for name, value in found.items()}


def _mean(values: list) -> float:
    """Mean over the finite entries, NaN where there are none."""
    array = np.asarray(values, float)
    array = array[np.isfinite(array)]
    return float(array.mean()) if array.size else float("nan")
