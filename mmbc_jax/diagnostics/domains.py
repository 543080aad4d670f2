"""The values that each metric can take, and its interval over seeds inside them.

A name that stands nowhere here is unbounded. K is the number of modes, Z that of commands; where they are unknown the
bound that needs them is left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmbc_jax.ops.intervals import Interval, over_seeds

SHIFTS = "shifts"
"""Key of the metrics of stages that were played under other settings of the environment."""

SHARES = frozenset(("success_rate", "bridge_fraction", "collision_fraction", "diverged_fraction"))
"""Shares of a seed's episodes."""

SAMPLED = dict.fromkeys(("bridges/off_support", "bridges/between", "bridges/around"), "bridges/samples")
"""Shares of a seed's samples, each with the figure that says how many are drawn at one observation."""

_UNIT = frozenset((
    "sr_m", "mc_08", "failures_attributed", "mode_entropy", "largest_share", "nmi_z_mode", "valid_mode_coverage",
    "mode_coverage", "offline/covered", "bridges/off_support", "bridges/off_support_demos", "bridges/reached",
    "bridges/walk_off", "capacity/discrete_base", "capacity/mass", "capacity/purity", "coverage/gap",
    "coverage/min_mass", "coverage/prior_off", "coverage/posterior_off", "coverage/above", "drift/middle",
    "separation/multimodal", "separation/path_multimodal", "bridges/between", "bridges/around", "bridges/served",
    "bridges/multimodal",
))  # fmt: skip
_MODES = frozenset(("modes_kept", "commandable"))
_POSITIVE = frozenset((
    "mean_steps", "switches", "offline/mean_error", "offline/spread", "bridges/spread", "bridges/middle",
    "bridges/modes",
    "bridges/sharpness", "capacity/lipschitz", "capacity/lipschitz_local", "capacity/lipschitz_global",
    "capacity/delta", "capacity/centre_delta", "capacity/modes", "capacity/components", "capacity/bound",
    "capacity/bound_printed", "capacity/required_lipschitz", "capacity/needed_lipschitz",
    "capacity/bridge_bound", "coverage/missed", "drift/final", "drift/relative", "drift/switches", "drift/growth",
    "information/error_posterior", "information/error_prior", "information/error_zero",
    "information/mode_information", "information/mode_entropy", "information/active_units", "separation/modes",
    "separation/modes_max", "separation/spread", "separation/path_modes", "separation/path_delta",
    "separation/path_set_delta", "separation/path_radius", "env_steps_to_95", "wall_s_to_95",
))  # fmt: skip
# information/rate, mutual, marginal_kl and paths/* are estimates of what is not negative that may come out negative


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What bounds of metrics depend on.

    Attributes:
      num_modes: K; None where unknown.
      num_z: Z; None where unknown.
    """

    num_modes: int | None = None
    num_z: int | None = None

    @staticmethod
    def of(per_seed: Sequence[Mapping[str, Any]]) -> Sizes:
        """Read off the first table of commands and modes among the metrics of seeds."""
        tables = [table for seed in per_seed if (table := seed.get("z_mode_table"))]
        return Sizes(len(tables[0][0]) - 1, len(tables[0])) if tables else Sizes()


def own_name(name: str) -> str:
    """A metric's name without the setting of the environment that it was played under: `shifts/SETTING/NAME`."""
    return name.split("/", 2)[-1] if name.startswith(f"{SHIFTS}/") else name


def domain(name: str, sizes: Sizes = Sizes()) -> tuple[float, float]:
    """(lowest, highest) value that a metric can take; infinite where there is none."""
    name = own_name(name)
    modes = float(sizes.num_modes or math.inf)
    commands = float(sizes.num_z or math.inf)
    if name in SHARES or name in _UNIT:
        return 0.0, 1.0
    if name in _MODES:
        return 0.0, modes
    if name == "exp_entropy":
        return 1.0, modes
    if name == "mi_estimate":
        return -math.inf, math.log(commands) if sizes.num_z else math.inf
    if name in ("mi_z_mode", "mi_z_mode_corrected"):
        return 0.0, math.log(min(modes, commands)) if sizes.num_modes or sizes.num_z else math.inf
    return (
        (0.0, math.inf) if name in _POSITIVE or name.startswith("offline/best_of") else (-math.inf, math.inf)
    )


def trials_name(name: str) -> str:
    """The figure that says how many trials a share is of: "n", the episodes, but for those of `SAMPLED`."""
    return SAMPLED.get(own_name(name), "n")


def seeds_interval(
    name: str,
    values: Sequence[float],
    episodes: int | None = None,
    sizes: Sizes = Sizes(),
    level: float = 0.95,
) -> Interval:
    """The interval of a metric over seeds; see `ops.intervals.over_seeds`.

    Args:
      name: of the metric.
      values: [N] one per seed, N >= 2.
      episodes: of each seed, for `SHARES`; for those of `SAMPLED` the samples at one observation.
      sizes: K and Z.
      level: coverage.
    """
    name = own_name(name)
    step = 1.0 if name in _MODES else 0.0
    trials = episodes if name in SHARES or name in SAMPLED else None
    return over_seeds(values, domain(name, sizes), trials, level, step)
