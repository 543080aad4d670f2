r"""Which mechanism makes a policy fail on multimodal data, from the figures of the instruments.

Each mechanism gets a score, the evidence over its threshold, so that 1 is where it starts to count:

  information  told too little: B_.1 / I(A; Z|S), B_.1 / 2 over the classifier's information (a loose lower
               bound, hence the half), and `IGNORED` / z-advantage; the largest
  averaging    `STILL` / spread, without a latent and off-support: one answer, between the demonstrated ones.
               Where success is lost and samples hardly differ (or nobody drew them), also the episodes'
               `drift/middle` / `MIDDLE`: chunks may be too short for their modes to be apart
  coverage     gap / `GAP`, or the number of missed modes; without a latent and for bases other than N(0, I),
               (1 - served) / `LOST`: the base has no region for the modes that nothing comes near
  capacity     needed L / sampled L: the transport is too smooth to serve the demonstrated modes
  bridges      mass between the modes / limit
  dispersion   mass around the modes / limit: over-dispersed inside a mode
  drift        the smaller of relative deviation / `STRAYED` and growth / `GROWN`, or switches / `SWITCHED`

Masses are those beyond what the same rule finds among the demonstrations. The limit is `BRIDGES`; where success is
lost, the mass that would explain a third of the loss, if that is less. Success is *lost* below `HELD` of that of the
demonstrations (`outcome/success_demos`; 1 where it is unknown: scripted experts record successes only).

All but drift are about answers at demonstrated observations. They are asked in this order, causes before
symptoms (a collapsed latent also averages; a prior beside the latents also bridges), and only where those
answers fail at all: off-support mass reaches the limit or a share of `LOST` of the modes is lost. The first five
need several demonstrated modes, at a *share* `SEVERAL` of the observations that were looked at: the mean number of
modes is small wherever most observations leave no choice, as most do. They also need mass between modes, or modes
that nothing comes near. Drift is for policies whose answers are right and whose episodes stray all the same.

"none" is said where that was measured and success is not lost. A failure without a mechanism is "unexplained";
where the figures are absent that could name one, or could tell that there is none, the word is "unmeasured".

Hypotheses: those of the instruments; absent figures give no score. Sampled Lipschitz constants are lower
bounds, so "capacity" says that no steepness was seen, not that there is none. One mechanism is named; the
scores show the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property

from mmbc_jax.diagnostics._remedies import FIGURES, MEANING, remedy
from mmbc_jax.diagnostics._words import in_words

SEVERAL = 0.1  # share of observations with two modes or more
HELD = 0.95  # of the demonstrations' success
BRIDGES, LEAST_BRIDGES = 0.1, 0.02  # the latter is what 2,048 samples tell from none
EXPLAINS = 1 / 3  # of a loss of success
LOST = 0.1
GAP = 0.25  # well above the sampling noise of two histograms (see `instruments.coverage`)
IGNORED = 0.02
STILL = 0.1
MIDDLE = 0.8
STRAYED, GROWN, SWITCHED = 0.1, 2.0, 0.5
_CAP = 100.0  # of a score: evidence over next to nothing

MECHANISMS = tuple(MEANING)
_ORDER = ("information", "averaging", "coverage", "capacity", "bridges")
_SHARES = ("bridges/multimodal", "separation/path_multimodal", "separation/multimodal")
_COUNTS = ("bridges/modes", "separation/path_modes", "separation/modes")
_WANTED = {"success": "outcome/success", "answers": "bridges/off_support", "episodes": "drift/relative"}


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


def verdict(
    found: Mapping[str, float], policy_name: str, capabilities: frozenset[str] = frozenset()
) -> Verdict:
    """Names the mechanism behind a policy's failure by the rules of the module docstring.

    Args:
      found: figures of the instruments, `group/name` to finite float, and `outcome/success` of the episodes.
      policy_name: for the text.
      capabilities: of the policy, so that the remedy is one that it has.

    Returns:
      The verdict.
    """
    evidence = Evidence(found)
    mechanism = evidence.mechanism()
    return Verdict(mechanism, evidence.scores, _text(mechanism, evidence, policy_name, capabilities))


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What figures say for and against each mechanism.

    Attributes:
      found: the figures.
    """

    found: Mapping[str, float]

    @property
    def loss(self) -> float | None:
        """Success lost as a share of that of the demonstrations; None where it was not measured."""
        if "outcome/success" not in self.found:
            return None
        demos = self.found.get("outcome/success_demos", 1.0)
        return max(1.0 - self.found["outcome/success"] / demos, 0.0) if demos > 0 else 0.0

    @property
    def lost(self) -> bool:
        """Whether success is known to be lost."""
        return (self.loss or 0.0) > 1.0 - HELD

    @property
    def limit(self) -> float:
        """Off-support mass that counts."""
        return min(BRIDGES, max(EXPLAINS * (self.loss or 0.0), LEAST_BRIDGES)) if self.lost else BRIDGES

    @property
    def measured(self) -> bool:
        """Whether answers at demonstrated observations were looked at."""
        return "bridges/off_support" in self.found

    @cached_property
    def several(self) -> bool | None:
        """Whether several modes are demonstrated at enough observations; None where nobody counted."""
        # where a way of looking gives no share, a mean of 1 + share is the least that such a share makes of the count
        shares = [
            self.found[share] if share in self.found else self.found[count] - 1.0
            for share, count in zip(_SHARES, _COUNTS, strict=True)
            if share in self.found or count in self.found
        ]
        # the most of them: modes that one way of looking cannot tell apart (raw chunks with noise) may be there
        return max(shares) >= SEVERAL - 1e-9 if shares else None

    @cached_property
    def masses(self) -> tuple[float, float, float]:
        """(off-support, between, around) beyond that of the demonstrations; without the parts all is between."""
        off = self.found.get("bridges/off_support", 0.0)
        excess = max(off - self.found.get("bridges/off_support_demos", 0.0), 0.0)
        between = self.found.get("bridges/between", off) / off if off > 0 else 0.0
        return excess, between * excess, (1.0 - between) * excess

    @property
    def served(self) -> float:
        """Share of the modes that samples come near."""
        return self.found.get("bridges/served", self.found.get("bridges/reached", 1.0))

    @property
    def middling(self) -> float:
        """How far failing episodes of a policy whose samples hardly differ go down the middle, over `MIDDLE`."""
        one = self.still if "bridges/spread" in self.found else bool(self.several)
        return self.found.get("drift/middle", 0.0) / MIDDLE if self.lost and one else 0.0

    @property
    def still(self) -> bool:
        """Whether samples hardly differ."""
        return self.found.get("bridges/spread", 1.0) < STILL

    def mechanism(self) -> str:
        """The one to name."""
        answer, drifts = self._answer(), self.scores.get("drift", 0.0) >= 1.0
        if answer:
            return answer
        if drifts and (self.measured or not self.several):
            return "drift"
        if self.lost:
            return "unexplained" if self.measured else "unmeasured"
        # success alone is enough only where one way of doing it is all there is
        known = self.measured or (self.loss is not None and self.several is False)
        return "none" if known else "unmeasured"

    def _answer(self) -> str:
        """The mechanism that makes answers at demonstrated observations fail; empty where they do not."""
        off, between, around = self.masses
        named = [name for name in _ORDER if self.scores.get(name, 0.0) >= 1.0]
        if self.middling >= 1.0 and named[0] in ("information", "averaging"):
            return named[0]
        if not self.measured:
            return ""
        leaves = off >= self.limit
        missed = 1.0 - self.served >= LOST
        if self.several and (between >= self.limit or missed or (leaves and between >= around)):
            return named[0] if named else ("coverage" if missed else "bridges")
        if leaves and around > between and not self.still:
            return "dispersion"
        if self.several and 1.0 - self.found.get("bridges/reached", 1.0) >= LOST:
            return "coverage"
        return "unexplained" if leaves else ""

    @cached_property
    def scores(self) -> dict[str, float]:
        """Evidence over threshold, of the mechanisms whose figures exist."""
        found, scores = self.found, {}
        off, between, around = self.masses
        if told := _information(found):
            scores["information"] = max(told)
        if "coverage/gap" in found:
            scores["coverage"] = max(found["coverage/gap"] / GAP, found["coverage/missed"])
        elif "capacity/needed_lipschitz" not in found and (
            "bridges/served" in found or ("bridges/reached" in found and off < self.limit)
        ):
            scores["coverage"] = (1.0 - self.served) / LOST
        averaged = [self.middling] if self.middling else []
        if off >= self.limit and "bridges/spread" in found and "information/error_posterior" not in found:
            averaged.append(_over(STILL, found["bridges/spread"]))
        if averaged:
            scores["averaging"] = max(averaged)
        if "capacity/needed_lipschitz" in found:
            scores["capacity"] = _over(found["capacity/needed_lipschitz"], found["capacity/lipschitz"])
        if self.measured:
            scores |= {"bridges": between / self.limit, "dispersion": around / self.limit}
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


def _text(mechanism: str, evidence: Evidence, policy_name: str, capabilities: frozenset[str]) -> str:
    found = evidence.found
    figures = [in_words(name, found[name]) for name in FIGURES[mechanism] if name in found]
    shown = f": {', '.join(figures)}" if figures else ""
    missing = [word for word, name in _WANTED.items() if name not in found]
    said = [f"{policy_name}: {mechanism}.", f"That is, {MEANING[mechanism]}{shown}."]
    if evidence.lost and "outcome/success" not in FIGURES[mechanism]:
        said.append(f"{in_words('outcome/success', found['outcome/success'])}.")
    if evidence.several is False:
        said.append("There is one mode where the policy was looked at, so that nothing multimodal can fail.")
    if missing:
        said.append(f"Not measured: {', '.join(missing)}.")
    traits = capabilities | ({"still"} if evidence.still else set())
    traits |= {"beta"} if "information/beta" in found else set()
    return " ".join([*said, remedy(mechanism, traits)])
