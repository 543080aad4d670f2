r"""Chunks as paths, the modes that are demonstrated at one observation, and samples of a policy there.

A chunk of displacements a_1 .. a_H leads along x_t = a_1 + .. + a_t. Chunks are compared as paths,

  d(a, b) = sqrt(1/H sum_t |x_t - y_t|^2),

since position noise of deviation sigma makes every action noisy with sqrt(2) sigma and drowns the difference
between modes in the actions, but not in the paths. With `path_points`, x / sqrt(H) flattened, d is Euclidean.

At an anchor observation, mode k is a ball around the mean path m_k of its demonstrations: the *set* holds
95 % of them; the *tube* is the larger of 1.2 times the radius that holds 99 %, and Delta / 4 with Delta the
smallest distance of two means. What lies in no tube is off-support; between two modes that is at
most the middle half. Labels whose sets overlap are one mode at this anchor: labels of whole episodes often
mean the same for the next chunk.

Hypotheses: (1) actions are displacements or velocities, up to scale; for absolute targets the sum is only an
invertible map of the chunk. (2) Sums are taken in physical units, and the entries of an action are
comparable there. (3) Demonstrations within `radius` of the anchor's observation (root mean square of
normalised entries of its vectors; images take no part) count as demonstrated at the anchor, one window per
episode. Where only images are observed nothing is known to be near: there are no anchors. (4) Only fully recorded
windows count. (5) Anchors are the drawn observations with the most modes, since elsewhere nothing multimodal
can fail: figures describe the places where the policy has to choose.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.distance import cdist

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import Options, option
from mmbc_jax.core.types import Array, Key, PyTree
from mmbc_jax.diagnostics.case import Case
from mmbc_jax.ops.normalisation import Normalizer

SET_QUANTILE, TUBE_QUANTILE, TUBE_MARGIN = 0.95, 0.99, 1.2
OFF = -1
_LEAST, _LEAST_PER_MODE = 16, 4  # demonstrations at an anchor, and of a mode


def path_points(normalizer: Normalizer, chunk: Array) -> Array:
    """[..., H A] points of normalised chunks [..., H, A], in which the Euclidean distance is that of paths."""
    path = jnp.cumsum(normalizer.denormalize_action(chunk), axis=-2)
    return (path / path.shape[-2] ** 0.5).reshape(*chunk.shape[:-2], -1)


_path_points = jax.jit(path_points)


@dataclasses.dataclass(frozen=True)
class LocalModes:
    """The modes demonstrated at one observation, as balls; a mode may have several where labels merged.

    Attributes:
      centres: [C, P] mean points of the labels.
      radius: [C] of the sets.
      tube: [C] of the tubes.
      group: [C] int, the mode 0 .. G-1 that a label belongs to.
      label: [n] int, the mode of each demonstration; -1 for labels with too few.
    """

    centres: np.ndarray
    radius: np.ndarray
    tube: np.ndarray
    group: np.ndarray
    label: np.ndarray

    @property
    def count(self) -> int:
        """G."""
        return int(self.group.max()) + 1

    @property
    def share(self) -> np.ndarray:
        """[G] shares of the modes among the demonstrations."""
        counts = np.bincount(self.label[self.label >= 0], minlength=self.count)
        return counts / counts.sum()

    @property
    def centre_distance(self) -> float:
        """Delta between centres, 0 for one mode."""
        return _smallest(cdist(self.centres, self.centres), self.group)

    @property
    def set_distance(self) -> float:
        """Delta between sets, 0 for one mode."""
        gaps = cdist(self.centres, self.centres) - self.radius[:, None] - self.radius
        return max(_smallest(gaps, self.group), 0.0)

    def assign(self, points: np.ndarray, *, sets: bool = False) -> np.ndarray:
        """[n] the mode whose tube (or set) holds each point [n, P]; `OFF` where none does."""
        distance = cdist(points, self.centres)
        inside = distance <= (self.radius if sets else self.tube)
        nearest = np.where(inside, distance, np.inf).argmin(axis=1)
        return np.where(inside.any(axis=1), self.group[nearest], OFF)

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """[n] the mode with the nearest mean path to each point [n, P]."""
        return self.group[cdist(points, self.centres).argmin(axis=1)]


@dataclasses.dataclass(frozen=True)
class Anchor:
    """An observation and what was demonstrated there.

    Attributes:
      obs: one normalised observation, without leading axes.
      chunk: [n, H, A] normalised, nearest observation first.
      points: [n, P] of the chunks.
      modes: None without labels.
    """

    obs: Obs
    chunk: np.ndarray
    points: np.ndarray
    modes: LocalModes | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnchorOptions(Options):
    """How anchors are found and sampled; the base of the options of every instrument that uses them."""

    num_anchors: int = option(4, "most anchors", low=1)
    candidates: int = option(
        128, "observations drawn, of which those with the most modes become anchors", low=1
    )
    neighbours: int = option(512, "most demonstrations at an anchor", low=_LEAST)
    radius: float = option(0.1, "largest distance of their observations", low=0.0, open_low=True)
    samples: int = option(512, "of the policy at each anchor", low=2, high=2**20)


@dataclasses.dataclass(frozen=True)
class AnchorRule:
    """Finds anchors.

    Attributes:
      options: how.
    """

    options: AnchorOptions

    def find(self, case: Case, key: Key) -> list[Anchor]:
        """Anchors with equally many demonstrations each; empty where no observation has enough."""
        windows, spec = case.windows, case.policy.spec.obs
        full = np.flatnonzero(np.asarray(windows.mask).min(axis=1) > 0)
        if not len(full) or spec.size == 0:
            return []
        seen = windows.every()
        place, chunk, episode, mode = (
            np.asarray(x)[full] for x in (spec.flat(seen), windows.chunk, windows.episode, windows.mode)
        )
        rng = np.random.default_rng(int(jax.random.randint(key, (), 0, 2**31 - 1)))
        found: list[tuple[int, int, np.ndarray]] = []
        for index in rng.choice(len(place), min(self.options.candidates, len(place)), replace=False):
            votes = self._votes(place, episode, place[index])
            if len(votes) >= _LEAST:
                modes = local_modes(self._points(case, chunk[votes]), mode[votes])
                found.append((modes.count if modes else 1, int(index), votes))
        chosen = sorted(found, key=lambda entry: -entry[0])[: self.options.num_anchors]
        common = min((len(votes) for _, _, votes in chosen), default=0)
        anchors = []
        for _, index, votes in chosen:
            kept = votes[:common]
            points = self._points(case, chunk[kept])
            at = jax.tree.map(lambda x, row=full[index]: np.asarray(x[row]), seen)
            anchors.append(Anchor(at, chunk[kept], points, local_modes(points, mode[kept])))
        return anchors

    def visit(
        self,
        measure: Callable[..., dict[str, float]],
        case: Case,
        key: Key,
        *,
        parts: int = 1,
        labelled: bool = False,
    ) -> list[dict[str, float]]:
        """The figures of each anchor.

        Args:
          measure: (case, anchor, `parts` keys) to figures.
          case: `measure` gets it without environment and episodes.
          key: for the anchors and for their keys.
          parts: number of keys.
          labelled: leave out anchors without labels.
        """
        # Compiled functions take the case as an argument; they must not depend on how episodes were run.
        case = case.replace(env=None, env_params=None, rollouts=None)  # type: ignore[attr-defined]
        key_anchors, key = jax.random.split(key)
        anchors = [a for a in self.find(case, key_anchors) if a.modes is not None or not labelled]
        keys = jax.random.split(key, (len(anchors), parts))
        return [measure(case, a, *k) for a, k in zip(anchors, keys, strict=True)]

    def _votes(self, place: np.ndarray, episode: np.ndarray, anchor: np.ndarray) -> np.ndarray:
        """Indices of the nearest window of each episode within the radius, nearest first."""
        distance = np.sqrt(((place - anchor) ** 2).mean(axis=1))
        near = np.flatnonzero(distance <= self.options.radius)
        order = near[np.argsort(distance[near], kind="stable")]
        _, first = np.unique(episode[order], return_index=True)
        return order[np.sort(first)[: self.options.neighbours]]

    def _points(self, case: Case, chunk: np.ndarray) -> np.ndarray:
        """[n, P] points of chunks [n, H, A]; padded, so that one compilation serves every n."""
        rows = np.minimum(np.arange(self.options.neighbours), len(chunk) - 1)
        return np.asarray(_path_points(case.normalizer, chunk[rows]), np.float64)[: len(chunk)]


def local_modes(points: np.ndarray, label: np.ndarray) -> LocalModes | None:
    """The modes among demonstrations [n, P] with labels [n] (negative: none); None without labels."""
    names, counts = np.unique(label[label >= 0], return_counts=True)
    names = names[counts >= _LEAST_PER_MODE]
    if not len(names):
        return None
    members = [points[label == name] for name in names]
    centres = np.stack([group.mean(axis=0) for group in members])
    radii = [np.linalg.norm(group - c, axis=1) for group, c in zip(members, centres, strict=True)]
    radius = np.asarray([np.quantile(r, SET_QUANTILE) for r in radii])
    group = _merge(cdist(centres, centres) <= radius[:, None] + radius)
    apart = _smallest(cdist(centres, centres), group)
    widest = np.asarray([TUBE_MARGIN * np.quantile(r, TUBE_QUANTILE) for r in radii])
    owner = np.full(len(label), OFF)
    for name, index in zip(names, group, strict=True):
        owner[label == name] = index
    return LocalModes(centres, radius, np.maximum(widest, apart / 4), group, owner)


def repeated(obs: Obs, count: int) -> Obs:
    """One observation `count` times: leaves [count, ...]."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), obs)


@functools.partial(jax.jit, static_argnames="count")
def draw(case: Case, key: Key, obs: Obs, count: int) -> tuple[PyTree, Array]:
    """(w, points [count, P]) of `count` samples of the policy at one observation."""
    w, chunk = case.sample(key, repeated(obs, count))
    return w, path_points(case.normalizer, chunk)


@jax.jit
def decode(case: Case, obs: Obs, w: PyTree) -> tuple[Array, Array]:
    """(chunk [n, H, A], points [n, P]) that base samples w [n, ...] give at one observation."""
    count = jax.tree.leaves(w)[0].shape[0]
    chunk = case.policy.transport(case.variables, repeated(obs, count), w)
    return chunk, path_points(case.normalizer, chunk)


@functools.partial(jax.jit, static_argnames="count")
def latents(case: Case, key: Key, obs: Obs, chunk: Array, count: int) -> tuple[PyTree, PyTree]:
    """(z [count, n, ...], posterior modes [n, ...]) of chunks [n, H, A] at one observation."""
    q = case.policy.posterior(case.variables, repeated(obs, len(chunk)), chunk)  # type: ignore[attr-defined]
    return q.sample(seed=key, sample_shape=(count,)), q.mode()


def average(per_anchor: list[dict[str, float]]) -> dict[str, float]:
    """Mean of every figure over the anchors where it is finite; figures that never are, are left out."""
    found = {}
    for name in dict.fromkeys(name for entry in per_anchor for name in entry):
        values = [float(entry[name]) for entry in per_anchor if np.isfinite(entry.get(name, np.nan))]
        if values:
            found[name] = float(np.mean(values))
    return found


def shares(labels: np.ndarray, count: int) -> np.ndarray:
    """[count + 1] shares of the modes 0 .. count-1 among labels [n], last the share off-support."""
    return np.bincount(np.where(labels == OFF, count, labels), minlength=count + 1) / len(labels)


def _smallest(distances: np.ndarray, group: np.ndarray) -> float:
    """The smallest entry of [C, C] between different groups, 0 where there is one group."""
    apart = distances[group[:, None] != group]
    return float(apart.min()) if apart.size else 0.0


def _merge(touching: np.ndarray) -> np.ndarray:
    """[C] numbers of the connected components of a symmetric relation [C, C]."""
    from scipy.sparse.csgraph import connected_components

    return connected_components(touching, directed=False)[1]
