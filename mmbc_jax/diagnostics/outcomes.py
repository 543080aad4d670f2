"""What else the episodes of an evaluation say: coverage of modes with and without success, and end states.

With K modes and the label k* of the mode that an episode came nearest to, whether it succeeded or not,

  mode_coverage        share of the K modes that some collision-free episode came nearest to,
  valid_mode_coverage  share of the K modes that some successful episode reached,
  bridge_fraction      share of episodes that ended outside the tube of every mode,
  collision_fraction   share of episodes that collided,
  diverged_fraction    share of episodes that ended, as failures, because the environment was no longer finite.

Full coverage with low validity is the signature of bridges (paper A); the pair never stands alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmbc_jax.core.types import Rollouts
from mmbc_jax.diagnostics.attribution import LABEL

DIVERGED = "diverged"
SWITCHES = "switches"  # of an episode between modes, at the ends of its decisions
FRACTIONS = {
    "bridge": "bridge_fraction",
    "collision": "collision_fraction",
    DIVERGED: "diverged_fraction",
    SWITCHES: SWITCHES,
}


def outcome_metrics(rollouts: Rollouts, num_modes: int) -> dict[str, Any]:
    """Coverage, and the means of the environment's own metrics at the end of the episodes.

    Args:
      rollouts: B episodes of one seed.
      num_modes: K; 0 where the environment labels none.

    Returns:
      `valid_mode_coverage` where K > 0; `mode_coverage` and the fractions where `rollouts.outcome` has what they
      need, and `final_<name>`, the mean, for each of the environment's other metrics.
    """
    outcome = {name: np.asarray(values, np.float64) for name, values in rollouts.outcome.items()}
    found: dict[str, Any] = {}
    if num_modes:
        reached = np.asarray(rollouts.mode)[np.asarray(rollouts.success).astype(bool)]
        found["valid_mode_coverage"] = len(np.unique(reached[reached >= 0])) / num_modes
    if num_modes and LABEL in outcome:
        free = outcome.get("collision", np.zeros_like(outcome[LABEL])) == 0
        nearest = outcome[LABEL][free]
        found["mode_coverage"] = len(np.unique(nearest[nearest >= 0])) / num_modes
    for name, values in outcome.items():
        if name != LABEL:
            found[FRACTIONS.get(name, f"final_{name}")] = float(values.mean())
    return found


SUCCESSES = ("success_rate", "wilson95", "success_per_z", "wilson95_per_z")
"""What `modes.mode_metrics` says of success, for tasks with modes and without."""


def without_success(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics of episodes in an environment where success is not defined: that of which it is a share is None."""
    return {name: None if name in SUCCESSES else value for name, value in metrics.items()}


def success_figures(rollouts: Rollouts | None, defined: bool = True) -> dict[str, float]:
    """{"outcome/success": share of the episodes that succeed}, for the verdict; empty without episodes or success."""
    if not defined or rollouts is None or not np.size(rollouts.success):
        return {}
    return {"outcome/success": float(np.asarray(rollouts.success, np.float64).mean())}
