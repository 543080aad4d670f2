r"""Which mechanism makes a policy fail on multimodal data, from the figures of the instruments.

Each mechanism gets a score, the evidence over its threshold, so that 1 is where it starts to count:

  information  told too little: B_.1 / I(A; Z|S), B_.1 / 2 over the classifier's information (a loose lower
               bound, hence the half), and `IGNORED` / z-advantage; the largest
  averaging    `STILL` / spread, without a latent and off-support: one answer, between the demonstrated ones
  coverage     gap / `GAP`, or the number of missed modes; without a latent and for bases other than N(0, I),
               (1 - reached) / `LOST` where little lies between the modes: the base has no region for them
  capacity     needed L / sampled L: the transport is too smooth to serve the demonstrated modes
  bridges      off-support mass beyond that of the demonstrations, / `BRIDGES`
  drift        the smaller of relative deviation / `STRAYED` and growth / `GROWN`, or switches / `SWITCHED`

The first five are about answers at demonstrated observations. They are asked in this order, causes before
symptoms (a collapsed latent also averages; a prior beside the latents also bridges), and only where those
answers fail at all: several modes are demonstrated (`SEVERAL`) and off-support mass reaches `BRIDGES` or
a share of `LOST` of the modes is lost. The first score of 1 or more names the mechanism; where none does,
the missing modes are charged to coverage. Drift is for policies whose answers are right and whose episodes
stray all the same. What passes is "none".

Hypotheses: those of the instruments; absent figures give no score. Sampled Lipschitz constants are lower
bounds, so "capacity" says that no steepness was seen, not that there is none. One mechanism is named; the
scores show the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

SEVERAL = 1.5  # demonstrated modes, averaged over anchors
BRIDGES = 0.1
LOST = 0.1
GAP = 0.25  # well above the sampling noise of two histograms (see `instruments.coverage`)
IGNORED = 0.02
STILL = 0.1
STRAYED, GROWN, SWITCHED = 0.1, 2.0, 0.5
_CAP = 100.0  # of a score: evidence over next to nothing

MECHANISMS = ("none", "information", "averaging", "coverage", "capacity", "bridges", "drift")
_ORDER = ("information", "averaging", "coverage", "capacity", "bridges")

_FIGURES = {
    "none": ("bridges/off_support", "bridges/reached", "drift/relative", "drift/switches"),
    "information": (
        "information/mutual", "information/mode_information", "information/floor_10", "information/z_advantage",
        "information/beta", "information/beta_limit",
    ),
    "coverage": ("coverage/gap", "coverage/missed", "coverage/above", "coverage/min_mass", "bridges/reached"),
    "averaging": ("bridges/spread", "bridges/middle", "bridges/off_support", "bridges/modes"),
    "capacity": (
        "capacity/lipschitz", "capacity/needed_lipschitz", "capacity/delta", "bridges/off_support",
        "bridges/walk_off",
    ),
    "bridges": ("bridges/off_support", "bridges/off_support_demos", "bridges/walk_off", "bridges/sharpness"),
    "drift": ("drift/relative", "drift/growth", "drift/slope", "drift/switches", "bridges/off_support"),
}  # fmt: skip
_MEANING = {
    "none": "no failure at demonstrated observations or along episodes",
    "information": "the latent does not tell the modes apart",
    "coverage": "the base does not put its mass where the modes need it",
    "averaging": "one answer stands in for several modes",
    "capacity": "the transport is too smooth to split its base over the modes",
    "bridges": "mass lies between the modes although the transport is steep enough",
    "drift": "answers are right where demonstrated, but episodes leave the demonstrated paths",
}
_REMEDY = {
    "none": "Nothing to change on these grounds.",
    "information": "Lower the KL weight (below the limit where one is given), or match the aggregate posterior "
    "instead of each posterior (WAE).",
    "coverage": "Learn the prior, conditioned on the observation (conditional Gaussian, mixture, VampPrior or "
    "latent flow), match the aggregate posterior to it more strongly, or give the base more components.",
    "averaging": "Use a generative policy: any base with mass for each mode.",
    "capacity": "Give the base the modes (mixture base, codes), or let the transport be steeper: more "
    "integration steps, less weight decay.",
    "bridges": "Train the transport longer or with more integration steps, or give the base the modes (mixture "
    "base, codes).",
    "drift": "Execute more of every chunk, record recoveries (noisy starts, corrections along the way), or "
    "condition on more history.",
}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What fails, how clearly, and what to change.

    Attributes:
      mechanism: one of `MECHANISMS`.
      scores: evidence over threshold of every mechanism whose figures exist.
      text: one paragraph.
    """

    mechanism: str
    scores: dict[str, float]
    text: str


def verdict(found: Mapping[str, float], policy_name: str) -> Verdict:
    """Names the mechanism behind a policy's failure by the rules of the module docstring.

    Args:
      found: figures of the instruments, `group/name` to finite float.
      policy_name: for the text.

    Returns:
      The verdict; "none" where the figures show no failure, or are too few to show one.
    """
    several = _modes(found) >= SEVERAL
    off, reached = _excess(found), found.get("bridges/reached", 1.0)
    failing = several and (off >= BRIDGES or 1.0 - reached >= LOST)
    scores = _scores(found, off)
    mechanism = "none"
    if failing:
        named = [name for name in _ORDER if scores.get(name, 0.0) >= 1.0]
        mechanism = named[0] if named else "coverage"
    elif scores.get("drift", 0.0) >= 1.0:
        mechanism = "drift"
    return Verdict(mechanism, scores, _text(mechanism, found, policy_name, several))


def _modes(found: Mapping[str, float]) -> float:
    names = ("bridges/modes", "separation/path_modes", "separation/modes")
    return next((found[name] for name in names if name in found), 0.0)


def _excess(found: Mapping[str, float]) -> float:
    """Off-support mass beyond what the same rule finds among the demonstrations."""
    return max(found.get("bridges/off_support", 0.0) - found.get("bridges/off_support_demos", 0.0), 0.0)


def _scores(found: Mapping[str, float], off: float) -> dict[str, float]:
    scores = {}
    latent = "information/error_posterior" in found
    told = _information(found)
    if told:
        scores["information"] = max(told)
    if "coverage/gap" in found:
        scores["coverage"] = max(found["coverage/gap"] / GAP, found["coverage/missed"])
    elif "bridges/reached" in found and "capacity/needed_lipschitz" not in found and off < BRIDGES:
        scores["coverage"] = (1.0 - found["bridges/reached"]) / LOST
    if "bridges/spread" in found and off >= BRIDGES and not latent:
        scores["averaging"] = _over(STILL, found["bridges/spread"])
    if "capacity/needed_lipschitz" in found:
        scores["capacity"] = _over(found["capacity/needed_lipschitz"], found["capacity/lipschitz"])
    if "bridges/off_support" in found:
        scores["bridges"] = off / BRIDGES
    if "drift/relative" in found:
        strayed = min(found["drift/relative"] / STRAYED, found.get("drift/growth", _CAP) / GROWN)
        scores["drift"] = max(strayed, found.get("drift/switches", 0.0) / SWITCHED)
    return {name: min(score, _CAP) for name, score in scores.items()}


def _information(found: Mapping[str, float]) -> list[float]:
    floor = found.get("information/floor_10", 0.0)
    told = []
    if "information/mutual" in found:
        told.append(_over(floor, found["information/mutual"]))
    if "information/mode_information" in found:
        told.append(_over(0.5 * floor, found["information/mode_information"]))
    if "information/z_advantage" in found:
        told.append(_over(IGNORED, found["information/z_advantage"]))
    return told


def _over(value: float, by: float) -> float:
    """value / by, at most `_CAP`; 0 where there is no value."""
    return min(value / by, _CAP) if by > value / _CAP else (_CAP if value > 0 else 0.0)


def _text(mechanism: str, found: Mapping[str, float], policy_name: str, several: bool) -> str:
    figures = [f"{name} {found[name]:.3g}" for name in _FIGURES[mechanism] if name in found]
    shown = f" ({', '.join(figures)})" if figures else ""
    if not several and mechanism == "none":
        measured = _modes(found)
        why = f"{measured:.3g} demonstrated modes" if measured else "no figures about modes"
        return (
            f"{policy_name}: none. There is {why} where the policy was looked at, so that nothing multimodal "
            f"can be seen to fail{shown}. A deterministic regression may do as well."
        )
    return f"{policy_name}: {mechanism}. That is, {_MEANING[mechanism]}{shown}. {_REMEDY[mechanism]}"
