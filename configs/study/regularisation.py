"""The weight of posterior-prior regularisation x prior: information, its floor and ceiling, and coverage.

Run:     python -m mmbc_jax.study --config configs/study/regularisation.py --config.scale=small --workdir runs/beta
"""

import dataclasses

import numpy as np

from mmbc_jax.core.config import plugin
from mmbc_jax.ops.intervals import t_interval
from mmbc_jax.study.claims import LEVEL, custom, gap, interval_bound, together, trend
from mmbc_jax.study.family_settings import open_loop
from mmbc_jax.study.plan import Change, Check, Claim, Plot, Results, Study, Variant, interval

K = 8
COLUMNS = (
    ("success_rate", "SR", 3),
    ("valid_mode_coverage", "valid cov.", 2),
    ("information/rate", "E KL (nats)", 3),
    ("information/mode_information", "I(M;Z|S) low.", 3),
    ("information/floor_10", "floor B_.1", 2),
    ("information/beta_limit", "C / B_.1", 4),
    ("information/active_units", "active", 1),
    ("information/z_advantage", "z adv.", 2),
    ("coverage/above", "prior > 1 %", 2),
    ("coverage/gap", "coverage gap", 2),
    ("coverage/missed", "missed", 1),
)
# C / B_.1 is about .18 here, and an ideal binary encoder gives its mode up at a third of it: the grid is fine there,
# so that a crossing can be told from either. Seed 91 was looked at to place it and is not to count.
BETAS = {
    "small": "0.001,0.01,0.02,0.03,0.04,0.06,0.09,0.18",
    "full": "0.001,0.003,0.01,0.02,0.03,0.04,0.05,0.06,0.075,0.09,0.12,0.18,0.3,1,10",
}
INFORMATION, FLOOR, LIMIT = "information/mode_information", "information/floor_10", "information/beta_limit"
WEAK = "weak: a null passed in 6 to 8 % of draws"
FALLS = Change(
    2,
    WEAK,
    "the ends differ by more than log K nats in a permutation test",
    "the order of four means says little; log K is what the modes are worth",
)
CROSSING = Change(
    2,
    "no null, on a grid of decades: modes were told apart at .01 and lost at .1, around C / B = .0122. And C "
    "was in units of actions, where the loss compares paths, in which C / B is .18; against .0122 a finer grid fails",
    "C is in the units of the loss; each seed's crossing of the floor is interpolated on a grid that is fine around "
    "C / 3 B, and the interval over seeds of its ratio to C / B lies below 1",
    "the claim is about a threshold and has to say where it is",
)
WON_BACK = Change(
    2,
    "no null; the best of several priors was chosen after the fact",
    "the learned mixture, and no other, exceeds N(0, I) by .3 in a permutation test and succeeds in more than .9",
    "the prior that is claimed for is named in advance",
)
WON_BACK_WAE = (
    Change(
        2,
        "one learned Gaussian does not win back what N(0, I) loses",
        "15e36ef: a learned mixture took the place of latent_flow among the priors; the best learned prior "
        "still has to close half; the claim on the CVAE at the least beta was added",
        "the study was to ask whether a learned prior wins it back, and a learned mixture does",
    ),
    dataclasses.replace(WON_BACK, version=3),
)


def crossings(results: Results, prior: str) -> np.ndarray:
    """[seeds] log of beta / (C / B) where a seed's modes stop being told apart.

    The crossing of information and floor is interpolated linearly in log beta between the two points around it; the
    first point where nothing is told apart even there, infinity where all is up to the last.
    """
    entries = sorted(results.where(family="cvae", prior=prior).entries, key=lambda entry: entry.tags["beta"])
    if len(entries) < 2:
        return np.zeros(0)
    limits = entries[0].together(LIMIT)[:, 0]  # of the freest model
    rows = [entry.together(INFORMATION, FLOOR) for entry in entries]
    if not limits.size or any(len(row) != limits.size for row in rows):
        return np.zeros(0)
    margins = np.stack([row[:, 0] - row[:, 1] for row in rows], axis=1)
    logs = np.log([entry.tags["beta"] for entry in entries])
    found = []
    for margin, limit in zip(margins, limits, strict=True):
        lost = np.flatnonzero(margin < 0)
        i = int(lost[0]) if lost.size else -1
        share = margin[i - 1] / (margin[i - 1] - margin[i]) if i > 0 else 0.0
        crossing = np.inf if i < 0 else logs[0] if i == 0 else logs[i - 1] + share * (logs[i] - logs[i - 1])
        found.append(crossing - np.log(limit))
    return np.array(found)


def threshold(prior: str, limit: float, below: bool) -> Claim:
    """The crossing lies below, or above, `limit` C / B: the interval over seeds of its log."""

    def judge(results: Results) -> Check:
        ratios = crossings(results, prior)
        if ratios.size < 2:
            return Check(None, "no figures")
        if not np.isfinite(ratios).all():
            return Check(False, "some seed tells the modes apart at every beta")
        low, high = t_interval(ratios, LEVEL)
        ends = interval(np.exp(ratios), (float(np.exp(low)), float(np.exp(high))))
        holds = high < np.log(limit) if below else low > np.log(limit)
        return Check(bool(holds), f"beta at the crossing over C / B: {ends}")

    def null(results: Results, rng: np.random.Generator) -> Results:
        """Crossings are at the limit; seeds scatter as they do, or by a fifth of a step of the grid."""
        ratios = crossings(results, prior)
        scatter = max(float(ratios.std(ddof=1)), 0.2 * np.log(1.4))
        own = results.where(family="cvae", prior=prior)
        freest = min(own.entries, key=lambda entry: entry.tags["beta"])
        away = ratios - np.log(limit) + rng.normal(0.0, scatter, ratios.size)
        values = freest.per_seed(LIMIT) * np.exp(away)
        return Results(
            dataclasses.replace(e, metrics={**e.metrics, LIMIT: {"per_seed": values.tolist()}})
            if e is freest
            else e
            for e in results.entries
        )

    where = "no later than at C / B_rho" if below else f"and no earlier than at {limit:g} of C / B_rho"
    statement = f"the latent stops telling modes apart {where} ({prior} prior)"
    return custom(statement, judge, null, f"it stops at {limit:g} C / B_rho on average")


def won_back(family: str, **tags: float) -> Claim:
    """The learned mixture wins back what N(0, I) loses."""
    mixture, normal = (
        {"family": family, "prior": prior, **tags} for prior in ("conditional_mixture", "normal")
    )
    where = "without any KL (WAE)" if family == "wae" else "at the least beta (CVAE)"
    return together(
        f"{where}, a learned mixture succeeds in more than .9 and exceeds N(0, I) by .3",
        interval_bound("", "success_rate", ">", 0.9, **mixture),
        gap("", "success_rate", mixture, normal, margin=0.3),
    )


def make(family: str, prior: str, grid: str, **policy: object) -> Variant:
    config = open_loop("radial", K, family, **policy)
    config.prior = plugin("prior", prior)
    config.sweep.grid = grid
    config.bc.update({"steps": 1500, "batch_size": 128})
    config.diagnostics = ("information", "coverage", "bridges")
    return Variant(f"{family}-{prior}", {"family": family, "prior": prior}, config)


def get_studies(scale: str) -> list[Study]:
    beta = f"policy.beta={BETAS[scale]}"
    priors = ("normal", "conditional", "conditional_mixture")
    if scale == "full":
        priors += ("vamp", "spline")
    variants = [make("cvae", prior, beta) for prior in priors]
    weight = "policy.match_weight=1,10" if scale == "full" else ""
    variants += [make("wae", prior, weight) for prior in ("normal", "spline", "conditional_mixture")]
    least = float(BETAS[scale].split(",")[0])
    free = {"match_weight": 1.0} if weight else {}
    at = {"family": "cvae", "beta": least}
    claims = [
        trend(f"the rate of the latent falls with beta, by more than log K ({prior} prior)", "information/rate",
              "beta", -1, margin=float(np.log(K)), slack=0.05, family="cvae", prior=prior).changed(FALLS)
        for prior in priors
    ]  # fmt: skip
    for prior in priors:
        claims += [threshold(prior, 1.0, True).changed(CROSSING), threshold(prior, 0.1, False)]
    claims += [
        won_back("cvae", beta=least).changed(WON_BACK),
        won_back("wae", **free).changed(*WON_BACK_WAE),
        gap("one learned Gaussian does not: the learned mixture exceeds it by .2 at the least beta (CVAE)",
            "success_rate", {**at, "prior": "conditional_mixture"}, {**at, "prior": "conditional"}, margin=0.2),
    ]  # fmt: skip
    plots = [
        Plot(
            "information/rate",
            "beta",
            "prior",
            "E KL (nats)",
            True,
            {"family": "cvae"},
            {"log K": float(np.log(K))},
        ),
        Plot("success_rate", "beta", "prior", "success rate", True, {"family": "cvae"}),
    ]
    question = (
        f"Radial, K = {K}. The KL weight beta of a CVAE bounds the rate of its latent by C / beta; telling K modes "
        "apart with error rho needs the Fano floor B_rho. And where little or nothing forces the posterior onto "
        "the prior (small beta, WAE), does the deployed prior cover the latent regions of the modes? One learned "
        "Gaussian has no more pieces than N(0, I); a learned mixture (32 components, K not given) has."
    )
    return [Study("regularisation", question, variants, COLUMNS, claims, plots)]
