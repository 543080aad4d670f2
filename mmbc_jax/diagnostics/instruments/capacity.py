r"""Instrument: is the transport steep enough for the modes?

With L the Lipschitz constant from the float leaves of the base to paths (metric of `diagnostics._path_metric`) at one
observation, Delta the smallest distance of the sets that hold 95 % of each demonstrated mode, and p_i the mass
that the policy's samples give to each set (`ops.capacity_bounds` has the bounds and their proof):

  capacity/delta, capacity/centre_delta   between sets and between centres
  capacity/lipschitz         L as sampled: the largest of local norms (power iteration at base samples),
                             secants between samples, and the steepest step on walks between modes, seen in 64 x 64
  capacity/lipschitz_local   mean local norm
  capacity/lipschitz_global  the largest `lipschitz` over the anchors
  capacity/mass, capacity/modes           sum of p_i, and how many reach `tau`
  capacity/bound             at most this many modes of mass tau at the sampled L, in any dimension
  capacity/bound_printed     the count as printed in arXiv 2605.22493, right for a scalar base only
  capacity/required_lipschitz   least L that masses like the observed ones allow
  capacity/needed_lipschitz     least L that serves the demonstrated shares with at most `bridges` between
  capacity/bridge_bound         least mass between the observed modes at the sampled L
  capacity/discrete_base     1 where the base has integer leaves, else 0
  capacity/components, capacity/purity    then: codes drawn, and the mean share of a code's commonest mode

Hypotheses: the bounds need a base that is exactly N(0, I), read from its log-density; they are left out for
others. For a base with integer leaves L is per component and limits nothing across components. Sampled
slopes bound L from below, so `bound` and `bridge_bound` certify nothing; `required_lipschitz` does not depend on
them. For it the mass outside the sets is raised to the upper end of its 95 % Wilson interval, as an
empty gap would ask for an infinite slope. Tubes, sets and anchors as in `diagnostics._path_metric`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from mmbc_jax.core.observations import Obs
from mmbc_jax.core.options import option
from mmbc_jax.core.registry import register
from mmbc_jax.core.types import Array, Key, PyTree
from mmbc_jax.diagnostics._path_metric import (
    OFF,
    Anchor,
    AnchorOptions,
    AnchorRule,
    LocalModes,
    average,
    draw,
    path_points,
    repeated,
    shares,
)
from mmbc_jax.diagnostics._walks import base_kind, flat_leaves, steepest, walk_between
from mmbc_jax.diagnostics.case import Case
from mmbc_jax.ops import capacity_bounds as capacity
from mmbc_jax.ops import intervals, lipschitz

_ITERATIONS = 10
_WALKS, _STEPS = 16, 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class CapacityOptions(AnchorOptions):
    """Anchors, and what counts as a mode."""

    points: int = option(64, "base samples at which local norms are taken", low=1, high=2**16)
    tau: float = option(0.01, "mass that makes a mode", low=0.0, high=1.0, open_low=True)
    bridges: float = option(
        0.05, "mass between the modes that `needed_lipschitz` tolerates", low=0.0, high=0.5, open_low=True
    )


@dataclasses.dataclass(frozen=True)
class CapacityInstrument:
    """See the module docstring.

    Attributes:
      options: of the plug-in.
    """

    options: CapacityOptions

    def measure(self, case: Case, key: Key) -> dict[str, float]:
        """The figures of the module docstring; empty for an empty base or without labels."""
        entries = AnchorRule(self.options).visit(self._at, case, key, parts=2, labelled=True)
        found = average(entries)
        slopes = [entry["capacity/lipschitz"] for entry in entries if "capacity/lipschitz" in entry]
        return found | ({"capacity/lipschitz_global": max(slopes)} if slopes else {})

    def _at(self, case: Case, anchor: Anchor, key_draw: Key, key_slope: Key) -> dict[str, float]:
        w, drawn = draw(case, key_draw, anchor.obs, self.options.samples)
        modes, points = anchor.modes, np.asarray(drawn, np.float64)
        assert modes is not None
        discrete, normal = base_kind(case, anchor.obs, w)
        if not discrete and flat_leaves(w).shape[1] == 0:
            return {}
        label = modes.assign(points)
        masses = shares(modes.assign(points, sets=True), modes.count)[:-1]
        found = {
            "capacity/discrete_base": float(discrete),
            "capacity/delta": modes.set_distance,
            "capacity/centre_delta": modes.centre_distance,
            "capacity/mass": masses.sum(),
            "capacity/modes": float((masses >= self.options.tau).sum()),
        }
        if discrete:
            found |= _components(w, label)
        if flat_leaves(w).shape[1] == 0:
            return found
        few = jax.tree.map(lambda x: x[: self.options.points], w)
        local = np.asarray(_local(case, key_slope, anchor.obs, few))
        slope = float(local.max())
        if not discrete:
            slope = max(slope, _secants(np.asarray(flat_leaves(w)), points))
            walks = walk_between(case, anchor, w, label, _WALKS, _STEPS, normal)
            if walks is not None:
                slope = max(slope, steepest(case, anchor, walks, normal))
        found |= {"capacity/lipschitz": slope, "capacity/lipschitz_local": float(local.mean())}
        return found | (self._bounds(modes, masses, slope, len(points)) if normal else {})

    def _bounds(self, modes: LocalModes, masses: np.ndarray, slope: float, n: int) -> dict[str, float]:
        """The figures that need a Gaussian base and at least two separated modes."""
        delta = modes.set_distance
        if delta <= 0:
            return {}
        outside = intervals.wilson(max(1.0 - masses.sum(), 0.0) * n, n)[1]
        reduced = masses * (1.0 - outside) / max(masses.sum(), 1e-12)
        return {
            "capacity/bound": float(capacity.mode_bound(slope, delta, self.options.tau)),
            "capacity/bound_printed": float(capacity.printed_mode_bound(slope, delta, self.options.tau)),
            "capacity/required_lipschitz": float(capacity.required_lipschitz(reduced, delta)),
            "capacity/needed_lipschitz": float(
                capacity.required_lipschitz((1.0 - self.options.bridges) * modes.share, delta)
            ),
            "capacity/bridge_bound": float(capacity.bridge_mass_bound(masses, slope, delta)),
        }


@jax.jit
def _local(case: Case, key: Key, obs: Obs, w: PyTree) -> Array:
    """[n] spectral norms of the transport from the float leaves of w [n, ...] to points, at one observation."""

    def to_points(one: PyTree) -> Array:
        batch = jax.tree.map(lambda x: x[None], one)
        return path_points(case.normalizer, case.policy.transport(case.variables, repeated(obs, 1), batch))

    return lipschitz.local_lipschitz(to_points, w, key, _ITERATIONS)


def _secants(flat: np.ndarray, points: np.ndarray) -> float:
    """The largest secant between consecutive samples; they are independent."""
    run = np.linalg.norm(np.diff(flat, axis=0), axis=1)
    return float((np.linalg.norm(np.diff(points, axis=0), axis=1) / np.maximum(run, 1e-12)).max())


def _components(w: PyTree, label: np.ndarray) -> dict[str, float]:
    """How many codes occur among base samples, and how purely each leads to one mode."""
    whole = [leaf for leaf in jax.tree.leaves(w) if not jnp.issubdtype(leaf.dtype, jnp.inexact)]
    codes = [np.asarray(leaf).reshape(len(label), -1) for leaf in whole]
    names, index = np.unique(np.concatenate(codes, axis=1), axis=0, return_inverse=True)
    owned = [label[index.reshape(-1) == i] for i in range(len(names))]
    commonest = [np.bincount(group[group != OFF], minlength=1).max() for group in owned]
    return {
        "capacity/components": float(len(names)),
        "capacity/purity": float(np.sum(commonest) / len(label)),
    }


@register("diagnostic", CapacityOptions)
def build(options: CapacityOptions) -> CapacityInstrument:
    """The instrument."""
    return CapacityInstrument(options)
